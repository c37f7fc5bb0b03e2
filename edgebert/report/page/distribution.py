"""Section: the distribution of latency. The picture has a few hundred points of each curve, the table exact percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.report.entry import SAMPLES_FOR, Entry
from edgebert.report.page.palette import SERIES, plain, rounded, style
from edgebert.report.page.parts import PageColumn, Picture, Section, Table, filled_columns, number, words
from edgebert.report.page.source import PageSource

POINTS = 400
"""Most points of a curve."""
WIDE = 30
"""Largest over smallest latency beyond which the axis is logarithmic."""
PERCENTS = (50, 90, 95, 99, 99.9)
Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def section(source: PageSource) -> Section:
    """The section: the curves and a table of percentiles."""
    timed = [(index, label, entry) for index, (label, entry) in enumerate(source.labelled) if len(entry.latencies_ms())]
    if not timed:
        return Section("distribution", "Latency distribution")
    picture = picture_of(
        "Share of queries that took no longer",
        f"Cumulative distribution of the latency of {len(timed)} models; its percentiles are in the table.",
        [_curve(index, label, entry, shown=turn < SERIES) for turn, (index, label, entry) in enumerate(timed)],
        [(label, entry) for _, label, entry in timed],
        opened=True,
    )
    lead = ["Raw samples of every process, tokenisation apart. A percentile that has too few samples under it is n/a."]
    lead += [f"The picture begins with {SERIES} of {len(timed)}; the legend adds the others."] if len(timed) > SERIES else []
    return Section("distribution", "Latency distribution", tuple(lead), pictures=(picture,))


def picture_of(
    title: str, label: str, curves: list[dict[str, Any]], timed: list[tuple[str, Entry]], *, opened: bool = False
) -> Picture:
    """A picture of cumulative distributions, with a table of their percentiles."""
    layout = {
        "xaxis": latency_axis([entry for _, entry in timed]),
        "yaxis": {"title": {"text": "share of queries"}, "range": [0, 1.01], "tickformat": ".0%"},
        "hovermode": "closest",
    }
    return Picture(title, label, curves, layout, percentiles(timed), log_axis="x", opened=opened)


def latency_axis(entries: Sequence[Entry]) -> dict[str, Any]:
    """The axis of latency, logarithmic where a few slow queries would squeeze all others against the edge."""
    least, most = zip(*((entry.latencies_ms().min(), entry.latencies_ms().max()) for entry in entries), strict=True)
    kind = "log" if max(most) > WIDE * min(least) else "linear"
    return {"title": {"text": "latency of one query, ms"}, "type": kind}


def ecdf(values: npt.NDArray[np.float64], points: int = POINTS) -> Curve:
    """The empirical distribution at `points` of its own steps or fewer: evenly over the bulk, denser in the tail.

    Returns:
        Values, and the share of samples that is no larger than each. The first and the last sample are always included.
    """
    ordered, count = np.sort(values), len(values)
    if count <= points:
        kept = np.arange(count)
    else:
        bulk = np.linspace(0, count - 1, points * 3 // 4)
        tail = count - np.geomspace(1, count, points // 4)
        kept = np.unique(np.concatenate([bulk, tail]).round().astype(int))
    return ordered[kept], (kept + 1) / count


def _curve(index: int, label: str, entry: Entry, *, shown: bool) -> dict[str, Any]:
    look = style(entry, index)
    visible = True if shown else "legendonly"
    return curve(label, entry, {"color": look.colour, "dash": look.dash}, mode="lines", visible=visible)


def curve(label: str, entry: Entry, line: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The cumulative distribution of an entry's latencies as a line of steps."""
    values, shares = ecdf(entry.latencies_ms())
    return {
        "type": "scatter",
        "name": plain(label),
        "x": [rounded(value) for value in values],
        "y": [round(float(share), 5) for share in shares],
        "line": {"shape": "hv", "width": 2, **line},
        "hovertemplate": "%{y:.1%} within %{x:.3~f} ms<extra>%{fullData.name}</extra>",
        **more,
    }


def percentiles(timed: list[tuple[str, Entry]]) -> Table:
    """The table of percentiles, computed from all samples."""
    rows = []
    for label, entry in timed:
        values = entry.latencies_ms()
        exact = [number(entry.percentile_ms(percent), "{:.3f}") for percent in PERCENTS]
        ends = [number(float(np.min(values)), "{:.3f}"), *exact, number(float(np.max(values)), "{:.3f}")]
        around = [number(entry.tokenise_ms(), "{:.3f}"), number(entry.end_to_end_ms(), "{:.3f}")]
        rows.append((words(label), number(len(values), "{:,.0f}"), *ends, *around))
    columns = (
        PageColumn("model", numeric=False),
        PageColumn("samples"),
        PageColumn("least"),
        *(PageColumn(f"p{percent:g}", meaning=f"needs {SAMPLES_FOR[percent]:,} samples") for percent in PERCENTS),
        PageColumn("most"),
        PageColumn("tokenise", meaning="median time to tokenise one query"),
        PageColumn("end to end", meaning="median time from text to answer"),
    )
    return Table("Percentiles of latency, ms", *filled_columns(columns, rows))
