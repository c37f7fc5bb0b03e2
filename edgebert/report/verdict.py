"""Verdict: every gate on every candidate, and which candidate is kept. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgebert.report.entry import Entry
from edgebert.report.gates import GateResult, judge_gate
from edgebert.report.report import Report
from edgebert.report.speedups import Speedup, speedups_of
from edgebert.report.worthless import worthless

SAME_GRAPH = " (the graph is FP32's own)"


@dataclass(frozen=True)
class JudgedEntry:
    """One candidate and the results of its gates."""

    entry: Entry
    results: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate holds."""
        return all(result.passed for result in self.results)

    @property
    def failures(self) -> tuple[str, ...]:
        """The reason of each gate that fails."""
        return tuple(result.reason for result in self.results if not result.passed)


@dataclass(frozen=True)
class Verdict:
    """PASSED when a candidate passes every gate. The best candidate is kept in either case."""

    judged_entries: tuple[JudgedEntry, ...]
    best: JudgedEntry
    speedups: Mapping[str, Speedup] = field(default_factory=dict)
    """Name of a candidate -> what is known of its speed-up beside the value."""

    @property
    def passed(self) -> bool:
        """Whether the best candidate passes."""
        return self.best.passed

    @property
    def status(self) -> str:
        """PASSED or FAILED."""
        return "PASSED" if self.passed else "FAILED"


def judge(report: Report) -> Verdict:
    """Judges every candidate of a report.

    The best is the fastest (p50) of those that pass. When none passes: the one with the fewest failed gates, then the
    highest score, then the fastest.
    """
    known = speedups_of(report)
    judged_entries = tuple(_judged(report, entry, known.get(entry.name)) for entry in report.candidates())
    best = min(judged_entries, key=lambda judged: _rank(report, judged))
    return Verdict(judged_entries, best, known)


def _judged(report: Report, entry: Entry, speedup: Speedup | None) -> JudgedEntry:
    baseline = report.baseline_of(entry)
    again = entry.repeats(baseline)
    results = []
    for gate in report.gates:
        value, theirs = report.value(entry, gate.metric), report.value(baseline, gate.metric) if baseline else None
        beside = "" if gate.metric != "speedup" else SAME_GRAPH if again else _beside(speedup, gate.bound[1])
        results.append(judge_gate(gate, value, theirs, beside=beside))
    return JudgedEntry(entry, (*results, *worthless(report, baseline)))


def _beside(speedup: Speedup | None, bound: float) -> str:
    """The interval of a speed-up, and whether the bound lies in it."""
    if speedup is None or speedup.interval is None:
        return ""
    low, high = speedup.interval
    return f" ({low:.3g} to {high:.3g}{', so noise decides: measure more rounds' if speedup.across(bound) else ''})"


def _rank(report: Report, judged: JudgedEntry) -> tuple[float, float, float]:
    p50 = judged.entry.percentile_ms(50)
    speed = p50 if p50 is not None else math.inf
    if judged.passed:
        return (0, 0.0, speed)
    score = report.value(judged.entry, report.task_metrics[0]) if report.task_metrics else None
    return (len(judged.failures), -(score if score is not None else -math.inf), speed)
