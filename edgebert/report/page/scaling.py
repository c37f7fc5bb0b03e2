"""Section: latency over sequence length, and over every dimension that was swept: batch, threads, streams, instances, rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.core.store import hash_json
from edgebert.report.entry import SAMPLES_FOR, Entry
from edgebert.report.page.palette import SERIES, plain, rounded, style
from edgebert.report.page.parts import PageColumn, Picture, Section, Table, metric_column, number, text_columns, words
from edgebert.report.page.source import PageSource, batch_of, setting_of, threads_of


@dataclass(frozen=True)
class Group:
    """Queries of neighbouring lengths."""

    shortest: int
    longest: int
    count: int
    middle: float
    """Median length."""
    p50: float
    """Median latency, ms."""


def section(source: PageSource) -> Section:
    """The section: every picture that has at least two values on its axis."""
    pictures = [length_picture(source), *(sweep_picture(source, dimension) for dimension in DIMENSIONS)]
    return Section("scaling", "Latency over length and load", pictures=tuple(picture for picture in pictures if picture))


def by_length(entry: Entry) -> list[Group]:
    """Medians over groups of lengths, each with enough samples for a median; empty where lengths were not kept."""
    rounds = [item for item in entry.rounds if len(item.lengths)]
    if not rounds or entry.setting.scenario == "server":  # whose latency includes the wait for other queries
        return []
    lengths = np.concatenate([item.lengths.values for item in rounds])
    latencies = np.concatenate([item.latencies_ns.values for item in rounds]) / 1e6
    groups: list[Group] = []
    pending = np.zeros(len(lengths), dtype=bool)
    for length in np.unique(lengths):
        pending |= lengths == length
        if pending.sum() >= SAMPLES_FOR[50]:
            groups.append(_group(lengths[pending], latencies[pending]))
            pending = np.zeros(len(lengths), dtype=bool)
    return groups  # the longest queries that are left over are too few for a median


def _group(lengths: npt.NDArray[np.int64], latencies: npt.NDArray[np.float64]) -> Group:
    middle, p50 = float(np.median(lengths)), float(np.median(latencies))
    return Group(int(lengths.min()), int(lengths.max()), len(lengths), middle, p50)


def length_picture(source: PageSource) -> Picture | None:
    """A line for each model; None where no model was measured at two lengths."""
    grouped = [(index, label, entry, by_length(entry)) for index, (label, entry) in enumerate(source.labelled)]
    grouped = [item for item in grouped if len(item[3]) > 1]
    if not grouped:
        return None
    rows = [
        (words(label), words(_span(group)), number(group.count, "{:,.0f}"), number(group.p50, "{:.3f}"))
        for _, label, _, groups in grouped
        for group in groups
    ]
    columns = (*text_columns("model", "tokens"), PageColumn("samples"), metric_column("p50_ms"))
    return Picture(
        title="Median latency over sequence length",
        label=f"Median latency of {len(grouped)} models as texts grow, each point of {SAMPLES_FOR[50]} or more queries.",
        data=[
            _line(index, label, entry, [(group.middle, group.p50) for group in groups], "tokens", shown=turn < SERIES)
            for turn, (index, label, entry, groups) in enumerate(grouped)
        ],
        layout={
            "xaxis": {"title": {"text": "tokens of a query, padding included"}},
            "yaxis": {"title": {"text": "median latency, ms"}, "rangemode": "tozero"},
        },
        table=Table("Median latency by length", columns, tuple(rows)),
        log_axis="y",
    )


def _span(group: Group) -> str:
    return f"{group.shortest}" if group.shortest == group.longest else f"{group.shortest} to {group.longest}"


def _line(
    index: int, label: str, entry: Entry, points: Sequence[tuple[float, float]], unit: str, *, shown: bool
) -> dict[str, Any]:
    look = style(entry, index)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(label),
        "x": [across for across, _ in points],
        "y": [rounded(upwards) for _, upwards in points],
        "line": {"color": look.colour, "dash": look.dash, "width": 2},
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 8, "line": {"color": look.colour, "width": 1.5}},
        "hovertemplate": f"%{{x:~f}} {unit}: %{{y:.3~f}}<extra>%{{fullData.name}}</extra>",
        "visible": True if shown else "legendonly",
    }


@dataclass(frozen=True)
class Dimension:
    """A dimension that `bench` can sweep."""

    title: str
    unit: str
    field: tuple[str, str]
    """Attribute of the entry, and its field."""
    value: Callable[[Entry], float | None]
    part: Callable[[Entry], str] = setting_of
    """The part of an entry's name that contains the dimension."""


def _fixed_length(entry: Entry) -> float | None:
    return float(entry.setting.lengths) if entry.setting.lengths.isdecimal() else None


DIMENSIONS = (
    Dimension("batch", "texts a query", ("target", "batch"), lambda entry: entry.target.batch, batch_of),
    Dimension("threads", "threads", ("target", "threads"), lambda entry: entry.target.threads, threads_of),
    Dimension("streams", "texts at once", ("setting", "streams"), lambda entry: entry.setting.streams),
    Dimension("instances", "sessions", ("setting", "instances"), lambda entry: entry.setting.instances),
    Dimension("arrival rate", "queries/s", ("setting", "rate"), lambda entry: entry.setting.rate),
    Dimension("fixed length", "tokens", ("setting", "lengths"), _fixed_length),
)


def sweeps(source: PageSource, dimension: Dimension) -> list[list[tuple[int, str, Entry, float]]]:
    """Groups of entries that differ in the dimension alone, in the order of the axis: index, name, entry, value on the axis."""
    lots: dict[str, list[tuple[int, str, Entry, float]]] = {}
    for index, (label, entry) in enumerate(source.labelled):
        value = dimension.value(entry)
        if value is not None and len(entry.latencies_ms()):
            lots.setdefault(_all_else(entry, dimension), []).append((index, label, entry, value))
    return [sorted(lot, key=lambda item: item[3]) for lot in lots.values() if len({value for *_, value in lot}) == len(lot) > 1]


def _all_else(entry: Entry, dimension: Dimension) -> str:
    """Hash of everything that entries of one line share. Queries do not count: their order depends on the batch."""
    parts = {"target": entry.target.model_dump(mode="json"), "setting": entry.setting.model_dump(mode="json")}
    part, field = dimension.field
    del parts[part][field], parts["setting"]["queries"]
    return hash_json([parts, entry.artifact, entry.role])


def sweep_picture(source: PageSource, dimension: Dimension) -> Picture | None:
    """A line for each model that was measured at two or more values of the dimension."""
    lots = sweeps(source, dimension)
    if not lots:
        return None
    texts = all(entry.throughput() for lot in lots for _, _, entry, _ in lot) and dimension.title != "threads"
    what = "texts a second" if texts else "median latency"
    names = _line_names(lots, dimension)
    return Picture(
        title=f"{what[0].upper()}{what[1:]} over {dimension.title}",
        label=f"{what} of {len(lots)} models over {dimension.title}; the table has latency and throughput at each.",
        data=[_sweep_line(name, lot, dimension, texts) for name, lot in zip(names, lots, strict=True)],
        layout={
            "xaxis": {"title": {"text": dimension.unit}, "tickvals": sorted({value for lot in lots for *_, value in lot})},
            "yaxis": {"title": {"text": what if texts else f"{what}, ms"}, "rangemode": "tozero"},
        },
        table=_sweep_table(lots, dimension),
        log_axis="y",
    )


def _line_names(lots: list[list[tuple[int, str, Entry, float]]], dimension: Dimension) -> list[str]:
    """The name of each group's first entry, without its value on the axis where names are unique without it."""
    full = [label for (_, label, _, _), *_ in lots]
    names = [label.replace(f", {dimension.part(entry)}", "") for (_, label, entry, _), *_ in lots]
    return names if len(set(names)) == len(names) else full


def _sweep_line(label: str, lot: list[tuple[int, str, Entry, float]], dimension: Dimension, texts: bool) -> dict[str, Any]:
    index, _, first, _ = lot[0]
    points = [
        (value, (entry.throughput() if texts else float(np.median(entry.latencies_ms()))) or 0.0) for _, _, entry, value in lot
    ]
    return _line(index, label, first, points, dimension.unit, shown=True)


def _sweep_table(lots: list[list[tuple[int, str, Entry, float]]], dimension: Dimension) -> Table:
    rows = [
        (
            words(label),
            number(value, "{:g}"),
            number(entry.percentile_ms(50), "{:.3f}"),
            number(entry.percentile_ms(99), "{:.3f}"),
            number(entry.throughput(), "{:,.1f}"),
        )
        for lot in lots
        for _, label, entry, value in lot
    ]
    columns = (
        PageColumn("model", numeric=False),
        PageColumn(f"{dimension.title} ({dimension.unit})"),
        *map(metric_column, ("p50_ms", "p99_ms", "throughput")),
    )
    return Table(f"Latency and throughput over {dimension.title}", columns, tuple(rows))
