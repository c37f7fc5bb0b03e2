"""golden_answers: how far outputs are from a bundle's goldens, and whether a variant still answers what it should.

INT8 kernels round differently from one version of a runtime, and from one CPU, to the next. What that does to logits grows
with their size, so that no bound on logits alone tells such rounding from a kernel whose sums overflow: outputs over labels
are judged by what people read of them, labels and probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgebert.tasks.base import Array, Task
from edgebert.tasks.probabilities import sigmoid, softmax

NEVER = float("inf")
"""The difference of outputs that cannot be compared: one is missing, not finite or of another shape."""
UNFELT = 2.0
"""Logits that are off by this many tolerances, in either direction, move no probability by more than one tolerance."""
ROUNDING, LEAST = 1e-4, 1e-6
"""Up to this share of the largest number, and up to this much, numbers are the same whatever they tell texts apart by: float32
rounds so on different CPUs."""


@dataclass(frozen=True)
class Comparison:
    """Outputs compared with goldens."""

    difference: float
    """Largest absolute difference of a value; of vectors, largest distance as a share of the golden's length."""
    shares: float | None = None
    """Largest difference of a label's probability; None where no output is over labels."""
    turned: int = 0
    """Number of labels that changed though the golden was no near tie of them, or of their threshold."""
    span: float = 0.0
    """Largest distance between two golden logits of one answer; of probabilities of each label alone, of all answers."""
    numbers_off: int | None = None
    """Number of values that are off by more than they may be, where outputs are read as numbers; else None."""

    def within(self, tolerance: float) -> bool:
        """Whether the answers are the same: labels but for near ties, probabilities to the tolerance, and logits to the
        tolerance as a share of their span, since a confident model's probabilities hide what its logits have lost. Numbers are
        the same to the tolerance as a share of the spread of their goldens."""
        if self.numbers_off is not None:
            return self.numbers_off == 0
        if self.difference <= tolerance:
            return True
        if self.shares is None or self.turned or self.shares > tolerance:
            return False
        return self.difference <= tolerance * max(UNFELT, self.span)


def compare_goldens(
    answers: Sequence[Mapping[str, Any]], goldens: Mapping[str, Sequence[Any]], task: Task, tolerance: float
) -> Comparison:
    """Compares a variant's outputs with its goldens.

    Args:
        answers: for each window, name -> output without the batch's axis and without padding.
        goldens: name -> the outputs for all windows.
        tolerance: lead in probability from which a label may not change, and share of their spread by which numbers may.
    """
    if not goldens or any(len(expected) != len(answers) for expected in goldens.values()):
        return Comparison(NEVER)
    pairs = {
        name: [(np.asarray(answer.get(name)), np.asarray(value)) for answer, value in zip(answers, expected, strict=True)]
        for name, expected in goldens.items()
    }
    difference = max(_difference(found, wanted) for both in pairs.values() for found, wanted in both)
    readings = {output.reading for output in task.outputs if output.name in pairs}
    if not np.isfinite(difference) or pairs.keys() - {output.name for output in task.outputs}:
        return Comparison(difference)
    both = [pair for of_output in pairs.values() for pair in of_output]
    if any("width" in output.axes for output in task.outputs if output.name in pairs):
        return Comparison(_turn(both))
    if readings == {"numbers"}:
        least = UNFELT * tolerance if task.prediction == "ranking" else LEAST  # scores of passages are logits
        return Comparison(difference, numbers_off=_numbers_off(both, tolerance, least))
    if readings == {"sigmoid"}:
        thresholds = getattr(task.options, "thresholds", None)
        return _of_sets(difference, both, None if thresholds is None else np.asarray(thresholds), tolerance)
    return _of_labels(difference, both, tolerance) if readings == {"softmax"} else Comparison(difference)


def _difference(found: Array, wanted: Array) -> float:
    if found.dtype == object or found.shape != wanted.shape or not np.isfinite(found - wanted).all():
        return NEVER
    return float(np.abs(found - wanted).max(initial=0))


def _turn(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Largest distance of a vector from its golden, as a share of its length: in vectors of length 1, each number is so
    small that none would ever be off by a tolerance."""
    lengths = [(np.linalg.norm(found - wanted), np.linalg.norm(wanted)) for found, wanted in pairs]
    return max(float(off / length) if length else float(off) for off, length in lengths)


def _of_labels(difference: float, pairs: Sequence[tuple[Array, Array]], tolerance: float) -> Comparison:
    """The comparison of finite logits, of shape (labels,), (tokens, labels) or (tokens,): probabilities are over the last."""
    each = [_of_logits(difference, np.atleast_2d(found), np.atleast_2d(wanted), tolerance) for found, wanted in pairs]
    shares, spans = (max(values) for values in zip(*((one.shares or 0.0, one.span) for one in each), strict=True))
    return Comparison(difference, shares, sum(one.turned for one in each), spans)


def _of_logits(difference: float, found: Array, wanted: Array, tolerance: float) -> Comparison:
    """The comparison of logits of shape (rows, choices)."""
    ours, theirs = softmax(found), softmax(wanted)
    turned = (ours.argmax(axis=-1) != theirs.argmax(axis=-1)) & (_lead(theirs) > tolerance)
    shares = float(np.abs(ours - theirs).max(initial=0))
    return Comparison(difference, shares, int(turned.sum()), float(np.ptp(wanted, axis=-1).max(initial=0)))


def _of_sets(difference: float, pairs: Sequence[tuple[Array, Array]], thresholds: Array | None, tolerance: float) -> Comparison:
    """The comparison of finite logits of labels that do not exclude each other.

    Args:
        thresholds: probabilities from which labels are given, of shape () or (labels,); None where nothing is chosen by them.
    """
    found, wanted = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    shares = float(np.abs(sigmoid(found) - sigmoid(wanted)).max(initial=0))
    turned = 0 if thresholds is None else sum(_crossed(*pair, thresholds, UNFELT * tolerance) for pair in pairs)
    return Comparison(difference, shares, turned, float(np.ptp(wanted)))


def _crossed(found: Array, wanted: Array, thresholds: Array, least: float) -> int:
    """Number of labels that are on the other side of their threshold than the golden, which is `least` or more away from it:
    in logits, since a probability is never far from a small threshold.

    Args:
        found, wanted: logits, of shape (labels,).
    """
    crossed = (sigmoid(found) >= thresholds) != (sigmoid(wanted) >= thresholds)
    away = np.abs(wanted - np.log(thresholds / (1 - thresholds)))
    return int((crossed & (away > least)).sum())


def _numbers_off(pairs: Sequence[tuple[Array, Array]], tolerance: float, least: float) -> int:
    """Number of values that are off by more than the tolerance as a share of the spread of their golden column: what a model
    tells texts apart by is no larger, however large its numbers are. Where all goldens are one number, the share is of it.

    Args:
        pairs: for each answer its numbers and the golden ones, both of shape (numbers,).
        least: up to which every number is the same.
    """
    found, wanted = (np.stack([pair[side] for pair in pairs]).astype(np.float64) for side in (0, 1))
    spread, largest = np.ptp(wanted, axis=0), np.abs(wanted).max(axis=0)
    bound = tolerance * np.where(spread > 0, spread, largest)
    return int((np.abs(found - wanted) > np.maximum(np.maximum(bound, ROUNDING * largest), least)).sum())


def _lead(shares: Array) -> Array:
    """Distance of the largest probability of each row from the next, shape (rows,); 1 where there is one label."""
    if shares.shape[-1] < 2:
        return np.ones(len(shares))
    ordered = np.sort(shares, axis=-1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])
