"""The report and verdict of `compress` as a table of text, for the terminal and for the model card.

Its columns are metrics: lines of metric_table.py whose `tables` name it.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgebert.core.text_table import aligned
from edgebert.report.entry import Entry
from edgebert.report.metric_table import Metric, first_to_leave, in_table, metric_named
from edgebert.report.report import Report
from edgebert.report.verdict import Verdict

SHOWN_WHEN_CHANGED = ("macs", "parameters")
"""Metrics whose column is shown only where a stage changed them: quantising does not."""


def columns_for(report: Report) -> list[Metric]:
    """The metrics that are columns: those of the answers, then the others whose values differ in this report."""
    unchanged = [name for name in SHOWN_WHEN_CHANGED if len({report.value(item, name) for item in report.entries}) == 1]
    unchanged += [] if any(report.value(item, "int8_coverage") for item in report.entries) else ["int8_coverage"]
    answers = [metric_named(name) for name in report.task_metrics]
    return [*answers, *(metric for metric in in_table("run") if metric.name not in unchanged)]


def cells(report: Report, entry: Entry, columns: Sequence[Metric], verdict: Verdict | None = None) -> list[str]:
    """The cells of one row; n/a: not measured. `~`: a speed-up that is not told from noise, by the verdict's comparison."""
    return [_unsure(entry, column, verdict) + _cell(report, entry, column) for column in columns]


def _unsure(entry: Entry, column: Metric, verdict: Verdict | None) -> str:
    known = verdict.speedups.get(entry.name) if verdict and column.name == "speedup" else None
    return "~" if known and not known.sure else ""


def unsure_line(verdict: Verdict) -> str:
    """What `~` means, with the interval of each speed-up that has one; empty where no speed-up has it."""
    unsure = {name: known for name, known in verdict.speedups.items() if not known.sure}
    shown = [f"{name} {known.interval[0]:.2f}x to {known.interval[1]:.2f}x" for name, known in unsure.items() if known.interval]
    intervals = f": {'; '.join(shown)} (95 %)" if shown else ", for too few processes were measured"
    return f"~ not told from noise{intervals}" if unsure else ""


def _cell(report: Report, entry: Entry, column: Metric) -> str:
    value = report.value(entry, column.name)
    if value is None:
        return "n/a"
    baseline = report.baseline_of(entry)
    if column.name == "macs" and value and baseline and baseline is not entry and baseline.macs:
        return f"1/{baseline.macs / value:.1f}"
    return column.form.format(value / column.scale)


def status_of(verdict: Verdict, entry: Entry) -> str:
    """`FP32`, `intermediate`, `PASSED` or `FAILED`; the one that is kept has `, best`."""
    if entry.role == "intermediate":
        return "intermediate"
    judged = next((item for item in verdict.judged_entries if item.entry is entry), None)
    if judged is None:
        return "FP32"
    return ("PASSED" if judged.passed else "FAILED") + (", best" if judged is verdict.best else "")


def text_table(report: Report, verdict: Verdict, width: int) -> tuple[list[str], list[str]]:
    """Lines for the terminal that fit the width, and the titles of the columns that were dropped."""
    columns, gone = columns_for(report), []
    lines = _lines(report, verdict, columns)
    for metric in first_to_leave():
        if max(map(len, lines)) <= width:
            break
        gone += [metric.title] if metric in columns else []
        columns = [column for column in columns if column is not metric]
        lines = _lines(report, verdict, columns)
    return lines, gone


def _lines(report: Report, verdict: Verdict, columns: Sequence[Metric]) -> list[str]:
    rows = [["model", *(column.title for column in columns), "verdict"]]
    rows += [[entry.name, *cells(report, entry, columns, verdict), status_of(verdict, entry)] for entry in report.entries]
    return aligned(rows, right=range(1, len(columns) + 1))


def markdown_table(report: Report, verdict: Verdict) -> str:
    """The table in Markdown, for the model card."""
    columns = columns_for(report)
    lines = [["model", *(column.title for column in columns), "verdict"], ["---", *("--:" for _ in columns), "---"]]
    lines += [[entry.name, *cells(report, entry, columns, verdict), status_of(verdict, entry)] for entry in report.entries]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict, and the reason of each gate."""
    best = verdict.best
    lines = [f"{verdict.status}: {best.entry.name}" + ("" if verdict.passed else " is the best there is, but misses a gate")]
    return lines + [f"  {result.reason}" for result in best.results]
