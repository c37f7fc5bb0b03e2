"""The check's result as rows of text, for the terminal and for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebert.report import Entry, Report
from edgebert.tasks import get_task
from edgebert.verdict import Verdict

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Column:
    """One column: its title, the metric and how it is written."""

    title: str
    metric: str
    form: str


COLUMNS = (
    Column("agree", "agreement", "{:.4f}"),
    Column("p50 ms", "p50_ms", "{:.2f}"),
    Column("p90 ms", "p90_ms", "{:.2f}"),
    Column("faster", "speedup", "{:.2f}x"),
    Column("size MB", "size_mb", "{:.1f}"),
    Column("RSS MB", "peak_rss_mb", "{:.0f}"),
    Column("load ms", "load_ms", "{:.0f}"),
)


def columns_for(report: Report) -> list[Column]:
    """The task's own metrics, then those that every task has."""
    return [*(Column(metric, metric, "{:.4f}") for metric in get_task(report.task).metrics), *COLUMNS]


def cells(report: Report, entry: Entry, columns: Sequence[Column]) -> list[str]:
    """One row; what was not measured is n/a."""
    values = [report.value(entry, column.metric) for column in columns]
    return ["n/a" if value is None else column.form.format(value) for column, value in zip(columns, values, strict=True)]


def standing(verdict: Verdict, entry: Entry) -> str:
    """FP32, PASSED or FAILED, and which one is kept."""
    judgement = next((item for item in verdict.judgements if item.entry is entry), None)
    if judgement is None:
        return "FP32"
    return ("PASSED" if judgement.passed else "FAILED") + (", best" if judgement is verdict.best else "")


def rich_table(report: Report, verdict: Verdict) -> Table:
    """For the terminal."""
    from rich.table import Table

    columns = columns_for(report)
    table = Table("model", *(column.title for column in columns), "verdict", box=None, pad_edge=False)
    for column in table.columns[1:-1]:
        column.justify = "right"
    for entry in report.entries:
        table.add_row(entry.name, *cells(report, entry, columns), standing(verdict, entry))
    return table


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
