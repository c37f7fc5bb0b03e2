"""Section: the INT8 share of the arithmetic, and latency over the time that the arithmetic takes at the INT8 rate."""

from __future__ import annotations

from collections import Counter

from edgebert.report.entry import Entry
from edgebert.report.page.palette import bar_series, label_axis, lines, rounded, tick
from edgebert.report.page.parts import PageColumn, Picture, Section, Table, number, short, text_columns, words
from edgebert.report.page.source import PageSource
from edgebert.report.rounds import Coverage

LARGEST = 10
"""Most float products that are listed for a model."""


def section(source: PageSource) -> Section:
    """The section: median latency and floor of each model, INT8 coverage, float products, kernels."""
    known = [(label, entry, entry.coverage) for label, entry in source.labelled if entry.coverage]
    if not known:
        return Section("arithmetic", "INT8 coverage and the floor")
    timed = [item for item in known if item[1].roofline_ratio()]
    lead = (
        "A quantised file is no proof of INT8 arithmetic: the share is counted from the kernels that ran. The floor is the "
        "time that the model's multiply-accumulates take at this core's INT8 rate; the rest is overhead, float, or waiting.",
    )
    untimed = [item for item in known if item not in timed]
    return Section(
        "arithmetic",
        "INT8 coverage and the floor",
        lead,
        pictures=(_floor_picture(timed),) if timed else (),
        tables=(_table(untimed),) if untimed else (),
        folded=tuple(table for table in (_float_products(known), _kernels(known)) if table.rows),
    )


def _floor_picture(timed: list[tuple[str, Entry, Coverage]]) -> Picture:
    medians = [entry.percentile_ms(50) or 0.0 for _, entry, _ in timed]
    floors = [min(coverage.roofline_ms, median) for (_, _, coverage), median in zip(timed, medians, strict=True)]
    rest = [median - floor for median, floor in zip(medians, floors, strict=True)]
    hover = [
        lines((label, f"p50 {short(median)} ms", f"floor {short(coverage.roofline_ms)} ms", f"INT8 {coverage.share:.1%}"))
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
            bar_series([rounded(floor) for floor in floors], {"color": "--series-3"}, hover, name="floor"),
            bar_series([rounded(value) for value in rest], hatched, hover, name="beyond the floor"),
        ],
        layout={
            "barmode": "stack",
            "legend": {"traceorder": "normal"},
            "bargap": 0.4,
            "xaxis": {"title": {"text": "ms"}},
            "yaxis": label_axis([tick(label) for label, _, _ in timed]),
        },
        table=_table(timed),
        opened=True,
        height=130 + 44 * len(timed),
    )


def _table(known: list[tuple[str, Entry, Coverage]]) -> Table:
    rows = [
        (
            words(label),
            number(coverage.share, "{:.1%}"),
            number(coverage.all_macs / 1e6, "{:,.0f}"),
            number(coverage.length, "{:.0f}"),
            number(coverage.int8_macs_per_second / 1e9, "{:.0f}"),
            number(coverage.roofline_ms, "{:.3f}"),
            number(entry.percentile_ms(50), "{:.3f}"),
            number(entry.roofline_ratio(), "{:.1f}x"),
            number(len(coverage.float_products), "{:,.0f}"),
        )
        for label, entry, coverage in known
    ]
    columns = (
        PageColumn("model", numeric=False),
        PageColumn("INT8", meaning="share of the matrix products that ran in INT8, by multiply-accumulates (MACs)"),
        PageColumn("M MACs", meaning="of all matrix products of one query"),
        PageColumn("tokens", meaning="of that query"),
        PageColumn("G MACs/s", meaning="INT8 rate of this core, in one large product"),
        PageColumn("floor ms"),
        PageColumn("p50 ms"),
        PageColumn("over the floor"),
        PageColumn("products in float"),
    )
    return Table("What one query of the middle length runs in INT8", columns, tuple(rows))


def _float_products(known: list[tuple[str, Entry, Coverage]]) -> Table:
    """The largest float products of each candidate."""
    rows = [
        (
            words(label),
            words(product.name),
            words(product.op),
            words(" × ".join(map(str, product.shape)) or "n/a"),
            number(product.macs / coverage.all_macs, "{:.2%}"),
        )
        for label, entry, coverage in known
        if entry.role == "candidate"
        for product in coverage.float_products[:LARGEST]
    ]
    columns = (
        *text_columns("model", "product", "kernel"),
        PageColumn("shape", numeric=False, meaning="rows, inner, columns; their product is the MACs"),
        PageColumn("share of MACs"),
    )
    return Table(f"Largest matrix products that ran in float, up to {LARGEST} of each model", columns, tuple(rows))


def _kernels(known: list[tuple[str, Entry, Coverage]]) -> Table:
    """Counts of kernels: a row for each kind, a column for each model."""
    total: Counter[str] = Counter()
    for _, _, coverage in known:
        total.update(coverage.kernels)
    rows = tuple(
        (words(name), *(number(coverage.kernels.get(name), "{:,.0f}") for _, _, coverage in known))
        for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))
    )
    columns = (PageColumn("kernel", numeric=False), *(PageColumn(label) for label, _, _ in known))
    return Table("Kernels that one query ran, and how often", columns, rows)
