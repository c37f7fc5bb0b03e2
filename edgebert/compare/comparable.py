"""Whether two entries are the same measurement of perhaps different models, and what differs between them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgebert.compare.pairing import Pair
from edgebert.measure.environment import Environment
from edgebert.report import Entry, Report
from edgebert.runtimes.target import TUNED

MACHINE = ("cpu", "isa", "cores", "machine", "board", "cpu_quota")
"""Fields of the environment that make a machine; what one side does not know does not count."""
MACHINE_STATE = ("system", "governor", "turbo", "threads_per_core", "virtual", "clock", "memory_bytes", "memory_limit_bytes")
"""Fields that a note tells of where they differ."""
LOAD = ("scenario", "streams", "instances", "rate", "lengths", "driver")


def other_machine(ref: Environment, changed: Environment) -> str | None:
    """How the machines differ; None where they do not."""
    found = list(_differing(ref, changed, MACHINE))
    return f"another machine: {', '.join(found)}" if found else None


def obstacles(ref: Report, changed: Report, pair: Pair, *, across_devices: bool) -> tuple[str, ...]:
    """Why the times of two entries cannot be compared; empty where they can."""
    machine = None if across_devices else other_machine(ref.environment, changed.environment)
    found = [machine] if machine else []
    found += [f"other service: {text}" for text in _services(pair.ref, pair.changed)]
    found += [f"other load: {text}" for text in _differing(pair.ref.setting, pair.changed.setting, LOAD)]
    return (*found, *_queries(pair.ref, pair.changed))


def accuracy_obstacle(ref: Report, changed: Report, pair: Pair) -> str | None:
    """Why the answers of two entries cannot be compared; None where they can."""
    if ref.task != changed.task:
        return f"another task: {ref.task} -> {changed.task}"
    if ref.labels != changed.labels:
        return "other labels"
    if ref.eval_data != changed.eval_data or ref.references != changed.references:
        return "other eval data"
    if len(pair.ref.predictions or ()) != len(pair.changed.predictions or ()):
        return "not the same number of answers"
    return None


def differences(ref: Report, changed: Report, pair: Pair) -> tuple[str, ...]:
    """What was changed on purpose, as far as the reports say: the model, its runtime, its tuning, the packages."""
    ours, theirs = pair.ref, pair.changed
    found = [] if ours.artifact == theirs.artifact else [f"model {ours.artifact[:12]} -> {theirs.artifact[:12]}"]
    found += [] if ours.stage == theirs.stage else [f"made by {ours.stage or 'nothing'} -> {theirs.stage or 'nothing'}"]
    found += [] if ours.tokenizer == theirs.tokenizer else ["tokenizer"]
    found += list(_differing(ours.target, theirs.target, ("runtime", "isa", *TUNED)))
    packages = sorted({*ref.environment.packages, *changed.environment.packages})
    for name in packages:
        before, after = (report.environment.packages.get(name, "none") for report in (ref, changed))
        found += [] if before == after else [f"{name} {before} -> {after}"]
    python = list(_differing(ref.environment, changed.environment, ("python",)))
    return tuple(found + python)


def notes(ref: Report, changed: Report, pair: Pair) -> tuple[str, ...]:
    """What does not keep the two apart and is worth knowing."""
    found = [f"{text}, which may be the reason" for text in _differing(ref.environment, changed.environment, MACHINE_STATE)]
    for name, entry in (("REF", pair.ref), ("CHANGED", pair.changed)):
        unsettled = sum(item.stable is False for item in entry.rounds)
        found += [f"{unsettled} of {len(entry.rounds)} processes of {name} had not settled after warm-up"] if unsettled else []
    pinned = [any(item.pinned for item in entry.rounds) for entry in (pair.ref, pair.changed)]
    found += ["only one side kept to its own cores"] if pinned[0] != pinned[1] else []
    if pair.ref.setting.queries is None or pair.changed.setting.queries is None:
        found.append("a report does not say which texts were asked")
    return tuple(found)


def _services(ref: Entry, changed: Entry) -> Iterator[str]:
    """How the targets differ in what they serve. Each runtime has its own default bucket, which is part of the runtime."""
    yield from _differing(ref.target, changed.target, ("threads", "batch", "padding"))
    same_runtime = ref.target.runtime == changed.target.runtime
    ours, theirs = ref.target.bucket, changed.target.bucket
    if "longest" == ref.target.padding == changed.target.padding and same_runtime and ours != theirs:
        yield f"length_bucket {ours} -> {theirs}"


def _queries(ref: Entry, changed: Entry) -> Iterator[str]:
    """Whether the same texts were asked; by their lengths where a report does not say."""
    ours, theirs = ref.setting.queries, changed.setting.queries
    if ours is not None and theirs is not None:
        if ours != theirs:
            yield "other queries: not the same texts in the same order"
    elif ref.target.bucket == changed.target.bucket and not _same_lengths(ref, changed):
        yield "other queries: their lengths differ"


def _same_lengths(ref: Entry, changed: Entry) -> bool:
    """Whether the first processes served the same lengths; where one does not say, nothing speaks against it."""
    found = [np.sort(entry.rounds[0].lengths.values) for entry in (ref, changed) if entry.rounds]
    return len(found) < 2 or not all(map(len, found)) or np.array_equal(found[0], found[1])


def _differing(ref: object, changed: object, names: tuple[str, ...]) -> Iterator[str]:
    """`name before -> after` for each field that differs; what one environment does not know does not differ."""
    for name in names:
        before, after = getattr(ref, name), getattr(changed, name)
        unknown = isinstance(ref, Environment) and (before is None or after is None)
        if before != after and not unknown:
            yield f"{name} {_said(before)} -> {_said(after)}"


def _said(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else "none" if value is None else str(value)
