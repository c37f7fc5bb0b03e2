"""Section: several reports beside each other, each with its best model. Verdicts between them come from compare/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebert.report.compare.comparison import compare
from edgebert.report.entry import Entry
from edgebert.report.page import differences
from edgebert.report.page.distribution import curve, picture_of
from edgebert.report.page.palette import FILLED, SERIES
from edgebert.report.page.parts import Cell, PageColumn, Picture, Section, Table, metric_column, number, text_columns, words
from edgebert.report.page.source import PageSource
from edgebert.report.page.summary import fastest_of_each_load, load_of


def section(sources: Sequence[PageSource]) -> Section:
    """The section; empty where there is only one report."""
    if len(sources) < 2:
        return Section("beside", "Side by side")
    first, *others = sources
    compared = [compare(first.report, other.report, names=(first.name, other.name)) for other in others]
    lead = (
        f"The best model of each report, and every model of {first.name} against its namesake in the others. Latencies of "
        "different machines, loads or texts are shown, and not judged.",
        *differences.rule(compared[0]),
    )
    return Section(
        "beside",
        "Side by side",
        lead,
        pictures=(*_curves(sources), *differences.interval_pictures(compared)),
        tables=(_table(sources), differences.headlines(compared)),
        folded=tuple(differences.tables(compared)),
    )


def best(source: PageSource) -> Entry:
    """The best entry of the verdict, or without one the fastest under the first load."""
    return source.verdict.best.entry if source.verdict else fastest_of_each_load(source)[0]


def _table(sources: Sequence[PageSource]) -> Table:
    rows = []
    for source in sources:
        entry, report = best(source), source.report
        status = source.verdict.status if source.verdict else ""
        score = report.value(entry, report.task_metrics[0]) if report.task_metrics else None
        rows.append(
            (
                words(source.name),
                Cell(status or "no gates", status, {"PASSED": "good", "FAILED": "bad"}.get(status)),
                words(source.label(entry)),
                words(load_of(entry)),
                number(entry.percentile_ms(50), "{:.3f}"),
                number(entry.percentile_ms(90), "{:.3f}"),
                number(source.speedup(entry), "{:.2f}x"),
                number(score, "{:.4f}"),
                number(entry.size_bytes / 1e6, "{:.1f}"),
                words(report.environment.board or report.environment.cpu),
                words(report.environment.fingerprint[:8]),
            )
        )
    columns = (
        *text_columns("report", "verdict", "best model", "load"),
        *map(metric_column, ("p50_ms", "p90_ms")),
        PageColumn("faster", meaning="than the baseline of the same report"),
        PageColumn("score", meaning="the task's first metric"),
        metric_column("size_mb"),
        PageColumn("machine", numeric=False),
        PageColumn("fingerprint", numeric=False, meaning="equal on the same machine with the same libraries"),
    )
    return Table("The best model of each report", columns, tuple(rows))


def _curves(sources: Sequence[PageSource]) -> tuple[Picture, ...]:
    named = [(source.name, best(source)) for source in sources]
    timed = [(index, name, entry) for index, (name, entry) in enumerate(named) if len(entry.latencies_ms())]
    if not timed:
        return ()
    picture = picture_of(
        "Latency of the best models: share of queries that took no longer",
        f"Cumulative distribution of latency: the best model of {len(timed)} reports; percentiles are in the table.",
        [_curve(index, name, entry) for index, name, entry in timed],
        [(name, entry) for _, name, entry in timed],
    )
    return (picture,)


def _curve(index: int, name: str, entry: Entry) -> dict[str, Any]:
    colour = {"color": f"--series-{index % SERIES + 1}"}
    marker = {"symbol": FILLED[index % len(FILLED)], "size": 9, "maxdisplayed": 8, **colour}
    return curve(name, entry, colour, mode="lines+markers", marker=marker)
