"""The report of `bench` as a table for the terminal, with remarks and verdicts, and as values for `bench --json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.core.text_table import aligned
from edgebert.report.compare.amounts import plain
from edgebert.report.compare.comparable import obstacles
from edgebert.report.compare.comparison import compare_within
from edgebert.report.compare.lines import headline
from edgebert.report.compare.pairing import Pair, baseline_under_load
from edgebert.report.entry import SAMPLES_FOR, Entry
from edgebert.report.metric_table import Metric, first_to_leave, in_table
from edgebert.report.report import Report
from edgebert.report.text.disturbances import machine_lines
from edgebert.tasks.metrics import METRIC_NAMES

NOT_KNOWN = "n/a"
PERCENTILES = (50, 90, 99)


def speedup(report: Report, entry: Entry) -> float | None:
    """How many times as fast as the baseline under the same load: by median latency, offline by throughput.

    None where the two cannot be compared, for example because of other threads or another batch.
    """
    baseline = baseline_under_load(report, entry)
    if baseline is None or obstacles(report, report, Pair(baseline, entry, one_run=True), across_devices=False):
        return None
    return entry.times_as_fast(baseline)


def bound_held(entry: Entry) -> bool | None:
    """Whether latency stayed within its bound; None without a bound, or with too few samples to decide.

    A lower percentile that is above the bound shows with fewer samples that the bound was missed.
    """
    bound, percent = entry.setting.bound_ms, entry.setting.bound_percent
    if bound is None:
        return None
    if any((value := entry.percentile_ms(lower)) is not None and value > bound for lower in SAMPLES_FOR if lower <= percent):
        return False
    return None if entry.percentile_ms(percent) is None else True


ANSWERS = METRIC_NAMES
"""Names of the metrics of answers."""


def columns_for(report: Report) -> list[Metric]:
    """The metrics that are columns of this report's table."""
    return [metric for metric in in_table("bench") if metric.name not in ANSWERS or metric.name in report.task_metrics]


def value_of(report: Report, entry: Entry, metric: Metric) -> float | None:
    """A metric's value; the speed-up is over the baseline under the same load."""
    return speedup(report, entry) if metric.name == "speedup" else report.value(entry, metric.name)


def text_table(report: Report, width: int) -> list[str]:
    """Lines for the terminal: a row for each entry, then the columns that were left out."""
    grid = _grid(report)
    unknown = [name for name in PERCENTILES_AND_BOUND if name in grid and _is_unknown(grid[name])]
    silent = [name for name in grid if _is_unknown(grid[name]) and name not in (*unknown, *ONLY_WHERE_ASKED)]
    grid = {name: cells for name, cells in grid.items() if not _is_unknown(cells) or name in unknown}
    gone = []
    for title in (*(metric.title for metric in first_to_leave()), *OTHERS_TO_LEAVE):
        if max(map(len, _aligned(grid))) <= width:
            break
        gone += [title] if grid.pop(title, None) else []
    lines = [line.rstrip() for line in _aligned(grid)]
    lines += [f"(not measured: {', '.join(silent)})"] if silent else []
    lines += [f"(no room for {', '.join(gone)}: widen the terminal, or use --json)"] if gone else []
    return lines


PERCENTILES_AND_BOUND = (*(f"p{percent} ms" for percent in PERCENTILES), "bound")
"""Columns that stay although no entry has a value: too few samples is a result."""
ONLY_WHERE_ASKED = ("faster", *ANSWERS)
"""Columns that are not listed as `not measured`: they need a baseline or labelled data."""
OTHERS_TO_LEAVE = ("bound", "length", "t/b")
"""Columns that are no metric, and are dropped from a table that is too wide after all others."""


def _grid(report: Report) -> dict[str, list[str]]:
    """Title of each column, in order -> a cell for each entry."""
    entries = report.entries
    grid: dict[str, list[str]] = {
        "model": [entry.name + (" (baseline)" if entry.role == "baseline" else "") for entry in entries],
        "runtime": [entry.target.runtime for entry in entries],
        "scenario": [entry.setting.model_copy(update={"lengths": "data"}).name for entry in entries],
        "t/b": [f"{entry.target.threads}/{entry.target.batch}" for entry in entries],
        "length": [_length(entry) for entry in entries],
    }
    if all(entry.name.startswith(f"{entry.target.runtime}/") for entry in entries):
        del grid["runtime"]  # the names begin with it
    for column in columns_for(report):
        values = [value_of(report, entry, column) for entry in entries]
        grid[column.title] = [NOT_KNOWN if value is None else column.form.format(value / column.scale) for value in values]
        if column.name == "p99_ms" and any(entry.setting.bound_ms for entry in entries):
            grid["bound"] = [_bound(entry) for entry in entries]
    return grid


def _length(entry: Entry) -> str:
    """The fixed number of tokens, or the source of the lengths and their median."""
    parts = [item.lengths.values for item in entry.rounds if len(item.lengths)]
    if entry.setting.lengths.isdecimal() or not parts:
        return entry.setting.lengths
    return f"{entry.setting.lengths} ({np.median(np.concatenate(parts)):.0f})"


def _bound(entry: Entry) -> str:
    held = bound_held(entry)
    return NOT_KNOWN if held is None else "held" if held else "missed"


def _is_unknown(cells: Sequence[str]) -> bool:
    return set(cells) == {NOT_KNOWN}


def _aligned(grid: dict[str, list[str]]) -> list[str]:
    rows = list(zip(*([title, *cells] for title, cells in grid.items()), strict=True))
    return aligned(rows, right=[index for index, title in enumerate(grid) if title not in ("model", "runtime", "scenario")])


def remark_lines(report: Report) -> list[str]:
    """Remarks below the table: missing percentiles, bounds, disturbances, overhead, entries that were not compared."""
    lines = [
        _few_samples(report),
        *_bounds(report),
        *(_marks(entry) for entry in report.entries),
        *machine_lines(report),
        _overhead(report),
        _apart(report),
    ]
    return [line for line in lines if line]


def _few_samples(report: Report) -> str:
    """The number of queries needed for the percentiles that an entry lacks."""
    lacking = [(percent, entry) for entry in report.entries for percent in PERCENTILES if entry.percentile_ms(percent) is None]
    lacking += [
        (entry.setting.bound_percent, entry) for entry in report.entries if entry.setting.bound_ms and bound_held(entry) is None
    ]
    if not lacking:
        return ""
    percent, entry = max(lacking, key=lambda item: item[0])
    needed = SAMPLES_FOR[percent]
    count, rounds = len(entry.latencies_ms()), max(len(entry.rounds), 1)
    enough = f"--queries {math.ceil(needed / rounds)} in {counted(rounds, 'round')}"
    return f"p{percent} needs {needed} samples, here are {count}: {enough}"


def _highest(entry: Entry) -> str:
    """The highest percentile, up to that of the bound, for which there are enough samples."""
    known = {lower: value for lower in SAMPLES_FOR if (value := entry.percentile_ms(lower)) is not None}
    percent = max(lower for lower in known if lower <= entry.setting.bound_percent)
    return f"p{percent:g} {known[percent]:.2f} ms"


def _bounds(report: Report) -> list[str]:
    return [
        f"{entry.name}, {entry.setting.name}: {_highest(entry)}, the bound of {entry.setting.bound_ms:g} ms "
        f"at p{entry.setting.bound_percent} {'held' if held else 'was missed'}"
        for entry in report.entries
        if (held := bound_held(entry)) is not None
    ]


def _marks(entry: Entry) -> str:
    """The disturbances of an entry in one line; empty where there were none."""
    rounds = len(entry.rounds)
    unsettled = sum(item.stable is False for item in entry.rounds)
    throttled = sum(item.throttled is True for item in entry.rounds)
    marks = [f"latency had not settled in {unsettled} of {counted(rounds, 'round')}"] if unsettled else []
    marks += [f"the machine throttled in {throttled} of {counted(rounds, 'round')}"] if throttled else []
    return f"{entry.name}, {entry.setting.name}, {entry.target.name}: {'; '.join(marks)}" if marks else ""


def _overhead(report: Report) -> str:
    every = [item for entry in report.entries for item in entry.rounds]
    known = [item.overhead_ns for item in every if item.overhead_ns is not None]
    parts = [f"the loop itself costs {np.median(known) / 1e3:.2f} us a query, not subtracted"] if known else []
    pinned = sorted({item.pinned for item in every if item.pinned})
    parts += ["pinned to core " + " or ".join(",".join(map(str, cores)) for cores in pinned)] if pinned else []
    isas = sorted({isa for entry in report.entries for isa in entry.isas()})
    parts += [f"INT8 could use {' or '.join(isas)}"] if isas else []
    return "; ".join(parts)


def _apart(report: Report) -> str:
    """A remark where no candidate ran at the threads and batch of a baseline, with the options that help; else empty."""
    ran = [
        {(entry.target.threads, entry.target.batch) for entry in report.entries if entry.role == role}
        for role in ("baseline", "candidate")
    ]
    if not all(ran) or ran[0] & ran[1]:
        return ""
    return f"nothing was compared, for no two ran at the same threads and batch: add {way_out(ran[1])}"


def summary(report: Report) -> list[dict[str, Any]]:
    """The values of the table, an object for each entry; None: not measured."""
    return [
        {
            "name": entry.name,
            "role": entry.role,
            "target": entry.target.name,
            "threads": entry.target.threads,
            "batch": entry.target.batch,
            "setting": entry.setting.model_dump(mode="json"),
            "samples": len(entry.latencies_ms()),
            **{column.key or column.name: value_of(report, entry, column) for column in in_table("bench")},
            "bound_held": bound_held(entry),
            "unsettled_rounds": sum(item.stable is False for item in entry.rounds),
            "throttled_rounds": sum(item.throttled is True for item in entry.rounds),
        }
        for entry in report.entries
    ]


def verdict_lines(report: Report) -> list[str]:
    """The changes of each candidate against its baseline, in one line each; empty where there is no baseline.

    Raises:
        MissingPackage: scipy is not installed.
    """
    if all(entry.role != "baseline" for entry in report.entries):
        return []
    compared = compare_within(report)
    lines = [f"{title}: {headline(pair)}" for title, pair in zip(compared.titles, compared.pairs, strict=True)]
    lines += [f"{title} has no baseline on its threads, batch and load" for title in compared.missing]
    return [plain(line) for line in lines]


def way_out(loads: set[tuple[int, int]]) -> str:
    """The options that measure all models at the smallest of these (threads, batch)."""
    threads, batch = min(loads)
    return f"--threads {threads} --batch {batch}"


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 round`, `2 processes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"
