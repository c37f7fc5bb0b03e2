"""Section: resources that a model needs: disk, memory, time to start, energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgebert.report.metric_table import METRICS
from edgebert.report.page.palette import NEXT_LINE, bar_series, label_axis, lines, plain, rounded, tick
from edgebert.report.page.parts import PageColumn, Picture, Section, Table, number, short, words
from edgebert.report.page.source import PageSource

BAR = 24
"""Height of one bar in pixels."""
LINE = 20
"""Height of one line of a name in pixels."""
PATTERNS = ("", "/", "x")
GROUPS = (
    ("Size and memory", "MB", {"size_mb": "files", "peak_rss_mb": "peak RSS", "pss_mb": "PSS"}),
    ("Start", "ms", {"load_ms": "load", "cold_start_ms": "cold start"}),
    ("Energy", "mJ", {"energy_mj": "energy"}),
)
"""Title, unit, and metric -> title without its unit."""


def section(source: PageSource) -> Section:
    """The section: bars for space, start and energy."""
    pictures = [picture for group in GROUPS if (picture := bars(source, *group))]
    lead = ("Medians over the processes that measured; 1 MB is 10^6 bytes.",)
    return Section("resources", "Size, memory and start", lead, pictures=tuple(pictures))


def bars(source: PageSource, title: str, unit: str, titles: Mapping[str, str]) -> Picture | None:
    """Grouped bars of some metrics; None where none was measured."""
    read = {name: [source.report.value(entry, metric) for entry in source.report.entries] for metric, name in titles.items()}
    known = {name: values for name, values in read.items() if any(value is not None for value in values)}
    if not known:
        return None
    entries, first = source.labels, next(iter(known))
    least = min(zip(known[first], entries, strict=True), key=lambda item: float("inf") if item[0] is None else item[0])
    return Picture(
        title=f"{title}, {unit}",
        label=f"{title} of {len(entries)} models in {unit}. Smallest by {first}: {least[1]}.",
        data=[_bars(name, values, index, unit, entries) for index, (name, values) in enumerate(known.items())],
        layout={
            "barmode": "group",
            "bargap": 0.25,
            "xaxis": {"title": {"text": unit}},
            "yaxis": label_axis([tick(label) for label in entries]),
            "legend": {"traceorder": "normal"},
        },
        table=_table(f"{title}, {unit}", {name: metric for metric, name in titles.items() if name in known}, known, entries),
        height=120 + len(entries) * max(len(known) * BAR, LINE * max(tick(label).count(NEXT_LINE) + 1 for label in entries)),
        log_axis="x",
        half=True,
    )


def _bars(name: str, values: Sequence[float | None], index: int, unit: str, entries: Sequence[str]) -> dict[str, Any]:
    hover = [
        lines((label, f"{name}: {short(value)} {unit}")) if value else "" for label, value in zip(entries, values, strict=True)
    ]
    colour = f"--series-{index + 1}"
    marker = {"color": colour, "line": {"color": colour, "width": 1}}
    if PATTERNS[index]:
        marker["pattern"] = {"shape": PATTERNS[index], "fgcolor": colour, "bgcolor": "--surface", "solidity": 0.35}
    return bar_series([None if value is None else rounded(value) for value in values], marker, hover, name=plain(name))


def _table(
    caption: str, metrics: Mapping[str, str], known: Mapping[str, Sequence[float | None]], entries: Sequence[str]
) -> Table:
    rows = [(words(label), *(number(values[index]) for values in known.values())) for index, label in enumerate(entries)]
    columns = [PageColumn(name, meaning=METRICS[metric].meaning) for name, metric in metrics.items()]
    return Table(caption, (PageColumn("model", numeric=False), *columns), tuple(rows))
