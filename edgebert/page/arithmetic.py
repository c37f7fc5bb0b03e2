"""Section: how much of the arithmetic runs in INT8, and how far latency is from what the arithmetic takes."""

from __future__ import annotations

from typing import Any

from edgebert.measure.coverage import Coverage
from edgebert.page.parts import Column, Picture, Section, Table, number, short, words
from edgebert.page.plot_text import lines, tick
from edgebert.page.source import Source
from edgebert.report import Entry

LARGEST = 5
"""Float products that are named."""


def section(source: Source) -> Section:
    """The floor beside the median, the coverage, the kernels."""
    known = [(label, entry, entry.coverage) for label, entry in source.labelled if entry.coverage]
    if not known:
        return Section("arithmetic", "INT8 coverage and the floor")
    timed = [item for item in known if item[1].floor_ratio()]
    kernels = tuple(_kernels(label, coverage) for label, _, coverage in known if coverage.kernels)
    lead = (
        "A quantised file is no proof of INT8 arithmetic: the share is counted from the kernels that ran. The floor is the "
        "time that the model's multiply-accumulates take at this core's INT8 rate; the rest is overhead, float, or waiting.",
    )
    pictures = (_floor_picture(timed),) if timed else ()
    return Section(
        "arithmetic", "INT8 coverage and the floor", lead, pictures=pictures, tables=(_table(known),), folded=kernels
    )


def _floor_picture(timed: list[tuple[str, Entry, Coverage]]) -> Picture:
    medians = [entry.percentile_ms(50) or 0.0 for _, entry, _ in timed]
    floors = [min(coverage.floor_ms, median) for (_, _, coverage), median in zip(timed, medians, strict=True)]
    rest = [median - floor for median, floor in zip(medians, floors, strict=True)]
    hover = [
        lines((label, f"p50 {short(median)} ms", f"floor {short(coverage.floor_ms)} ms", f"INT8 {coverage.share:.1%}"))
        for (label, _, coverage), median in zip(timed, medians, strict=True)
    ]
    hatched = {
        "color": "--series-6",
        "pattern": {"shape": "/", "fgcolor": "--series-6", "bgcolor": "--surface", "solidity": 0.3},
    }
    return Picture(
        title="Median latency: the arithmetic's floor, and the rest",
        label=f"Median latency of {len(timed)} models, split in the floor of their arithmetic at INT8 rate and all beyond it.",
        data=[
            _part("floor", floors, hover, {"color": "--series-3"}),
            _part("beyond the floor", rest, hover, hatched),
        ],
        layout={
            "barmode": "stack",
            "bargap": 0.4,
            "xaxis": {"title": {"text": "ms"}},
            "yaxis": {
                "tickvals": list(range(len(timed))),
                "ticktext": [tick(label) for label, _, _ in timed],
                "range": [len(timed) - 0.4, -0.6],
            },
        },
        table=_table(timed),
        height=130 + 44 * len(timed),
    )


def _part(name: str, values: list[float], hover: list[str], marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "x": [float(f"{value:.5g}") for value in values],
        "y": list(range(len(values))),
        "text": hover,
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker,
    }


def _table(known: list[tuple[str, Entry, Coverage]]) -> Table:
    rows = [
        (
            words(label),
            number(coverage.share, "{:.1%}"),
            number(coverage.all_macs / 1e6, "{:,.0f}"),
            number(coverage.length, "{:.0f}"),
            number(coverage.int8_macs_per_second / 1e9, "{:.0f}"),
            number(coverage.floor_ms, "{:.3f}"),
            number(entry.percentile_ms(50), "{:.3f}"),
            number(entry.floor_ratio(), "{:.1f}x"),
            words(_float_products(coverage)),
        )
        for label, entry, coverage in known
    ]
    columns = (
        Column("model", numeric=False),
        Column("INT8", meaning="share of the matrix products that ran in INT8, by multiply-accumulates (MACs)"),
        Column("M MACs", meaning="of all matrix products of one query"),
        Column("tokens", meaning="of that query"),
        Column("G MACs/s", meaning="INT8 rate of this core, in one large product"),
        Column("floor ms"),
        Column("p50 ms"),
        Column("over the floor"),
        Column("largest products in float", numeric=False),
    )
    return Table("What one query of the middle length runs in INT8", columns, tuple(rows))


def _float_products(coverage: Coverage) -> str:
    named = [f"{item.name} ({item.macs / coverage.all_macs:.1%})" for item in coverage.float_products[:LARGEST]]
    more = len(coverage.float_products) - LARGEST
    return ", ".join(named + ([f"{more} more"] if more > 0 else []))


def _kernels(label: str, coverage: Coverage) -> Table:
    rows = [
        (words(name), number(count, "{:,.0f}"))
        for name, count in sorted(coverage.kernels.items(), key=lambda item: (-item[1], item[0]))
    ]
    return Table(f"Kernels that {label} ran for one query", (Column("kernel", numeric=False), Column("times")), tuple(rows))
