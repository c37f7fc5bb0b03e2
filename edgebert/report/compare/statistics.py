"""The ratio of two percentiles with its interval, on arrays. Processes are the independent repetitions, queries are not.

Both sides serve the same queries, so texts add nothing to the difference. What varies is the process: its memory layout, its
neighbours, the state of the machine. Whole processes are therefore resampled and the queries within them kept, which is
strategy 1 of Davison & Hinkley (1997), Bootstrap Methods and their Application, sec. 3.8. A bootstrap of few processes cannot
reach beyond its observed extremes (with four, an interval of percentiles covers 87 % at most), so the bootstrap gives the
standard error alone, its variance enlarged by n / (n - 1), and Student's t with Welch's degrees of freedom gives the interval,
on the logarithm of the ratio. tests/report/compare/test_interval_coverage.py checks its coverage. Sides that were measured
apart have at least the interval that a drift over their processes allows (drift.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.errors import MissingPackage
from edgebert.report.compare.drift import drift_variance, sampling_variance

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
FEWEST_PROCESSES = 4
"""Fewest processes of a side. With three, the p-value of Mann-Whitney's test is never below 0.1."""
RESAMPLES = 2000
LEVEL = 0.95
"""Confidence level of every interval."""
KEPT_CELLS = 4_000_000
"""Most cells of the table of cumulative counts (order statistics times processes): 32 MB."""
MIN_KEPT = 16
"""Fewest order statistics kept of a process, whatever the number of processes."""


@dataclass(frozen=True)
class Side:
    """The values of one side: an array for each process in the order in which they ran, none empty."""

    blocks: tuple[Values, ...]

    @property
    def samples(self) -> int:
        """Number of samples of all processes."""
        return sum(map(len, self.blocks))


@dataclass(frozen=True)
class Estimate:
    """The ratio changed / ref of one percentile."""

    ref: float
    changed: float
    log_ratio: float
    half_width: float
    """Half-width of the 95 % interval of `log_ratio`; infinite where there is none."""
    p_value: float
    """Two-sided p-value of Mann-Whitney's test on the processes' own percentiles."""

    @property
    def ratio(self) -> float | None:
        """changed / ref; None where one of them is 0."""
        return math.exp(self.log_ratio) if math.isfinite(self.log_ratio) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the ratio; None where it is infinite."""
        if not math.isfinite(self.half_width):
            return None
        return math.exp(self.log_ratio - self.half_width), math.exp(self.log_ratio + self.half_width)


def compare_sides(ref: Side, changed: Side, percents: Sequence[float], *, paired: bool, seed: int) -> list[Estimate]:
    """An estimate for each percentile.

    Paired: block i of both sides is the same round, and rounds are resampled jointly, so that a slowdown of a whole round
    cancels. Otherwise the interval is wide enough for the drift that the order of the blocks shows. With too few processes, or
    where a value is 0 and has no ratio, the interval is infinite.
    """
    points = [_percentiles(side, percents) for side in (ref, changed)]
    own = [np.array([np.percentile(block, percents) for block in side.blocks]) for side in (ref, changed)]
    if min(len(ref.blocks), len(changed.blocks)) < FEWEST_PROCESSES or min(values.min() for values in own) <= 0:
        return [_without_interval(*pair) for pair in zip(*points, strict=True)]
    errors, freedom = _errors(ref, changed, percents, paired=paired, seed=seed)
    drifts = [0.0] * len(percents) if paired else _drifts((ref, changed), own, percents)
    return [
        Estimate(
            ref=float(points[0][index]),
            changed=float(points[1][index]),
            log_ratio=math.log(points[1][index] / points[0][index]),
            half_width=max(drifts[index], _t_quantile(freedom[index]) * errors[index] if errors[index] else 0.0),
            p_value=second_opinion(own[0][:, index], own[1][:, index]),
        )
        for index in range(len(percents))
    ]


def _drifts(sides: Sequence[Side], own: Sequence[Floats], percents: Sequence[float]) -> list[float]:
    """Half the interval of each log ratio under a drift over the processes of each side, measured apart."""
    quantile = _t_quantile(sum(map(len, own)) - len(own))
    halves = [_halves(side, percents) for side in sides]
    found = []
    for index in range(len(percents)):
        sampling = sampling_variance([(ours[:, index], theirs[:, index]) for ours, theirs in halves])
        found.append(quantile * math.sqrt(drift_variance([np.log(values[:, index]) for values in own], sampling)))
    return found


def _halves(side: Side, percents: Sequence[float]) -> tuple[Floats, Floats]:
    """Log percentiles of every other sample of each process and of the rest, each of shape (processes, percentiles).

    Processes of a single sample have no halves, and zeros here: nothing is known of their sampling.
    """
    if min(map(len, side.blocks)) < 2:
        nothing = np.zeros((len(side.blocks), len(percents)))
        return nothing, nothing
    parts = [[np.log(np.percentile(block[start::2], percents)) for block in side.blocks] for start in (0, 1)]
    return np.array(parts[0]), np.array(parts[1])


def _without_interval(ref: float, changed: float) -> Estimate:
    log_ratio = math.log(changed / ref) if ref > 0 and changed > 0 else math.nan
    return Estimate(float(ref), float(changed), log_ratio, math.inf, 1.0)


def second_opinion(ref: Floats, changed: Floats) -> float:
    """The p-value of Mann & Whitney's test (1947) on one value for each process, arrays of shape (processes,).

    Pairing is ignored: slowdowns of whole rounds make the test miss differences, but never report a false one. Subtracting
    each round's mean first would leave values that mirror each other, with false differences in an eighth of equal models.
    """
    if np.ptp(np.concatenate([ref, changed])) == 0:
        return 1.0
    return float(scipy_stats().mannwhitneyu(ref, changed, alternative="two-sided").pvalue)


def thinned_to(sides: Sequence[Side]) -> int | None:
    """Fewest order statistics of a process that the bootstrap keeps; None where it keeps all.

    A rank is then wrong by at most half the distance between two of them, a share of 1 / (2 kept).
    """
    return min((_kept(side) for side in sides if max(map(len, side.blocks)) > _kept(side)), default=None)


def _errors(ref: Side, changed: Side, percents: Sequence[float], *, paired: bool, seed: int) -> tuple[list[float], list[float]]:
    """Standard error and degrees of freedom of the log ratio, for each percentile."""
    if paired:
        count = len(ref.blocks)
        draws = _draws(count, seed)
        variance = (_log_percentiles(changed, percents, draws) - _log_percentiles(ref, percents, draws)).var(axis=0)
        return [math.sqrt(value * count / (count - 1)) for value in variance], [count - 1.0] * len(percents)
    pairs = zip(_variances(ref, percents, seed), _variances(changed, percents, seed), strict=True)
    counts = (len(ref.blocks), len(changed.blocks))
    both = [(ours, theirs, _welch(ours, theirs, *counts)) for ours, theirs in pairs]
    return [math.sqrt(ours + theirs) for ours, theirs, _ in both], [freedom for _, _, freedom in both]


def _variances(side: Side, percents: Sequence[float], seed: int) -> list[float]:
    """Bootstrap variance of each log percentile of one side. It does not depend on the order of the blocks."""
    blocks = sorted(side.blocks, key=lambda block: (float(np.median(block)), float(np.mean(block)), len(block)))
    count = len(blocks)
    variances = _log_percentiles(Side(tuple(blocks)), percents, _draws(count, seed)).var(axis=0)
    return [float(value) * count / (count - 1) for value in variances]


def _welch(ours: float, theirs: float, count: int, others: int) -> float:
    """Degrees of freedom of the sum of two estimated variances (Welch, 1947)."""
    if ours + theirs == 0:
        return 1.0
    return (ours + theirs) ** 2 / (ours**2 / (count - 1) + theirs**2 / (others - 1))


def _draws(count: int, seed: int) -> Floats:
    """Number of times that each block is drawn in each resample, of shape (RESAMPLES, count)."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)


def _percentiles(side: Side, percents: Sequence[float]) -> Floats:
    """Percentiles of all samples together, of shape (percentiles,)."""
    return np.asarray(np.percentile(np.concatenate(side.blocks), percents), dtype=np.float64)


def _kept(side: Side) -> int:
    """Most order statistics to keep of each process."""
    return max(int(KEPT_CELLS / len(side.blocks) ** 2), MIN_KEPT)


def _thinned(block: Values, most: int) -> Values:
    """The block sorted, or as many evenly spaced order statistics of it."""
    ordered = np.sort(block)
    if len(ordered) <= most:
        return ordered
    return ordered[((np.arange(most) + 0.5) * len(ordered) / most).astype(np.int64)]


def _log_percentiles(side: Side, percents: Sequence[float], draws: Floats) -> Floats:
    """Log percentiles of the pooled samples in each resample, of shape (resamples, percentiles).

    Instead of pooling for each resample, the cumulative counts of every block are tabulated at all values, and each
    resample finds its percentile among them by bisection.
    """
    thinned = [_thinned(block, _kept(side)) for block in side.blocks]
    values = _thinned(np.concatenate(thinned), max(KEPT_CELLS // len(thinned), MIN_KEPT))
    share = np.array([len(block) / len(kept) for block, kept in zip(side.blocks, thinned, strict=True)])
    below = np.stack([np.searchsorted(kept, values, side="right") for kept in thinned], axis=1) * share
    totals = draws @ np.array([len(block) for block in side.blocks], dtype=np.float64)
    logs = np.empty((len(draws), len(percents)))
    for index, percent in enumerate(percents):
        wanted = totals * percent / 100
        low, high = (_first(below, draws, wanted + nudge * 1e-6) for nudge in (-1, 1))
        logs[:, index] = np.log((values[low] + values[high]) / 2)
    return logs


def _first(below: Floats, draws: Floats, wanted: Floats) -> npt.NDArray[np.int64]:
    """Index of the first value, in each resample, that has at least the wanted number of samples up to it."""
    low = np.zeros(len(draws), dtype=np.int64)
    high = np.full(len(draws), len(below) - 1)
    while np.any(low < high):
        middle = (low + high) // 2
        enough = np.einsum("ij,ij->i", below[middle], draws) >= wanted
        high = np.where(enough, middle, high)
        low = np.where(enough, low, np.minimum(middle + 1, high))
    return low


def _t_quantile(freedom: float) -> float:
    return float(scipy_stats().t.ppf((1 + LEVEL) / 2, freedom))


def scipy_stats() -> Any:
    """The module scipy.stats.

    Raises:
        MissingPackage: scipy is not installed.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingPackage("scipy", needed_for="Comparing", extra="compare") from error
    return stats
