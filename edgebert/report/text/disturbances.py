"""What disturbed the measurements of a report, in sentences that stand beside its numbers."""

from __future__ import annotations

import numpy as np

from edgebert.report.entry import Entry
from edgebert.report.report import Report

VARIED = 0.05
"""Spread of the machine's own speed over the processes, beyond which others worked on it."""
STOLEN = 0.02
"""Share of the busy clock ticks that other guests of the host took, beyond which they disturb."""
LOUD = 0.05
"""Difference of two measurements of one graph that is worth a sentence."""


def disturbance_lines(report: Report) -> list[str]:
    """One sentence for each disturbance; empty where the report shows none."""
    return [*machine_lines(report), *(line for entry in report.entries for line in _unrest(entry))]


def machine_lines(report: Report) -> list[str]:
    """The disturbances that are no single entry's: other work on the machine, and what two measurements of one graph tell."""
    lines = [*_load(report), *_varied(report), *_stolen(report)]
    return [*lines, *(line for entry in report.entries for line in _again(entry, report.baseline_of(entry)))]


def _load(report: Report) -> list[str]:
    """The load average of the start. edgebert's own work before it makes one a core."""
    environment = report.environment
    known = environment.before.load_average if environment.before else environment.load_average
    if known is None or known <= environment.cores + 1:
        return []
    return [f"others worked on the machine: load average {known:.1f} on {environment.cores} cores when it began"]


def reference_spread(entries: tuple[Entry, ...]) -> float | None:
    """Largest over smallest time of the reference workload in the processes of all entries, less 1; None without any."""
    rounds = [item.reference_workload_ns.values for entry in entries for item in entry.rounds]
    times = [float(np.median(values)) for values in rounds if len(values)]
    return max(times) / min(times) - 1 if times and min(times) > 0 else None


def _varied(report: Report) -> list[str]:
    spread = reference_spread(report.entries)
    if spread is None or spread <= VARIED:
        return []
    return [f"the machine's own speed varied by {spread:.0%} between the processes: repeat it when the machine is idle"]


def _stolen(report: Report) -> list[str]:
    before, after = report.environment.before, report.environment.after
    if before is None or after is None:
        return []
    stolen, busy = _added(before.stolen_ticks, after.stolen_ticks), _added(before.busy_ticks, after.busy_ticks)
    share = stolen / (stolen + busy) if stolen + busy > 0 else 0.0
    return [f"other guests of the host took {share:.0%} of the machine's time"] if share > STOLEN else []


def _added(before: int | None, after: int | None) -> int:
    """What a counter gained; 0 where the system does not report it."""
    return max(after - before, 0) if before is not None and after is not None else 0


def _unrest(entry: Entry) -> list[str]:
    """Processes of an entry that throttled, or whose latency had not settled."""
    count = len(entry.rounds)
    throttled = sum(item.throttled is True for item in entry.rounds)
    unsettled = sum(item.stable is False for item in entry.rounds)
    lines = [f"{entry.name}: the machine throttled in {throttled} of {count} processes"] if throttled else []
    return lines + ([f"{entry.name}: latency had not settled in {unsettled} of {count} processes"] if unsettled else [])


def _again(entry: Entry, baseline: Entry | None) -> list[str]:
    """What two measurements of one graph differ by."""
    ours, theirs = entry.percentile_ms(50), baseline.percentile_ms(50) if baseline else None
    if baseline is None or not entry.repeats(baseline) or not ours or not theirs:
        return []
    apart = max(ours, theirs) / min(ours, theirs) - 1
    noise = f"; its two measurements differ by {apart:.0%}, which is noise" if apart > LOUD else ""
    return [f"{entry.name} is the graph of {baseline.name}: nothing was compressed{noise}"]
