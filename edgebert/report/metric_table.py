"""The metrics of a report: one line each, for gates, schema, tables, `bench --json`, comparisons and the page.

A new metric is a line in `METRICS`. The metrics of answers come from `edgebert.tasks.metrics` and need no line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgebert.report.entry import SAMPLES_FOR, Entry
from edgebert.report.rounds import Round
from edgebert.tasks.metrics import AGREEMENT, ANSWER_METRICS, AnswerMetric, metrics_of
from edgebert.tasks.metrics.own import is_own

Values = npt.NDArray[Any]
Kind = Literal["time", "rate", "amount"]
"""How a comparison words a change. time: less is faster. rate: more is faster. amount (bytes, joules): less is smaller."""
Table = Literal["run", "bench"]
"""The table that `compress` prints, and the one that `bench` prints."""
Value = Callable[[Entry, Entry | None], float | None]
"""(entry, its FP32 baseline) -> the metric in its unit; None where it was not measured."""


@dataclass(frozen=True)
class Series:
    """Raw values of one kind, an array for each process."""

    read: Callable[[Round], Values]
    unit: float
    """Divisor from raw values to the metric's unit: 1e6 from nanoseconds to milliseconds."""


@dataclass(frozen=True)
class Compared:
    """How `edgebert compare` judges a metric."""

    kind: Kind
    series: Series | None = None
    """None: one value for each entry, not for each process."""
    percent: float = 50
    """The percentile of the series that is compared."""
    strict: bool = False
    """Whether --fail-on needs proof that the metric holds; other metrics fail only on proof that they do not."""
    fewest: int = 1
    """Fewest samples on each side that the percentile needs."""


@dataclass(frozen=True)
class Metric:
    """One metric of an entry."""

    name: str
    """Name in gates, JSON and `--metric`; its ending is its unit: `_ms`, `_mb` (10^6 bytes), `_mj`."""
    title: str
    """Title of its column."""
    meaning: str
    """Explanation of its column on the page."""
    value: Value
    form: str = "{:.2f}"
    """Format of a value in its column."""
    scale: float = 1.0
    """Divisor of the values in its column: 1e6 for millions."""
    tables: tuple[Table, ...] = ()
    leaves: int = 0
    """Order in which columns are dropped from a table that is too wide for the terminal, 1 first; 0: never dropped."""
    gate: Literal["any", "relative", "absolute"] | None = None
    """Gates that a recipe may set: any bound; `min` or `max` alone, for a metric that is relative to FP32 already, or one that
    is absolute because FP32 has none of it; None: no gate."""
    compared: Compared | None = None
    """None: `edgebert compare` does not list it."""
    key: str = ""
    """Key in `bench --json`; empty: its name."""
    less_is_better: bool = False
    """Whether a smaller value is the better one; only metrics of answers say so."""


def _one(value: float | None) -> Values:
    return np.array([] if value is None else [value])


def _per_text(value: float | None, item: Round) -> Values:
    return _one(value / item.examples if value is not None and item.examples else None)


LATENCY = Series(lambda item: item.latencies_ns.values, 1e6)
END_TO_END = Series(lambda item: item.end_to_end_ns.values, 1e6)
TOKENISE = Series(lambda item: item.tokenise_ns.values, 1e6)
THROUGHPUT = Series(lambda item: _one(item.examples / item.wall_ns if item.examples and item.wall_ns else None), 1e-9)
COLD_START = Series(lambda item: _one(item.cold_start_ns), 1e6)
LOAD = Series(lambda item: _one(item.load_ns), 1e6)
PEAK_RSS = Series(lambda item: _one(item.peak_rss_bytes), 1e6)
PSS = Series(lambda item: _one(item.pss_bytes), 1e6)
ENERGY = Series(lambda item: _per_text(item.energy_uj, item), 1e3)
REFERENCE_WORKLOAD = Series(lambda item: item.reference_workload_ns.values, 1e6)


def _answers(metric: AnswerMetric, form: str = "{:.4f}", **where: Any) -> Metric:
    def value(entry: Entry, _: Entry | None) -> float | None:
        return entry.score(metric.name)

    return Metric(metric.name, metric.title, metric.meaning, value, form, less_is_better=metric.less_is_better, **where)


def _percentile(percent: float, meaning: str, *, gate: bool = True, **where: Any) -> Metric:
    def value(entry: Entry, _: Entry | None) -> float | None:
        return entry.percentile_ms(percent)

    compared = Compared("time", LATENCY, percent, strict=percent in (50, 90), fewest=SAMPLES_FOR[percent])
    name = f"p{percent:g}"
    return Metric(f"{name}_ms", f"{name} ms", meaning, value, gate="any" if gate else None, compared=compared, **where)


def _of(read: Callable[[Entry], float | None]) -> Value:
    return lambda entry, _: read(entry)


def _speedup(entry: Entry, baseline: Entry | None) -> float | None:
    """1 for FP32's own graph, of which two measurements differ by noise alone."""
    return None if baseline is None else 1.0 if entry.repeats(baseline) else entry.times_as_fast(baseline)


_KINDS = {kind for metric in ANSWER_METRICS for kind in ([metric.of] if isinstance(metric.of, str) else metric.of)}
DECIDING = tuple(metrics_of(kind)[0] for kind in sorted(_KINDS))
"""The metric of each kind of prediction that decides where one has to."""
NAMED = tuple({metric.name: metric for metric in reversed(ANSWER_METRICS)}.values())[::-1]
"""One metric of each name: what a report needs to know of it is the same for all kinds of predictions."""
_RUN: tuple[Table, ...] = ("run",)
_BENCH: tuple[Table, ...] = ("bench",)
_BOTH = _RUN + _BENCH
# A metric is a line or two of a table: hence no formatter, which would give each argument a line of its own.
_ALL = (
    *(_answers(metric, tables=_BENCH, leaves=0 if metric in DECIDING else 3, gate="any") for metric in NAMED),
    _answers(AGREEMENT, tables=_RUN, leaves=8, gate="relative"),
    _percentile(50, "median latency of one query, tokenisation apart", tables=_BOTH),
    _percentile(90, "90th percentile of the latency of one query", tables=_BOTH, leaves=13),
    _percentile(95, "95th percentile of the latency of one query"),
    _percentile(99, "99th percentile of the latency of one query", tables=_BENCH, leaves=15),
    _percentile(99.9, "99.9th percentile of the latency of one query", gate=False),
    Metric("speedup", "faster", "FP32's median latency over the candidate's, on the same runtime and threads",
           _speedup, "{:.2f}x",
           tables=_BOTH, gate="relative"),
    Metric("throughput", "texts/s", "texts that one process answers in a second", _of(Entry.throughput), "{:.1f}",
           tables=_BENCH, leaves=12, compared=Compared("rate", THROUGHPUT, strict=True), key="texts_per_second"),
    Metric("end_to_end_ms", "end-to-end ms", "median time from text to answer, tokenisation included", _of(Entry.end_to_end_ms),
           tables=_BENCH, leaves=11, compared=Compared("time", END_TO_END, strict=True, fewest=SAMPLES_FOR[50]),
           key="end_to_end_p50_ms"),
    Metric("tokenise_ms", "tokenise ms", "median time to tokenise one query", _of(Entry.tokenise_ms),
           compared=Compared("time", TOKENISE, fewest=SAMPLES_FOR[50])),
    Metric("cold_start_ms", "cold ms", "time from the start of a process to its first answer", _of(Entry.cold_start_ms),
           "{:.0f}", tables=_BENCH, leaves=4, compared=Compared("time", COLD_START)),
    Metric("macs", "MACs", "multiply-accumulates of the encoder's layers for one eval text, on average",
           _of(lambda entry: entry.macs), "{:,.0f} M", scale=1e6, tables=_RUN, leaves=14, gate="any"),
    Metric("parameters", "params M", "weights of the model, embeddings and head included",
           _of(lambda entry: entry.parameters), scale=1e6, tables=_RUN, leaves=7, gate="any"),
    Metric("int8_coverage", "INT8", "share of the matrix products that ran in INT8, by multiply-accumulates; 0 for FP32",
           _of(lambda entry: entry.coverage.share if entry.coverage else None), "{:.1%}", tables=_RUN, leaves=5,
           gate="absolute"),
    Metric("unknown_share", "unknown", "share of the tokens of the eval texts that the tokenizer does not know",
           _of(lambda entry: entry.texts.unknown_share if entry.texts else None), "{:.1%}", gate="any"),
    Metric("cut_share", "cut", "share of the eval texts that are longer than the longest input",
           _of(lambda entry: entry.texts.cut_share if entry.texts else None), "{:.1%}", gate="any"),
    Metric("size_mb", "size MB", "size of the model's files", _of(lambda entry: entry.size_bytes / 1e6), "{:.1f}",
           tables=_BOTH, leaves=10, gate="any", compared=Compared("amount", strict=True)),
    Metric("peak_rss_mb", "RSS MB", "largest resident memory of a process that serves only this model", _of(Entry.peak_rss_mb),
           "{:.0f}", tables=_BOTH, leaves=6, gate="any", compared=Compared("amount", PEAK_RSS, strict=True)),
    Metric("pss_mb", "PSS MB", "memory after the last query, pages that others share counted by their share", _of(Entry.pss_mb),
           "{:.0f}", tables=_BENCH, leaves=1, compared=Compared("amount", PSS)),
    Metric("load_ms", "load ms", "time to open the model, compile it and have it ready", _of(Entry.load_ms), "{:.0f}",
           tables=_BOTH, leaves=2, gate="any", compared=Compared("time", LOAD)),
    Metric("energy_mj", "mJ/text", "energy that the whole CPU package took for one text", _of(Entry.energy_mj),
           tables=_BENCH, leaves=9, compared=Compared("amount", ENERGY), key="energy_mj_per_text"),
    Metric("roofline_ratio", "roofline", "median latency over the time that the same multiply-accumulates take at this core's "
           "INT8 rate", _of(Entry.roofline_ratio), "{:.1f}x", gate="any"),
)  # fmt: skip
METRICS = {metric.name: metric for metric in _ALL}
GATED = tuple(name for name, metric in METRICS.items() if metric.gate)
"""Metrics that a recipe may set a gate on."""
FORMER_NAMES = {"floor_ratio": "roofline_ratio"}
"""Name in recipes and reports of version 0.1 -> present name."""


def metric_named(name: str) -> Metric:
    """The metric of a name; one that a recipe names itself has no line of its own.

    Raises:
        KeyError: there is none.
    """
    if name in METRICS or not is_own(name):
        return METRICS[name]
    title = name.rpartition(":")[2]
    return Metric(name, title, f"the recipe's own metric {name}", lambda entry, _: entry.score(name), "{:.4f}", gate="any")


def in_table(table: Table) -> list[Metric]:
    """The metrics of a table, in the order of its columns."""
    return [metric for metric in METRICS.values() if table in metric.tables]


def first_to_leave() -> list[Metric]:
    """The metrics whose columns are dropped from a table that is too wide for the terminal, in that order."""
    return sorted((metric for metric in METRICS.values() if metric.leaves), key=lambda metric: metric.leaves)
