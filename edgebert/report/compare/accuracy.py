"""Answers of two models to the same examples: the difference of a score, its interval, and McNemar's test."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgebert.report.compare.statistics import LEVEL, scipy_stats
from edgebert.report.row_statistics import RowStatistics
from edgebert.tasks.reductions import reduce_rows

Flags = npt.NDArray[np.bool_]
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


def compare_scores(ref: RowStatistics, changed: RowStatistics, seed: int) -> Difference:
    """A metric of the answers to the same examples: percentile bootstrap of its difference, both sides resampled by the same
    examples.

    Where no answer differs the bootstrap interval would have no width, and where few differ it would be too narrow; it is
    therefore at least as wide as the interval of a share of examples, of which as many differ, half of them for the better.
    """
    ours, theirs = ref.rows, changed.rows
    values = reduce_rows(ref.reduction, ours), reduce_rows(changed.reduction, theirs)
    half = _half_width((ours != theirs).any(axis=1).sum() / 2, len(ours))
    if not (ours != theirs).any():
        return Difference(*values, -half, half, None)
    generator = np.random.default_rng(seed)
    count = int(np.clip(VALUES // len(ours), *RESAMPLES))
    differences = np.empty(count)
    for index in range(count):
        rows = generator.integers(len(ours), size=len(ours))
        differences[index] = reduce_rows(changed.reduction, theirs[rows]) - reduce_rows(ref.reduction, ours[rows])
    ends = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    middle = values[1] - values[0]
    return Difference(*values, min(float(ends[0]), middle - half), max(float(ends[1]), middle + half), None)


def as_gain(difference: Difference) -> Difference:
    """The difference of a score of which less is better, as what is gained of it: a share of REF's score, because such a score
    has a unit of its own; without a share of nothing."""
    unit = abs(difference.ref) or 1.0
    gained = {"low": -difference.high / unit, "high": -difference.low / unit}
    return replace(difference, ref=0.0, changed=-difference.value / unit, **gained)


def _half_width(each: float, examples: int) -> float:
    """Half the interval of a share of examples, of which `each` got better and as many got worse."""
    low, high = _share_interval(each, each, examples)
    return (high - low) / 2


def _share_interval(gained: float, lost: float, examples: int) -> tuple[float, float]:
    gained_more, lost_more, total = gained + 0.5, lost + 0.5, examples + 2
    middle = (gained_more - lost_more) / total
    variance = (gained_more + lost_more - (gained_more - lost_more) ** 2 / total) / total**2
    half = float(scipy_stats().norm.ppf((1 + LEVEL) / 2)) * math.sqrt(variance)
    return middle - half, middle + half
