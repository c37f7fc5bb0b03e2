"""Pairs of entries: those of two reports that belong together, and each candidate of one report with its baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgebert.errors import InputError
from edgebert.report.entry import Entry
from edgebert.report.report import Report
from edgebert.report.rounds import Round

Key = tuple[object, ...]


@dataclass(frozen=True)
class Pair:
    """An entry and its counterpart."""

    ref: Entry
    changed: Entry
    one_run: bool = False
    """Whether one run measured both."""

    def rounds(self) -> tuple[tuple[Round, ...], tuple[Round, ...]] | None:
        """The rounds of both in the same order, where they took turns in one run; None where they did not."""
        if not self.one_run:
            return None
        ours, theirs = (_by_number(entry) for entry in (self.ref, self.changed))
        if ours is None or theirs is None or set(ours) != set(theirs):
            return None
        return tuple(ours[number] for number in sorted(ours)), tuple(theirs[number] for number in sorted(ours))


@dataclass(frozen=True)
class Matched:
    """Entries with a counterpart (pairs), and entries of either side without one."""

    pairs: tuple[Pair, ...]
    missing: tuple[Entry, ...] = ()
    extra: tuple[Entry, ...] = ()


def require_distinct(report: Report, name: str, *, within: bool = False) -> None:
    """Checks that no two entries of a report are one model under one load: either could be the counterpart.

    Args:
        name: what the report is called in the message.
        within: whether its candidates are compared with its baselines, of which each has to be one.

    Raises:
        InputError: two are.
    """

    entries = [entry for entry in report.entries if entry.role == "baseline" or not within]
    for group in _grouped(entries, _service, nameless=False).values():
        if len(group) > 1:
            raise InputError(
                f"{name} has {len(group)} entries {group[0].name} ({group[0].target.name}, {group[0].setting.name}); which of "
                "them is meant is not known.",
                hint="Measure each model once in a report, or give them different names.",
            )


def match(ref: Report, changed: Report) -> Matched:
    """Pairs the entries of two reports.

    First by model, setting, runtime, threads, batch, padding and length bucket. Entries that are left are paired without
    the length bucket, and then by model alone, where exactly one is left on each side. Names do not count where each
    report has a single model.
    """
    nameless = all(len({entry.name for entry in report.entries}) == 1 for report in (ref, changed))
    one_run = ref is changed or (ref.sha256 is not None and ref.sha256 == changed.sha256)
    left, right, pairs = list(ref.entries), list(changed.entries), list[Pair]()
    for key in (_service, _service_of_any_lengths, _model):
        ours, theirs = (_grouped(side, key, nameless) for side in (left, right))
        for group, others in ((group, theirs.get(name, [])) for name, group in ours.items()):
            if key is _service or len(group) == len(others) == 1:
                pairs += [Pair(entry, other, one_run) for entry, other in zip(group, others, strict=False)]
        taken = {id(entry) for pair in pairs for entry in (pair.ref, pair.changed)}
        left, right = ([entry for entry in side if id(entry) not in taken] for side in (left, right))
    order = {id(entry): index for index, entry in enumerate(ref.entries)}
    return Matched(tuple(sorted(pairs, key=lambda pair: order[id(pair.ref)])), tuple(left), tuple(right))


def baselines_and_candidates(report: Report) -> Matched:
    """Each candidate with its baseline, under the same load where there is one. `missing` are candidates without any."""
    by_load: dict[Key, list[Entry]] = {}
    for entry in report.entries:
        if entry.role == "baseline":
            by_load.setdefault(load_of(entry), []).append(entry)
    pairs, alone = list[Pair](), list[Entry]()
    for entry in report.candidates():
        baseline = _baseline(report, entry, by_load.get(load_of(entry), []))
        if baseline:
            pairs.append(Pair(baseline, entry, one_run=True))
        else:
            alone.append(entry)
    return Matched(tuple(pairs), missing=tuple(alone))


def baseline_under_load(report: Report, entry: Entry) -> Entry | None:
    """The baseline that `baselines_and_candidates` puts beside a candidate; None for others."""
    if entry.role != "candidate":
        return None
    load = load_of(entry)
    return _baseline(report, entry, [other for other in report.entries if other.role == "baseline" and load_of(other) == load])


def load_of(entry: Entry) -> tuple[str, int, int]:
    """The load that a baseline has to share: setting, threads and batch."""
    return entry.setting.name, entry.target.threads, entry.target.batch


def is_tuned(entry: Entry, setting: str) -> bool:
    """Whether a search chose this setting of the entry's runtime."""
    return entry.search is not None and setting in entry.search.tuning


def _baseline(report: Report, entry: Entry, under_load: Sequence[Entry]) -> Entry | None:
    """FP32 on the same target, or else any baseline under the same load.

    Where a search chose the threads, it is FP32 on the recipe's target, from which the search started.
    """
    usual = report.baseline_of(entry)
    if usual and is_tuned(entry, "threads") and usual.setting.name == entry.setting.name:
        return usual
    plain = entry.target.for_baseline() if under_load else None
    own = [other for other in under_load if other.target == plain]
    return next(iter([*own[:1], *(other for other in under_load if other is usual), *under_load]), usual)


def _grouped(entries: Sequence[Entry], key: Callable[[Entry, bool], Key], nameless: bool) -> dict[Key, list[Entry]]:
    groups: dict[Key, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry, nameless), []).append(entry)
    return groups


def _model(entry: Entry, nameless: bool) -> Key:
    return () if nameless else (entry.name,)


def _service_of_any_lengths(entry: Entry, nameless: bool) -> Key:
    target = entry.target
    return (*_model(entry, nameless), target.runtime, target.threads, target.batch, target.padding, entry.setting.name)


def _service(entry: Entry, nameless: bool) -> Key:
    return (*_service_of_any_lengths(entry, nameless), entry.target.bucket)


def _by_number(entry: Entry) -> dict[int, Round] | None:
    """Rounds with at least one query, by their number; None where two share a number."""
    rounds: Sequence[Round] = [item for item in entry.rounds if len(item.latencies_ns)]
    numbered = {item.round: item for item in rounds}
    return numbered if len(numbered) == len(rounds) else None
