"""Section: precision, recall and F1 of each label, of the best model beside its baseline."""

from __future__ import annotations

from edgebert.report.class_scores import ClassScore, class_scores
from edgebert.report.page.parts import Cell, PageColumn, Section, Table, number, words
from edgebert.report.page.side_by_side import best
from edgebert.report.page.source import PageSource

OPEN = 20
"""Most labels whose table is open from the start."""


def section(source: PageSource) -> Section:
    """The section; empty where no labels were scored."""
    entry = best(source)
    baseline = source.baseline_of(entry)
    scores = class_scores(source.report, entry)
    theirs = class_scores(source.report, baseline) if baseline and baseline is not entry else []
    beside = {score.label: score for score in theirs}
    rows = tuple(_row(score, beside.get(score.label)) for score in scores if score.right or score.predicted)
    if not rows:
        return Section("labels", "Labels")
    table = Table(
        f"{source.label(entry)}, label by label", _columns(bool(beside)), tuple(row[: 7 if beside else 5] for row in rows)
    )
    lead = ("Macro F1 is the mean of these F1. A label with few eval examples has an F1 that a few answers change.",)
    if len(rows) > OPEN:
        return Section("labels", "Labels", lead, folded=(table,))
    return Section("labels", "Labels", lead, tables=(table,))


def _columns(beside: bool) -> tuple[PageColumn, ...]:
    columns = (
        PageColumn("label", numeric=False),
        PageColumn("examples", meaning="eval examples that have the label"),
        PageColumn("precision", meaning="share of the examples given the label that have it"),
        PageColumn("recall", meaning="share of the examples with the label that are given it"),
        PageColumn("F1", meaning="harmonic mean of precision and recall"),
    )
    return (*columns, PageColumn("baseline F1"), PageColumn("change", meaning="F1 less the baseline's")) if beside else columns


def _row(score: ClassScore, theirs: ClassScore | None) -> tuple[Cell, ...]:
    return (
        words(score.label),
        number(float(score.right), "{:,.0f}"),
        number(score.precision, "{:.3f}"),
        number(score.recall, "{:.3f}"),
        number(score.f1, "{:.3f}"),
        number(theirs.f1 if theirs else None, "{:.3f}"),
        number(score.f1 - theirs.f1 if theirs else None, "{:+.3f}"),
    )
