"""Answers of two models to the same examples: the difference of a score, its interval, and McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgebert.report.compare.statistics import LEVEL, scipy_stats
from edgebert.tasks.metric import Predictions

Flags = npt.NDArray[np.bool_]
Score = Callable[[Predictions, Predictions], float]
RESAMPLES = (200, 2000)
"""Fewest and most resamples; in between, as many as VALUES allows."""
VALUES = 40_000_000
"""Number of answers that are scored again in all resamples together."""


@dataclass(frozen=True)
class Difference:
    """changed - ref of one score."""

    ref: float
    changed: float
    low: float
    high: float
    p_value: float | None
    """p-value of McNemar's exact test; None for scores that are no share of right answers."""

    @property
    def value(self) -> float:
        """changed - ref."""
        return self.changed - self.ref


def compare_shares(ref: Flags, changed: Flags) -> Difference:
    """Shares of right answers to the same examples, arrays of shape (examples,).

    The interval is Wald's on counts with 1/2 added to each cell (Agresti & Min, 2005, Statistics in Medicine 24), which has a
    width where no answer differs; the test is McNemar's (1947), exact, on the examples that one side alone has right.
    """
    gained, lost = int(np.sum(changed & ~ref)), int(np.sum(ref & ~changed))
    low, high = _share_interval(gained, lost, len(ref))
    p_value = scipy_stats().binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return Difference(float(np.mean(ref)), float(np.mean(changed)), low, high, float(p_value))


def compare_scores(ref: Predictions, changed: Predictions, references: Predictions, score: Score, seed: int) -> Difference:
    """A score of the answers to the same examples: percentile bootstrap of its difference, both sides resampled by the same
    examples.

    Where no answer differs the bootstrap interval would have no width, and where few differ it would be too narrow; it is
    therefore at least as wide as the interval of a share of right answers.
    """
    ours, theirs = score(ref, references), score(changed, references)
    gained, lost = (int(np.sum((one == references) & (other != references))) for one, other in ((changed, ref), (ref, changed)))
    low, high = _share_interval(gained, lost, len(ref))
    if np.array_equal(ref, changed):
        return Difference(ours, theirs, low, high, None)
    generator = np.random.default_rng(seed)
    count = int(np.clip(VALUES // len(ref), *RESAMPLES))
    differences = np.empty(count)
    for index in range(count):
        rows = generator.integers(len(ref), size=len(ref))
        differences[index] = score(changed[rows], references[rows]) - score(ref[rows], references[rows])
    half, ends = (high - low) / 2, np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    least, most = theirs - ours - half, theirs - ours + half
    return Difference(ours, theirs, min(float(ends[0]), least), max(float(ends[1]), most), None)


def _share_interval(gained: int, lost: int, examples: int) -> tuple[float, float]:
    gained_more, lost_more, total = gained + 0.5, lost + 0.5, examples + 2
    middle = (gained_more - lost_more) / total
    variance = (gained_more + lost_more - (gained_more - lost_more) ** 2 / total) / total**2
    half = float(scipy_stats().norm.ppf((1 + LEVEL) / 2)) * math.sqrt(variance)
    return middle - half, middle + half
