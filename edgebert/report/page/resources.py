"""Section: what a model takes: disk, memory, time to start, energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.report.entry import Entry
from edgebert.report.page.palette import NEXT_LINE, lines, plain, tick
from edgebert.report.page.parts import PageColumn, Picture, Section, Table, number, short, words
from edgebert.report.page.source import PageSource

BAR = 24
"""Pixels of height for one bar."""
LINE = 20
"""Of one line of a name."""
PATTERNS = ("", "/", "x")


@dataclass(frozen=True)
class Quantity:
    """One thing that is taken."""

    title: str
    value: Callable[[Entry], float | None]
    meaning: str


SPACE = (
    Quantity("files", lambda entry: entry.size_bytes / 1e6, "size of the model's files"),
    Quantity("peak RSS", Entry.peak_rss_mb, "largest resident memory of a process that serves only this model"),
    Quantity("PSS", Entry.pss_mb, "memory after the last query, pages that others share counted by their share"),
)
START = (
    Quantity("load", Entry.load_ms, "opening the model, up to and with its first query"),
    Quantity("cold start", Entry.cold_start_ms, "from the start of the process to its first answer"),
)
ENERGY = (Quantity("energy", Entry.energy_mj, "of the whole package, for one text"),)


def section(source: PageSource) -> Section:
    """Bars for space, start and energy."""
    found = [
        bars(source, *kind) for kind in (("Size and memory", "MB", SPACE), ("Start", "ms", START), ("Energy", "mJ", ENERGY))
    ]
    lead = ("Medians over the processes that measured; 1 MB is 10^6 bytes.",)
    return Section("resources", "Size, memory and start", lead, pictures=tuple(picture for picture in found if picture))


def bars(source: PageSource, title: str, unit: str, quantities: Sequence[Quantity]) -> Picture | None:
    """Grouped bars; None where nothing of it was measured."""
    known = [item for item in quantities if any(item.value(entry) is not None for entry in source.report.entries)]
    if not known:
        return None
    entries = source.labelled
    least = min(entries, key=lambda item: _or_infinity(known[0].value(item[1])))
    return Picture(
        title=f"{title}, {unit}",
        label=f"{title} of {len(entries)} models in {unit}. Smallest by {known[0].title}: {least[0]}.",
        data=[_bars(item, index, unit, entries) for index, item in enumerate(known)],
        layout={
            "barmode": "group",
            "bargap": 0.25,
            "xaxis": {"title": {"text": unit}},
            "yaxis": {
                "tickvals": list(range(len(entries))),
                "ticktext": [tick(label) for label, _ in entries],
                "range": [len(entries) - 0.4, -0.6],
            },
            "legend": {"traceorder": "normal"},
        },
        table=_table(title, unit, known, entries),
        height=120 + len(entries) * max(len(known) * BAR, LINE * max(tick(label).count(NEXT_LINE) + 1 for label, _ in entries)),
        log_axis="x",
        half=True,
    )


def _bars(item: Quantity, index: int, unit: str, entries: Sequence[tuple[str, Entry]]) -> dict[str, Any]:
    values = [item.value(entry) for _, entry in entries]
    hover = [
        lines((label, f"{item.title}: {short(value)} {unit}")) if value else ""
        for (label, _), value in zip(entries, values, strict=True)
    ]
    colour = f"--series-{index + 1}"
    marker = {"color": colour, "line": {"color": colour, "width": 1}}
    if PATTERNS[index]:
        marker["pattern"] = {"shape": PATTERNS[index], "fgcolor": colour, "bgcolor": "--surface", "solidity": 0.35}
    return {
        "type": "bar",
        "orientation": "h",
        "name": plain(item.title),
        "x": [None if value is None else float(f"{value:.5g}") for value in values],
        "y": list(range(len(entries))),
        "text": hover,
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker,
    }


def _or_infinity(value: float | None) -> float:
    return float("inf") if value is None else value


def _table(title: str, unit: str, known: Sequence[Quantity], entries: Sequence[tuple[str, Entry]]) -> Table:
    rows = [(words(label), *(number(item.value(entry)) for item in known)) for label, entry in entries]
    columns = [PageColumn(item.title, meaning=item.meaning) for item in known]
    return Table(f"{title}, {unit}", (PageColumn("model", numeric=False), *columns), tuple(rows))
