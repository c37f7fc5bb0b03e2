"""Which entries of two reports belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.measure.latency import Round
from edgebert.report import Entry, Report


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
    """Entries with a counterpart, and those without."""

    pairs: tuple[Pair, ...]
    missing: tuple[Entry, ...] = ()
    extra: tuple[Entry, ...] = ()


def match(ref: Report, changed: Report) -> Matched:
    """By model, setting and the service that the target gives; then by model alone where that leaves one of each.

    Where each report has a single model, its name does not count.
    """
    nameless = all(len({entry.name for entry in report.entries}) == 1 for report in (ref, changed))
    one_run = ref is changed or (ref.sha256 is not None and ref.sha256 == changed.sha256)
    left, right, pairs = list(ref.entries), list(changed.entries), []
    for exact in (True, False):
        for entry in list(left):
            alike = [other for other in right if _key(other, exact, nameless) == _key(entry, exact, nameless)]
            rivals = [other for other in left if _key(other, exact, nameless) == _key(entry, exact, nameless)]
            if alike and (exact or len(alike) == len(rivals) == 1):
                pairs.append(Pair(entry, alike[0], one_run))
                left.remove(entry)
                right.remove(alike[0])
    order = {id(entry): place for place, entry in enumerate(ref.entries)}
    return Matched(tuple(sorted(pairs, key=lambda pair: order[id(pair.ref)])), tuple(left), tuple(right))


def baselines_and_candidates(report: Report) -> Matched:
    """Each candidate with its baseline, of the same setting where there is one."""
    pairs, alone = [], []
    for entry in report.candidates():
        baseline = _baseline(report, entry)
        pairs += [Pair(baseline, entry, one_run=True)] if baseline else []
        alone += [] if baseline else [entry]
    return Matched(tuple(pairs), extra=tuple(alone))


def _baseline(report: Report, entry: Entry) -> Entry | None:
    """FP32 on the same target, or whatever else was made the baseline under the same load."""
    under_load = [other for other in report.entries if other.role == "baseline" and _load(other) == _load(entry)]
    own = [other for other in under_load if other.target == entry.target.for_baseline()]
    usual = report.baseline_of(entry)
    return next(iter([*own[:1], *(other for other in under_load if other is usual), *under_load]), usual)


def _load(entry: Entry) -> tuple[object, ...]:
    return entry.setting.name, entry.target.threads, entry.target.batch


def _key(entry: Entry, exact: bool, nameless: bool) -> tuple[object, ...]:
    model = () if nameless else (entry.name,)
    target = entry.target
    service = (target.runtime, target.threads, target.batch, target.padding, target.bucket, entry.setting.name)
    return (*model, *service) if exact else model


def _by_number(entry: Entry) -> dict[int, Round] | None:
    """Rounds with at least one query, by their number; None where two have the same."""
    rounds: Sequence[Round] = [item for item in entry.rounds if len(item.latencies_ns)]
    found = {item.round: item for item in rounds}
    return found if len(found) == len(rounds) else None
