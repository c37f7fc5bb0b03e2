"""Precision, recall and F1 of each label, from the statistics of macro F1 that a report holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgebert.report.entry import Entry
from edgebert.report.report import Report
from edgebert.tasks.metrics.label_sets import MACRO_F1_OF_SETS
from edgebert.tasks.metrics.macro_f1 import MACRO_F1


@dataclass(frozen=True)
class ClassScore:
    """The scores of one label. A share of nothing is 0."""

    label: str
    right: int
    """Number of eval examples that have the label."""
    predicted: int
    """Number of eval examples that are given it."""
    hits: int
    """Number of eval examples that have it and are given it."""

    @property
    def precision(self) -> float:
        """Hits over predicted."""
        return self.hits / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Hits over right."""
        return self.hits / self.right if self.right else 0.0

    @property
    def f1(self) -> float:
        """Twice the hits over predicted and right together."""
        together = self.predicted + self.right
        return 2 * self.hits / together if together else 0.0


def class_scores(report: Report, entry: Entry) -> list[ClassScore]:
    """The scores of each label in the model's order; empty where none was scored. Macro F1 is the mean of those that occur."""
    kept = entry.statistics.get(MACRO_F1.name)
    if kept is None or not kept.examples:
        return []
    if kept.reduction == MACRO_F1_OF_SETS.reduction:
        given, right = kept.rows[:, 0::2], kept.rows[:, 1::2]
        sums = (item.sum(axis=0).astype(np.int64) for item in (right, given, given * right))
        return [ClassScore(name, *map(int, of)) for name, *of in zip(report.labels, *sums, strict=True)]
    predicted, right = kept.rows.astype(np.int64).T
    size = max(len(report.labels), int(max(predicted.max(), right.max())) + 1)
    counts = [np.bincount(numbers, minlength=size) for numbers in (right, predicted, right[predicted == right])]
    names = [*report.labels, *(str(number) for number in range(len(report.labels), size))]
    return [ClassScore(name, *map(int, of)) for name, *of in zip(names, *counts, strict=True)]
