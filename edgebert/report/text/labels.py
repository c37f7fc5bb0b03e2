"""Labels in the model card: their names, and the F1 of each, short enough to be read where there are many."""

from __future__ import annotations

from collections.abc import Sequence

from edgebert.report.class_scores import ClassScore, class_scores
from edgebert.report.entry import Entry
from edgebert.report.report import Report

FEW = 12
"""Most labels that are named in a sentence, or have a row each."""


def named_labels(labels: Sequence[str]) -> str:
    """`the labels a, b`; of many, their number and the first of them."""
    if len(labels) <= FEW:
        return f"the labels {', '.join(labels)}"
    return f"{len(labels)} labels ({', '.join(labels[:3])}, ..., {labels[-1]}; all are in config.json)"


def label_rows(report: Report, entry: Entry) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of label, eval examples, precision, recall, F1, and F1 of FP32: those to show, and those to fold away.

    All are shown where they are few; of many, those with the lowest F1. Labels without eval examples or predictions have no
    row.
    """
    baseline = report.baseline_of(entry)
    beside = {score.label: score for score in class_scores(report, baseline)} if baseline else {}
    scores = [score for score in class_scores(report, entry) if score.right or score.predicted]
    rows = [_row(score, beside.get(score.label)) for score in scores]
    if len(rows) <= FEW:
        return rows, []
    lowest = sorted(range(len(rows)), key=lambda index: (scores[index].f1, index))[:FEW]
    return [rows[index] for index in lowest], rows


def _row(score: ClassScore, fp32: ClassScore | None) -> list[str]:
    shares = [f"{value:.3f}" for value in (score.precision, score.recall, score.f1)]
    return [score.label, str(score.right), *shares, f"{fp32.f1:.3f}" if fp32 else "n/a"]
