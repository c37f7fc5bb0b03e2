"""Whether two entries are the same measurement of perhaps different models, and what differs between them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edgebert.report.compare.pairing import Pair, is_tuned
from edgebert.report.compare.sameness import repeated_process
from edgebert.report.entry import Entry
from edgebert.report.environment import Environment
from edgebert.report.report import Report

MACHINE = ("cpu", "isa", "cores", "machine", "board", "cpu_quota")
"""Fields of the environment that identify a machine; a field that one side does not know does not count."""
MACHINE_STATE = (
    "system",
    "governor",
    "energy_preference",
    "turbo",
    "max_mhz",
    "core_kinds",
    "threads_per_core",
    "isolated",
    "autogroup",
    "huge_pages",
    "boot_options",
    "virtual",
    "clock",
    "memory_bytes",
    "memory_limit_bytes",
)
"""Fields of the environment for which a difference is noted."""
LOAD = ("scenario", "streams", "instances", "rate", "lengths", "driver")
"""Fields of the setting that both sides have to share."""


def other_machine(ref: Environment, changed: Environment) -> str | None:
    """How the machines differ; None where they do not."""
    fields = list(_differing(ref, changed, MACHINE))
    return f"another machine: {', '.join(fields)}" if fields else None


def obstacles(ref: Report, changed: Report, pair: Pair, *, across_devices: bool) -> tuple[str, ...]:
    """Why the times of two entries cannot be compared; empty where they can."""
    machine = None if across_devices else other_machine(ref.environment, changed.environment)
    reasons = [machine] if machine else []
    reasons += [f"other service: {text}" for text in _differing(pair.ref.target, pair.changed.target, _service(pair))]
    reasons += [f"other load: {text}" for text in _differing(pair.ref.setting, pair.changed.setting, LOAD)]
    queries = _other_queries(pair.ref, pair.changed)
    return (*reasons, *([queries] if queries else []), *_repeats(pair))


def _repeats(pair: Pair) -> Iterator[str]:
    """Sides on which one process counts as two, which makes intervals too narrow."""
    for side, entry in (("REF", pair.ref), ("CHANGED", pair.changed)):
        if rounds := repeated_process(entry):
            yield f"{side} holds the samples of one process twice ({rounds})"


def accuracy_obstacle(ref: Report, changed: Report, pair: Pair) -> str | None:
    """Why the answers of two entries cannot be compared; None where they can."""
    if ref.task != changed.task:
        return f"another task: {ref.task} -> {changed.task}"
    if ref.labels != changed.labels:
        return "other labels"
    if ref.eval_data != changed.eval_data or ref.right_answers != changed.right_answers:
        return "other eval data"
    counts = [{item.examples for item in entry.statistics.values()} for entry in (pair.ref, pair.changed)]
    if counts[0] != counts[1]:
        return "not the same number of answers"
    return None


def differences(ref: Report, changed: Report, pair: Pair) -> tuple[str, ...]:
    """Intended changes that the reports record: model, tokenizer, runtime, tuning, packages."""
    ours, theirs = pair.ref, pair.changed
    changes = [] if ours.artifact == theirs.artifact else [f"model {ours.artifact[:12]} -> {theirs.artifact[:12]}"]
    changes += [] if ours.stage == theirs.stage else [f"made by {ours.stage or 'nothing'} -> {theirs.stage or 'nothing'}"]
    changes += [] if ours.tokenizer == theirs.tokenizer else ["tokenizer"]
    changes += [_other_lengths(ours, theirs)] if _same_texts(ours, theirs) and _other_tokens(ours, theirs) else []
    changes += list(_differing(ours.target, theirs.target, ("runtime", "isa", *_chosen(pair))))
    if ours.target.runtime == theirs.target.runtime:
        changes += list(_differing(ours.target.options, theirs.target.options, tuple(type(ours.target.options).model_fields)))
    if ours.target.runtime == theirs.target.runtime and ours.target.bucket != theirs.target.bucket:
        changes.append(f"length_bucket {ours.target.bucket} -> {theirs.target.bucket}")
    packages = sorted({*ref.environment.packages, *changed.environment.packages})
    for name in packages:
        before, after = (report.environment.packages.get(name, "none") for report in (ref, changed))
        changes += [] if before == after else [f"{name} {before} -> {after}"]
    python = list(_differing(ref.environment, changed.environment, ("python",)))
    return tuple(changes + python)


def notes(ref: Report, changed: Report, pair: Pair) -> tuple[str, ...]:
    """Differences that do not prevent a comparison but may explain its result."""
    remarks = [f"{text}, which may be the reason" for text in _differing(ref.environment, changed.environment, MACHINE_STATE)]
    remarks += _variables(ref.environment, changed.environment)
    for name, entry in (("REF", pair.ref), ("CHANGED", pair.changed)):
        unsettled = sum(item.stable is False for item in entry.rounds)
        remarks += (
            [f"{unsettled} of {len(entry.rounds)} processes of {name} had not settled after warm-up"] if unsettled else []
        )
    pinned = [any(item.pinned for item in entry.rounds) for entry in (pair.ref, pair.changed)]
    remarks += ["only one side kept to its own cores"] if pinned[0] != pinned[1] else []
    isas = [entry.isas() for entry in (pair.ref, pair.changed)]
    if all(isas) and isas[0] != isas[1]:
        remarks.append(f"INT8 could use {' or '.join(isas[0])} -> {' or '.join(isas[1])}, which may be the reason")
    if pair.ref.setting.queries is None or pair.changed.setting.queries is None:
        remarks.append("a report does not say which texts were asked")
    return tuple(remarks)


def _service(pair: Pair) -> tuple[str, ...]:
    """Fields that two targets have to share. The length bucket is not one: it is the runtime's own, or chosen for it."""
    return tuple(name for name in ("threads", "batch", "padding") if name not in _chosen(pair))


def _chosen(pair: Pair) -> tuple[str, ...]:
    """`threads`, where a search of the same run chose fewer for the candidate than its target has for FP32."""
    return ("threads",) if pair.one_run and is_tuned(pair.changed, "threads") else ()


def _other_queries(ref: Entry, changed: Entry) -> str | None:
    """How the queries differ; None where both sides served the same texts.

    Lengths are compared where a report has no hash of its queries. Other lengths of the same texts are part of the model where
    the tokenizers differ; otherwise one side was given other queries.
    """
    if None not in (ref.setting.queries, changed.setting.queries):
        if ref.setting.queries != changed.setting.queries:
            return (
                "other queries: not the same texts in the same order; measure both with the same --queries, --seed and --data"
            )
        known = ref.tokenizer == changed.tokenizer and ref.target.padding == changed.target.padding
        return f"other lengths: {_other_lengths(ref, changed)}" if known and _other_tokens(ref, changed) else None
    if ref.target.padding == changed.target.padding and _other_tokens(ref, changed):
        return f"other queries: {_other_lengths(ref, changed)}; measure both with the same --queries, --seed and --data"
    return None


def _same_texts(ref: Entry, changed: Entry) -> bool:
    return (
        ref.setting.queries is not None
        and ref.setting.queries == changed.setting.queries
        and ref.tokenizer != changed.tokenizer
    )


def _other_tokens(ref: Entry, changed: Entry) -> bool:
    """Whether lengths differ by more than padding explains; False where one side has no lengths."""
    sides = [_lengths(entry) for entry in (ref, changed)]
    if not all(map(len, sides)):
        return False
    shares = np.linspace(0, 1, 101)
    ours, theirs = (np.quantile(side, shares, method="inverted_cdf") for side in sides)
    return bool(np.max(np.abs(ours - theirs)) >= max(ref.target.bucket, changed.target.bucket))


def _other_lengths(ref: Entry, changed: Entry) -> str:
    """`lengths of 12 -> 128 tokens`: medians, or means where the medians are equal."""
    sides = [_lengths(entry) for entry in (ref, changed)]
    middle = [float(np.median(side)) for side in sides]
    if middle[0] == middle[1]:
        middle = [round(float(np.mean(side)), 1) for side in sides]
    return f"lengths of {middle[0]:g} -> {middle[1]:g} tokens"


def _lengths(entry: Entry) -> npt.NDArray[np.int64]:
    """Tokens of all queries of all processes, of shape (queries,)."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *(item.lengths.values for item in entry.rounds)])


def _variables(ref: Environment, changed: Environment) -> list[str]:
    """Environment variables that differ."""
    before, after = ref.variables, changed.variables
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}, which may be the reason" for name in names]


def _differing(ref: object, changed: object, names: tuple[str, ...]) -> Iterator[str]:
    """`name before -> after` for each field that differs; a field that one environment does not know does not differ."""
    for name in names:
        before, after = getattr(ref, name), getattr(changed, name)
        unknown = isinstance(ref, Environment) and (None in (before, after) or (name == "core_kinds" and () in (before, after)))
        if before != after and not unknown:
            yield f"{name} {_text(before)} -> {_text(after)}"


def _text(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else "none" if value is None else str(value)
