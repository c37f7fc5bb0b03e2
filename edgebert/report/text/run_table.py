"""The check's result as rows of text, for the terminal and for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.report.report import Entry, Report
from edgebert.report.verdict import Verdict

DROPPED_FIRST = ("load_ms", "macro_f1", "int8_coverage", "peak_rss_mb", "parameters", "agreement", "size_mb", "p90_ms", "macs")
SHOWN_WHEN_CHANGED = ("macs", "parameters")
"""Quantising leaves these as they are: where no stage removed anything, a column of them would say nothing."""


@dataclass(frozen=True)
class RunColumn:
    """One column: its title, the metric and how it is written."""

    title: str
    metric: str
    form: str
    unit: float = 1.0
    """What the metric is divided by."""


COLUMNS = (
    RunColumn("agree", "agreement", "{:.4f}"),
    RunColumn("p50 ms", "p50_ms", "{:.2f}"),
    RunColumn("p90 ms", "p90_ms", "{:.2f}"),
    RunColumn("faster", "speedup", "{:.2f}x"),
    RunColumn("MACs", "macs", "{:,.0f} M", unit=1e6),
    RunColumn("params M", "parameters", "{:.2f}", unit=1e6),
    RunColumn("INT8", "int8_coverage", "{:.1%}"),
    RunColumn("size MB", "size_mb", "{:.1f}"),
    RunColumn("RSS MB", "peak_rss_mb", "{:.0f}"),
    RunColumn("load ms", "load_ms", "{:.0f}"),
)


def columns_for(report: Report) -> list[RunColumn]:
    """The task's own metrics, then those that every task has and that say something here."""
    unchanged = [metric for metric in SHOWN_WHEN_CHANGED if len({report.value(item, metric) for item in report.entries}) == 1]
    unchanged += [] if any(report.value(item, "int8_coverage") for item in report.entries) else ["int8_coverage"]
    own = [RunColumn(metric, metric, "{:.4f}") for metric in report.task_metrics]
    return [*own, *(column for column in COLUMNS if column.metric not in unchanged)]


def cells(report: Report, entry: Entry, columns: Sequence[RunColumn]) -> list[str]:
    """One row; what was not measured is n/a."""
    return [_cell(report, entry, column) for column in columns]


def _cell(report: Report, entry: Entry, column: RunColumn) -> str:
    value = report.value(entry, column.metric)
    if value is None:
        return "n/a"
    baseline = report.baseline_of(entry)
    if column.metric == "macs" and value and baseline and baseline is not entry and baseline.macs:
        return f"1/{baseline.macs / value:.1f}"
    return column.form.format(value / column.unit)


def standing(verdict: Verdict, entry: Entry) -> str:
    """FP32, step, PASSED or FAILED, and which one is kept."""
    if entry.role == "step":
        return "step"
    judged = next((item for item in verdict.judged_entries if item.entry is entry), None)
    if judged is None:
        return "FP32"
    return ("PASSED" if judged.passed else "FAILED") + (", best" if judged is verdict.best else "")


def text_table(report: Report, verdict: Verdict, width: int) -> tuple[list[str], list[str]]:
    """For the terminal: lines that fit the width, and the titles of the columns that had to go for it."""
    columns, gone = columns_for(report), []
    lines = _aligned(report, verdict, columns)
    for metric in DROPPED_FIRST:
        if len(lines[0]) <= width:
            break
        gone += [column.title for column in columns if column.metric == metric]
        columns = [column for column in columns if column.metric != metric]
        lines = _aligned(report, verdict, columns)
    return lines, gone


def _aligned(report: Report, verdict: Verdict, columns: Sequence[RunColumn]) -> list[str]:
    rows = [["model", *(column.title for column in columns), "verdict"]]
    rows += [[entry.name, *cells(report, entry, columns), standing(verdict, entry)] for entry in report.entries]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    texts = (0, len(widths) - 1)
    return [
        "  ".join(
            cell.ljust(width) if place in texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def markdown_table(report: Report, verdict: Verdict) -> str:
    """For the model card."""
    columns = columns_for(report)
    lines = [["model", *(column.title for column in columns), "verdict"], ["---", *("--:" for _ in columns), "---"]]
    lines += [[entry.name, *cells(report, entry, columns), standing(verdict, entry)] for entry in report.entries]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict and its reasons."""
    best = verdict.best
    lines = [f"{verdict.status}: {best.entry.name}" + ("" if verdict.passed else " is the best there is, but misses a gate")]
    return lines + [f"  {result.reason}" for result in best.results]
