"""Checks of the trial: how steady a fixed piece of work is here, and which differences could show."""

from __future__ import annotations

from edgebert.measure.doctor.facts import Diagnosis, Facts, Level
from edgebert.measure.doctor.trial import PROCESSES

TAIL, LONG_TAIL = 1.1, 1.5
"""99th percentile over the median: beyond the first a note, beyond the second unstable."""
COARSE, VERY_COARSE = 0.02, 0.05
"""Smallest difference that could show: beyond the first a note, beyond the second unstable."""


def within(facts: Facts) -> Diagnosis:
    """How evenly one process runs."""
    trial = facts.trial
    if trial is None:
        return Diagnosis("within a process", "note", "not tried", mend="edgebert doctor --seconds 3")
    seen = f"median {trial.median_ms:.3f} ms, p99 {trial.tail:.2f} times the median, longest {trial.largest_gap_ms:.2f} ms more"
    level = _level(trial.tail, TAIL, LONG_TAIL)
    if level == "ok":
        return Diagnosis("within a process", level, seen)
    why = "the same work takes longer at times: interrupts, other processes, a frequency that moves"
    return Diagnosis("within a process", level, seen, why, "mend what is unstable here, then look at p90 and p99 with care")


def between(facts: Facts) -> Diagnosis:
    """How far the medians of fresh processes lie apart."""
    trial = facts.trial
    if trial is None:
        return Diagnosis("between processes", "note", "not tried", mend="edgebert doctor --seconds 3")
    smallest = trial.detectable(PROCESSES)
    seen = (
        f"medians scatter by {trial.scatter:.2%}: {PROCESSES} processes a side can show differences of about {smallest:.1%}"
        " on this machine"
    )
    level = _level(smallest, COARSE, VERY_COARSE)
    if level == "ok":
        return Diagnosis("between processes", level, seen)
    why = "a smaller difference is lost in what changes from process to process; a model's own scatter comes on top"
    return Diagnosis("between processes", level, seen, why, "more rounds: four times as many show half the difference")


def _level(value: float, note: float, unstable: float) -> Level:
    return "unstable" if value > unstable else "note" if value > note else "ok"


CHECKS = (within, between)
