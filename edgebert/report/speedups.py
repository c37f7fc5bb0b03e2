"""How sure the speed-up of each candidate is: the comparison that the page shows, for the table, the gates and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from edgebert.errors import InputError, MissingPackage
from edgebert.report.compare.comparison import compare_within
from edgebert.report.compare.findings import CompareOptions, Finding
from edgebert.report.compare.statistics import scipy_stats
from edgebert.report.report import Report

DECIDED = ("faster", "slower", "equivalent")


@dataclass(frozen=True)
class Speedup:
    """What is known of a speed-up beside its value."""

    interval: tuple[float, float] | None
    """95 % interval; None with too few processes."""
    sure: bool
    """Whether the comparison with FP32 has a verdict."""
    reason: str
    """Why it has that verdict, or none."""

    def across(self, bound: float) -> bool:
        """Whether noise alone may decide on which side of a bound the speed-up lies."""
        return self.interval is not None and self.interval[0] < bound < self.interval[1]


def speedups_of(report: Report) -> dict[str, Speedup]:
    """Name of each candidate -> what is known of its speed-up; empty where scipy is not installed, as on a device."""
    candidates = report.candidates()
    if len({entry.name for entry in candidates}) < len(candidates):
        return {}  # bench gives a model under several loads one name
    try:
        scipy_stats()  # before any work: a device has none
        compared = compare_within(report, CompareOptions(metrics=("p50_ms",)))
    except (MissingPackage, InputError):  # two baselines of one name: each is judged, and none is compared
        return {}
    return {pair.changed: _speedup(finding) for pair in compared.pairs for finding in pair.findings}


def _speedup(finding: Finding) -> Speedup:
    interval = (1 / finding.interval[1], 1 / finding.interval[0]) if finding.interval else None
    return Speedup(interval, finding.verdict in DECIDED, finding.reason)
