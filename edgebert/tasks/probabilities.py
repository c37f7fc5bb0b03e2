"""softmax, sigmoid: logits as probabilities, in NumPy, and the labels that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis."""
    values = logits.astype(np.float64)
    shares = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def sigmoid(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """A probability for each value alone; the exponential is of what is not positive, and cannot overflow."""
    values = logits.astype(np.float64)
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small))


def ranked(labels: Sequence[str], values: npt.NDArray[Any], top_k: int | None = None) -> dict[str, float]:
    """Label -> value, the largest first; of equal ones, that of the first label.

    Args:
        values: one for each label.
        top_k: number of labels; None: all.
    """
    order = np.argsort(-values, kind="stable")[:top_k]
    return {labels[index]: float(values[index]) for index in order.tolist()}
