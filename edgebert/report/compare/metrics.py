"""Metrics of a report that are compared, and where their raw values lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgebert.report.compare.statistics import Side, Values
from edgebert.report.report import SAMPLES_FOR, Entry
from edgebert.report.rounds import Round

Kind = Literal["time", "rate", "amount"]
"""time: less is faster. rate: more is faster. amount: bytes or joules, less is smaller."""


@dataclass(frozen=True)
class Metric:
    """One metric that each process measures."""

    name: str
    kind: Kind
    percent: float = 50
    strict: bool = False
    """Whether --fail-on wants it shown to hold; others fail when they are shown not to."""
    fewest: int = 1
    """Samples of each side that it takes."""


@dataclass(frozen=True)
class Series:
    """Values of one kind that a process measured, and the metrics that are read off them."""

    read: Callable[[Round], Values]
    unit: float
    """What a value is divided by for the metric's unit."""
    metrics: tuple[Metric, ...]


def _one(value: float | None) -> Values:
    return np.array([] if value is None else [value])


def _per_text(value: float | None, item: Round) -> Values:
    return _one(value / item.examples if value is not None and item.examples else None)


LATENCY = tuple(
    Metric(f"p{percent:g}_ms", "time", percent, strict=percent in (50, 90), fewest=fewest)
    for percent, fewest in SAMPLES_FOR.items()
)
SERIES = (
    Series(lambda item: item.latencies_ns.values, 1e6, LATENCY),
    Series(
        lambda item: item.end_to_end_ns.values,
        1e6,
        (Metric("end_to_end_ms", "time", strict=True, fewest=SAMPLES_FOR[50]),),
    ),
    Series(lambda item: item.tokenise_ns.values, 1e6, (Metric("tokenise_ms", "time", fewest=SAMPLES_FOR[50]),)),
    Series(
        lambda item: _one(item.examples / item.wall_ns if item.examples and item.wall_ns else None),
        1e-9,
        (Metric("throughput", "rate", strict=True),),
    ),
    Series(lambda item: _one(item.cold_start_ns), 1e6, (Metric("cold_start_ms", "time"),)),
    Series(lambda item: _one(item.load_ns), 1e6, (Metric("load_ms", "time"),)),
    Series(lambda item: _one(item.peak_rss_bytes), 1e6, (Metric("peak_rss_mb", "amount", strict=True),)),
    Series(lambda item: _one(item.pss_bytes), 1e6, (Metric("pss_mb", "amount", strict=True),)),
    Series(lambda item: _per_text(item.energy_uj, item), 1e3, (Metric("energy_mj", "amount"),)),
)
PULSE = Series(lambda item: item.pulse_ns.values, 1e6, (Metric("pulse", "time"),))
SIZE = Metric("size_mb", "amount", strict=True)
AGREEMENT = "agreement"
MEASURED = {metric.name: metric for series in SERIES for metric in series.metrics} | {SIZE.name: SIZE}
"""Metrics with a ratio, in the order of the table."""


def side_of(entry: Entry, series: Series, rounds: tuple[Round, ...] | None = None) -> Side | None:
    """What an entry's processes measured; None where nothing, or where some processes cannot say.

    A process without a single query is no process: it is left out.
    """
    started = [item for item in (entry.rounds if rounds is None else rounds) if len(item.latencies_ns)]
    blocks = tuple(series.read(item) for item in started)
    return Side(blocks) if blocks and all(map(len, blocks)) else None
