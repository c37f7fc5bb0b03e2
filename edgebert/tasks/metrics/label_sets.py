"""micro_f1, macro_f1: metrics of sets of labels, of which a row may have none or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows


def set_counts(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """Hits, given labels and right labels of each example, of shape (examples, 3). The model's labels do not matter.

    Args:
        predictions, references: `labels`, a list of names, and `probabilities`, one for each label of the model.
    """
    pairs = [({*one["labels"]}, {*other["labels"]}) for one, other in zip(predictions, references, strict=True)]
    return np.array([[len(one & other), len(one), len(other)] for one, other in pairs], dtype=np.float64).reshape(-1, 3)


def set_pairs(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any]) -> Rows:
    """For each of the model's labels whether it was given and whether it is right, of shape (examples, 2 * labels)."""
    given, right = (_flags(answers, labels) for answers in (predictions, references))
    return np.stack([given, right], axis=2).reshape(len(given), 2 * len(labels))


def _flags(answers: Sequence[Any], labels: Sequence[Any]) -> Rows:
    numbers = {label: number for number, label in enumerate(labels)}
    flags = np.zeros((len(answers), len(labels)))
    for row, answer in enumerate(answers):
        flags[row, [numbers[label] for label in answer["labels"]]] = 1.0
    return flags


MICRO_F1 = AnswerMetric(
    name="micro_f1",
    title="micro_f1",
    meaning="F1 of all labels of all eval examples together",
    of="labels",
    reduction="f1",
    statistics=set_counts,
)
MACRO_F1_OF_SETS = AnswerMetric(
    name="macro_f1",
    title="macro_f1",
    meaning="mean over the labels that some eval example has of the F1 of each",
    of="labels",
    reduction="macro_f1_of_sets",
    statistics=set_pairs,
)
