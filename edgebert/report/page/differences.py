"""Section: which differences are real. The findings of compare/ as tables, and a picture of the intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from edgebert.report.compare.amounts import points, share
from edgebert.report.compare.findings import Comparison, Finding, PairFindings
from edgebert.report.compare.lines import RULE, headline
from edgebert.report.page.palette import label_axis, lines, rounded, tick
from edgebert.report.page.parts import NOT_MEASURED, Cell, PageColumn, Picture, Section, Table, number, text_columns, words
from edgebert.report.page.source import PageSource

MEDIAN = "p50_ms"
GOOD, BAD = ("faster", "smaller", "more-accurate"), ("slower", "larger", "less-accurate")
MARKS = {
    "faster": ("circle", "--good"),
    "slower": ("x", "--bad"),
    "equivalent": ("square", "--series-1"),
    "inconclusive": ("diamond-open", "--series-5"),
}
"""Verdict with an interval -> symbol and colour of its mark."""
ARROW = " -> "
NEAR = (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2)
FAR = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50, 100)
"""Speeds at the ticks of an axis, near 1 and over a wide range."""


def section(source: PageSource) -> Section:
    """The section: the candidates of one report against their baselines."""
    title = "Which differences are real"
    if not source.within.pairs:
        return Section("differences", title)
    pictures = interval_pictures([source.within])
    return Section(
        "differences",
        title,
        rule(source.within),
        pictures=pictures,
        tables=() if pictures else (headlines([source.within]),),
        folded=tuple(tables([source.within])),
    )


def rule(comparison: Comparison) -> tuple[str, ...]:
    """The rule that decides a verdict."""
    band = share(comparison.options.band)
    text = RULE.format(band=band, points=f"{comparison.options.accuracy_band * 100:g}")
    return (f"{text} Intervals are bootstrapped by process.",)


def named(comparisons: Iterable[Comparison]) -> list[tuple[str, PairFindings]]:
    """All pairs, each with a unique name."""
    pairs = [(comparison, pair) for comparison in comparisons for pair in comparison.pairs]
    several = len({comparison.changed for comparison, _ in pairs}) > 1
    names = [f"{pair.name}{f' in {comparison.changed}' if several else ''}" for comparison, pair in pairs]
    count = Counter(names)
    return [
        (f"{name}, {pair.target}, {pair.setting}" if count[name] > 1 else name, pair)
        for name, (_, pair) in zip(names, pairs, strict=True)
    ]


def interval_pictures(comparisons: Sequence[Comparison]) -> tuple[Picture, ...]:
    """A picture of each pair's ratio of medians with its 95 % interval; none where nothing could be compared."""
    estimated = [
        (name, finding)
        for name, pair in named(comparisons)
        for finding in pair.findings
        if finding.metric == MEDIAN and finding.interval and finding.ratio and finding.verdict in MARKS
    ]
    if not estimated:
        return ()
    return (_picture(estimated, comparisons[0].options.band),)


def _picture(estimated: Sequence[tuple[str, Finding]], band: float) -> Picture:
    verdicts = "; ".join(f"{name}: {finding.verdict}" for name, finding in estimated)
    return Picture(
        title="Median latency: how many times as fast, with its 95 % interval",
        label=f"Speed of {len(estimated)} pairs with their 95 % intervals. {verdicts}.",
        data=[series for verdict in MARKS if (series := _series(estimated, verdict))["x"]],
        layout={
            "xaxis": {"title": {"text": "times as fast"}, "type": "log", **_ticks(estimated)},
            "yaxis": label_axis([_tick(name) for name, _ in estimated]),
            "shapes": [_band(band)],
            "showlegend": True,
        },
        table=_median_table(estimated),
        height=150 + 46 * len(estimated),
        opened=True,
    )


def _ticks(estimated: Sequence[tuple[str, Finding]]) -> dict[str, Any]:
    """Ticks at round speeds over the range of the intervals, 1 among them."""
    ends = [1 / end for _, finding in estimated for end in finding.interval or ()] + [1.0]
    near = [speed for speed in NEAR if min(ends) * 0.97 <= speed <= max(ends) * 1.03]
    shown = (
        near
        if max(ends) < 1.25 and min(ends) > 0.8
        else [speed for speed in FAR if min(ends) / 1.2 <= speed <= max(ends) * 1.2]
    )
    return {"tickvals": shown, "ticktext": [f"{speed:g}" for speed in shown]}


def _tick(name: str) -> str:
    """The changed entry's name alone; the table has the whole pair."""
    return tick(name.rpartition(ARROW)[2])


def _band(band: float) -> dict[str, Any]:
    """The equivalence band, from one end of the picture to the other."""
    ends = {"x0": 1 / (1 + band), "x1": 1 + band, "y0": 0, "y1": 1, "yref": "paper"}
    return {"type": "rect", **ends, "fillcolor": "--line", "line": {"width": 0}, "layer": "below"}


def _series(estimated: Sequence[tuple[str, Finding]], verdict: str) -> dict[str, Any]:
    """The marks of all pairs of one verdict. Ratios are inverted: a smaller latency is a greater speed."""
    symbol, colour = MARKS[verdict]
    these = [(index, name, finding) for index, (name, finding) in enumerate(estimated) if finding.verdict == verdict]
    speeds = [1 / (finding.ratio or 1) for _, _, finding in these]
    ends = [sorted(1 / end for end in finding.interval or (1, 1)) for _, _, finding in these]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": verdict,
        "x": [rounded(speed) for speed in speeds],
        "y": [index for index, _, _ in these],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [rounded(high - speed) for (_, high), speed in zip(ends, speeds, strict=True)],
            "arrayminus": [rounded(speed - low) for (low, _), speed in zip(ends, speeds, strict=True)],
            "color": colour,
            "thickness": 2,
            "width": 6,
        },
        "text": [lines((name, verdict, *finding.reason.split("; "))) for _, name, finding in these],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "color": colour, "size": 12, "line": {"color": colour, "width": 2}},
    }


def _median_table(estimated: Sequence[tuple[str, Finding]]) -> Table:
    rows = [(words(name), verdict_cell(finding), words(finding.reason)) for name, finding in estimated]
    columns = text_columns("pair", "verdict", "reason")
    return Table("Median latency of each pair", columns, tuple(rows))


def verdict_cell(finding: Finding) -> Cell:
    """The verdict, marked where it is good or bad."""
    mark = "good" if finding.verdict in GOOD else "bad" if finding.verdict in BAD else None
    return Cell(finding.verdict, finding.verdict, mark)


def tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """A table of all metrics for each pair."""
    return [_table(name, pair) for name, pair in named(comparisons) if pair.findings]


def headlines(comparisons: Sequence[Comparison]) -> Table:
    """One line for each pair, and for each entry that has no counterpart."""
    rows = [(words(name), words(headline(pair))) for name, pair in named(comparisons)]
    for comparison in comparisons:
        for only, other, titles in (
            (comparison.ref, comparison.changed, comparison.missing),
            (comparison.changed, comparison.ref, comparison.extra),
        ):
            rows += [(words(f"only in {only}, not in {other}"), words("; ".join(titles)))] if titles else []
    columns = text_columns("model", "what changed")
    return Table("What changed, model by model", columns, tuple(rows))


def _table(name: str, pair: PairFindings) -> Table:
    rows = [
        (
            words(finding.metric),
            verdict_cell(finding),
            number(finding.ref, "{:.4g}"),
            number(finding.changed, "{:.4g}"),
            _change(finding),
            _interval(finding),
            words(finding.reason),
        )
        for finding in pair.findings
    ]
    columns = (
        *text_columns("metric", "verdict"),
        PageColumn("reference"),
        PageColumn("changed"),
        PageColumn("change", meaning="ratio; of answers the difference"),
        *text_columns("95 % interval", "reason"),
    )
    remarks = [f"Differs: {'; '.join(pair.differs)}."] if pair.differs else []
    return Table(
        f"All metrics of {name}", columns, tuple(rows), note=" ".join([*remarks, *(f"Note: {note}." for note in pair.notes)])
    )


def _change(finding: Finding) -> Cell:
    if finding.difference is not None:
        return Cell(points(finding.difference), finding.difference)
    return number(finding.ratio, "{:.3f}")


def _interval(finding: Finding) -> Cell:
    if finding.interval is None:
        return Cell(NOT_MEASURED)
    low, high = finding.interval
    if finding.difference is not None:
        return words(f"{low * 100:+.2f} to {high * 100:+.2f}")
    return words("exact" if low == high else f"{low:.3f} to {high:.3f}")
