"""Section: accuracy against latency, with the Pareto front; and the trials of `quantize: auto`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.report.entry import Entry
from edgebert.report.page.palette import label_axis, lines, plain, style
from edgebert.report.page.parts import (
    Cell,
    PageColumn,
    Picture,
    Section,
    Table,
    metric_column,
    number,
    short,
    text_columns,
    words,
)
from edgebert.report.page.source import PageSource
from edgebert.report.search_record import SearchRecord, SearchTrial

ROLES = {"baseline": "FP32", "candidate": "candidate", "intermediate": "intermediate"}
SHORT = 34
"""Longest name of a trial beside the axis, in characters."""


@dataclass(frozen=True)
class Point:
    """One model in the picture."""

    label: str
    entry: Entry
    index: int
    """Index of the entry in its report."""
    p50: float
    """Median latency, ms."""
    score: float
    """The task's first metric."""


def section(source: PageSource) -> Section:
    """The section: a picture of all models, and one of each search."""
    pictures = [picture for picture in (tradeoff(source), *(trials(*searched) for searched in searches(source))) if picture]
    rows = source.report.examples
    lead = (f"{rows:,} eval texts: one of them is {1 / rows:.2%}.",) if rows else ()
    return Section("tradeoff", "Accuracy against latency", lead, pictures=tuple(pictures), folded=tuple(untimed(source)))


def points(source: PageSource) -> list[Point]:
    """The models with both numbers, under the load that most models have: other loads are not comparable."""
    report = source.report
    metric = report.task_metrics[0] if report.task_metrics else None
    if metric is None:
        return []
    scored = []
    for index, (label, entry) in enumerate(source.labelled):
        p50, score = entry.percentile_ms(50), report.value(entry, metric)
        if p50 is not None and score is not None:
            scored.append(Point(label, entry, index, p50, score))
    count = Counter((point.entry.setting.name, point.entry.target.batch) for point in scored)
    usual = max(count, key=lambda load: count[load], default=None)
    return [point for point in scored if (point.entry.setting.name, point.entry.target.batch) == usual]


def front(scored: Sequence[Point]) -> list[Point]:
    """The points that no other point beats in both latency and score, fastest first."""
    kept: list[Point] = []
    for point in sorted(scored, key=lambda point: (point.p50, -point.score)):
        if not kept or point.score > kept[-1].score:
            kept.append(point)
    return kept


def tradeoff(source: PageSource) -> Picture | None:
    """A mark for each model; None where fewer than two have both numbers."""
    scored = points(source)
    if len(scored) < 2:
        return None
    metric, best = source.report.task_metrics[0], front(scored)
    names = ", ".join(point.label for point in best)
    return Picture(
        title=f"{metric.capitalize()} against median latency: further up and to the left is better",
        label=f"{metric} against median latency of {len(scored)} models. On the Pareto front, fastest first: {names}.",
        data=[_front_line(best), *(_mark(source, point, metric, point in best) for point in scored)],
        layout={
            "xaxis": {"title": {"text": "median latency, ms"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": plain(metric)}},
            "hovermode": "closest",
        },
        table=_tradeoff_table(source, scored, best, metric),
        log_axis="x",
    )


def _front_line(best: Sequence[Point]) -> dict[str, Any]:
    """The front as a line of steps: between two of its models nothing better was measured."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [round(point.p50, 6) for point in best],
        "y": [round(point.score, 6) for point in best],
        "line": {"shape": "hv", "color": "--grey", "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
    }


def _mark(source: PageSource, point: Point, metric: str, leading: bool) -> dict[str, Any]:
    look = style(point.entry, point.index)
    hover = [point.label, ROLES[point.entry.role], f"{metric} {point.score:.4f}", f"p50 {short(point.p50)} ms"]
    speedup = source.speedup(point.entry)
    hover += [f"{speedup:.2f}x as fast as its baseline"] if speedup else []
    hover += [f"{short(point.entry.size_bytes / 1e6)} MB"] + (["on the Pareto front"] if leading else [])
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(point.label),
        "x": [round(point.p50, 6)],
        "y": [round(point.score, 6)],
        "text": [lines(hover)],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 13, "line": {"width": 2, "color": look.colour}},
    }


def _tradeoff_table(source: PageSource, scored: Sequence[Point], best: Sequence[Point], metric: str) -> Table:
    rows = [
        (
            words(point.label),
            words(ROLES[point.entry.role]),
            number(point.p50, "{:.3f}"),
            number(point.score, "{:.4f}"),
            number(source.speedup(point.entry), "{:.2f}x"),
            words("yes" if point in best else "no"),
        )
        for point in sorted(scored, key=lambda point: point.p50)
    ]
    columns = (
        *text_columns("model", "role"),
        metric_column("p50_ms"),
        PageColumn(metric),
        PageColumn("faster"),
        PageColumn("on the Pareto front", numeric=False),
    )
    return Table(f"{metric} and median latency", columns, tuple(rows))


def searches(source: PageSource) -> list[tuple[str, SearchRecord]]:
    """The searches of a report that have trials, each with the name of its entry."""
    return [(label, entry.search) for label, entry in source.labelled if entry.search and entry.search.trials]


def trials(label: str, search: SearchRecord) -> Picture | None:
    """A mark for each timed trial of a search, in order; the table has all trials. None where none was timed."""
    timed = [trial for trial in search.trials if trial.ratio is not None]
    if not timed:
        return None
    kept = sum(trial.kept for trial in search.trials)
    return Picture(
        title=f"What the search for {label} tried, in order: beyond 1 it was faster than the best so far",
        label=f"{len(search.trials)} trials of the search for {label}, of which {kept} were kept, on {search.rows} eval rows.",
        data=[series for series in (_trials(timed, True), _trials(timed, False)) if series["x"]],
        layout={
            "xaxis": {"title": {"text": "times as fast"}},
            "yaxis": label_axis([plain(trial.what, SHORT) for trial in timed]),
            "shapes": [_line_at_one()],
        },
        table=trial_table(label, search),
        height=130 + 26 * len(timed),
    )


def _line_at_one() -> dict[str, Any]:
    line = {"color": "--soft", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _trials(timed: Sequence[SearchTrial], kept: bool) -> dict[str, Any]:
    these = [(index, trial) for index, trial in enumerate(timed) if trial.kept == kept]
    symbol, colour = ("circle", "--series-1") if kept else ("x-thin-open", "--series-2")
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "kept" if kept else "not kept",
        "x": [trial.ratio for _, trial in these],
        "y": [index for index, _ in these],
        "text": [lines(_hover(trial)) for _, trial in these],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": colour, "symbol": symbol, "size": 11, "line": {"width": 2, "color": colour}},
    }


def _hover(trial: SearchTrial) -> list[str]:
    parts = [trial.what, f"{trial.ratio:.3f}x the speed of the best so far"]
    parts += [f"score {trial.score:.4f}"] if trial.score is not None else []
    return [*parts, *([trial.note] if trial.note else []), "kept" if trial.kept else "not kept"]


def trial_table(label: str, search: SearchRecord) -> Table:
    """A row for each trial of a search, in order."""
    rows = [
        (
            words(trial.what),
            number(trial.ratio, "{:.3f}x"),
            number(trial.score, "{:.4f}"),
            Cell("kept" if trial.kept else "", "kept" if trial.kept else "not", "good" if trial.kept else None),
            words(trial.note),
        )
        for trial in search.trials
    ]
    columns = (
        PageColumn("trial", numeric=False),
        PageColumn("faster", meaning="over the best so far, measured in turns"),
        PageColumn("score", meaning=f"the task's first metric on {search.rows} eval rows"),
        *text_columns("kept", "why"),
    )
    return Table(f"All trials of the search for {label}", columns, tuple(rows))


def untimed(source: PageSource) -> list[Table]:
    """The tables of trials of the searches that have no picture."""
    return [trial_table(*searched) for searched in searches(source) if trials(*searched) is None]
