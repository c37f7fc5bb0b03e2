"""mask_accuracy and perplexity: metrics of predictions for masked tokens, which hold the right tokens themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows


def mask_hits(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The number of right tokens and of masks of each example, of shape (examples, 2). References and labels do not matter."""
    pairs = [list(zip(item["tokens"], item["right"], strict=True)) for item in predictions]
    counts = [(sum(token == right for token, right in of_row), len(of_row)) for of_row in pairs]
    return np.array(counts, dtype=np.float64).reshape(-1, 2)


def likelihoods(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """The negative log-likelihood of the right tokens in nats, a sum, and the number of masks of each example, of shape
    (examples, 2). References and labels do not matter."""
    return np.array([(item["nll"], len(item["right"])) for item in predictions], dtype=np.float64).reshape(-1, 2)


MASK_ACCURACY = AnswerMetric(
    name="mask_accuracy",
    title="mask accuracy",
    meaning="share of the masked tokens of all eval examples for which the most probable token is the right one",
    of="mask",
    reduction="ratio",
    statistics=mask_hits,
)
PERPLEXITY = AnswerMetric(
    name="perplexity",
    title="perplexity",
    meaning="exp of the mean negative log-likelihood of the masked tokens of all eval examples; less is better",
    of="mask",
    reduction="exp_ratio",
    statistics=likelihoods,
    less_is_better=True,
)
