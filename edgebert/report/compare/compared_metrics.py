"""The metrics of a report that are compared, grouped by the series of raw values that they are computed from."""

from __future__ import annotations

from dataclasses import dataclass

from edgebert.report.compare.statistics import Side
from edgebert.report.entry import Entry
from edgebert.report.metric_table import METRICS, REFERENCE_WORKLOAD, Compared, Kind, Series
from edgebert.report.rounds import Round


@dataclass(frozen=True)
class ComparedMetric:
    """Name of a metric, and how it is compared."""

    name: str
    how: Compared

    @property
    def kind(self) -> Kind:
        """Kind of the metric, which decides how a change is worded."""
        return self.how.kind


MEASURED = {name: ComparedMetric(name, metric.compared) for name, metric in METRICS.items() if metric.compared}
"""Metrics with a ratio, in the order of the table."""
SERIES: dict[Series, tuple[ComparedMetric, ...]] = {
    series: tuple(metric for metric in MEASURED.values() if metric.how.series == series)
    for series in (metric.how.series for metric in MEASURED.values())
    if series
}
"""Series of raw values -> the metrics that are computed from it."""
REFERENCE_TIME = ComparedMetric("reference_workload", Compared("time", REFERENCE_WORKLOAD))
"""Time of the reference workload: the speed of the machine itself."""
SIZE = MEASURED["size_mb"]


def side_of(entry: Entry, series: Series, rounds: tuple[Round, ...] | None = None) -> Side | None:
    """The values of a series from each process of an entry; None where there are none, or where a process has none.

    Processes without a single query are left out. The others are in the order of `rounds`, else in that in which they ran.
    """
    ordered = sorted(entry.rounds, key=lambda item: item.round) if rounds is None else rounds
    started = [item for item in ordered if len(item.latencies_ns)]
    blocks = tuple(series.read(item) for item in started)
    return Side(blocks) if blocks and all(map(len, blocks)) else None
