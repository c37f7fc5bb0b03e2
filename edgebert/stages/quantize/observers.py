"""Observers: an observer sees the values of one activation, example by example, and returns the range to quantise it to.

An observer's memory is fixed: it does not grow with the examples. Extremes take a few numbers for each tensor, the other
methods a histogram of BINS counters, 8 * BINS bytes (32 KiB) for each tensor. A range always contains 0, which eight bits
then represent exactly: padding, ReLU and masks make many zeros.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Range = tuple[float, float]
Ranges = Literal["minmax", "moving-average", "entropy", "percentile", "mse"]
"""Names of the observers."""
BINS = 4096
LEVELS = 256
"""Number of 8-bit levels."""
CANDIDATES = 512
"""Number of parts of the histogram whose borders a search tries as ends of the range."""
BLOCK = 1 << 16
"""Number of values counted at a time, so that large activations are not copied as a whole."""
FINEST = -1000
"""Exponent of a bin width that is finer than any activation needs: 2^-149 / BINS is the finest for FP32."""
FULL = 32
"""Fewest values for each bin, on average, for a histogram to show the distribution and not chance."""
RARE = 1e-9
"""Share that an empty bin of the quantised histogram gets, so that the divergence stays finite."""


class Observer(ABC):
    """Sees the values of one activation, and returns its range."""

    @abstractmethod
    def observe(self, values: Array) -> None:
        """Sees one example's values, of any shape and all finite."""

    @abstractmethod
    def range(self) -> Range:
        """Low end (0 or less) and high end (0 or more); both 0 where all values are 0."""


class MinMax(Observer):
    """The extremes of all values: nothing is clipped, and one outlier coarsens everything."""

    def __init__(self) -> None:
        self._low = self._high = 0.0

    def observe(self, values: Array) -> None:
        """Widens the range."""
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def range(self) -> Range:
        """The extremes."""
        return self._low, self._high


class MovingAverage(Observer):
    """The mean of each example's extremes, with equal weights, so that the order of the examples does not matter."""

    def __init__(self) -> None:
        self._examples = 0
        self._low = self._high = 0.0

    def observe(self, values: Array) -> None:
        """Moves the mean."""
        self._examples += 1
        self._low += (float(values.min()) - self._low) / self._examples
        self._high += (float(values.max()) - self._high) / self._examples

    def range(self) -> Range:
        """The means, with 0 between them."""
        return min(self._low, 0.0), max(self._high, 0.0)


class Histogram:
    """Counts of values in at most BINS bins of one width, a power of two; bin k holds k * width <= value < (k + 1) * width.

    The width is the smallest that spans all values so far. When a value falls outside, the width doubles and neighbouring
    bins are added up, which is exact: the result is the histogram of all values at once, whatever their order. Zeros are
    counted apart: they cost nothing to quantise, and there may be many of them.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        """Extremes, exact, with 0 between them."""
        self.zeros = 0
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._exponent = FINEST
        self._first = 0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self._exponent)

    @property
    def edges(self) -> Array:
        """Edges of the bins from the lowest value or 0 to the highest value or 0: one more than `counts`."""
        return np.ldexp(np.arange(self._first, self._last + 2, dtype=np.float64), self._exponent)

    @property
    def counts(self) -> Array:
        """Number of values in each bin, without the zeros."""
        return self._counts[: self._last + 1 - self._first]

    @property
    def below(self) -> int:
        """Number of bins below 0: `edges[below]` is 0."""
        return -self._first

    @property
    def _last(self) -> int:
        return self._bin_of(self.high, self._exponent)

    def add(self, values: Array) -> None:
        """Counts values."""
        self._span(min(self.low, float(values.min())), max(self.high, float(values.max())))
        flat = values.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            block = flat[start : start + BLOCK].astype(np.float64)
            block = block[block != 0]
            self.zeros += min(BLOCK, flat.size - start) - block.size
            bins = np.floor(block * math.ldexp(1.0, -self._exponent)).astype(np.int64) - self._first
            self._counts += np.bincount(bins, minlength=BINS)

    def coarser(self) -> Histogram:
        """The same values in bins of twice the width."""
        other = copy.copy(self)
        other._widen(self.low, self.high, self._exponent + 1)
        return other

    def _span(self, low: float, high: float) -> None:
        """Widens the bins as far as a range needs."""
        if (low, high) == (self.low, self.high):
            return
        exponent = max(self._exponent, math.frexp((high - low) / BINS)[1] - 1)
        while self._bin_of(high, exponent) - self._bin_of(low, exponent) >= BINS:
            exponent += 1
        self._widen(low, high, exponent)

    def _widen(self, low: float, high: float, exponent: int) -> None:
        first = self._bin_of(low, exponent)
        held = np.flatnonzero(self._counts)
        bins = ((held + self._first) >> min(exponent - self._exponent, 62)) - first
        counts = np.zeros(BINS, dtype=np.int64)
        np.add.at(counts, bins, self._counts[held])
        self.low, self.high, self._exponent, self._first, self._counts = low, high, exponent, first, counts

    @staticmethod
    def _bin_of(value: float, exponent: int) -> int:
        return math.floor(math.ldexp(value, -exponent))


class Clipped(Observer):
    """A range within the extremes, chosen from a histogram of all values."""

    def __init__(self, find: Callable[[Histogram], Range]) -> None:
        self._find = find
        self._histogram = Histogram()

    def observe(self, values: Array) -> None:
        """Counts the values."""
        self._histogram.add(values)

    def range(self) -> Range:
        """The method's range, limited to the extremes."""
        histogram = self._histogram
        if histogram.low == histogram.high:
            return 0.0, 0.0
        low, high = self._find(histogram)
        return max(low, histogram.low), min(high, histogram.high)


def holding(histogram: Histogram, percentile: float) -> Range:
    """The range that leaves out at most half of (100 - percentile) % of the values on each side.

    Its ends are edges of bins, rounded outwards; zeros count as values.
    """
    counts = histogram.counts.astype(np.float64)
    allowed = round((histogram.zeros + counts.sum()) * (100 - percentile) / 200, 6)  # 100 - 99.9 is less than 0.1
    from_below, from_above = np.cumsum(counts), np.cumsum(counts[::-1])
    low = min(int(np.searchsorted(from_below, allowed, side="right")), histogram.below)
    high = max(counts.size - int(np.searchsorted(from_above, allowed, side="right")), histogram.below)
    edges = histogram.edges
    return float(edges[low]), float(edges[high])


def least_squared_error(histogram: Histogram) -> Range:
    """The range of least squared error.

    The error is that of each bin's centre, rounded within the range and clipped outside it, and not the usual estimate
    step^2 / 12: most values of a softmax are smaller than a step. Zeros are exact.
    """
    counts, edges = histogram.counts.astype(np.float64), histogram.edges
    centres = (edges[1:] + edges[:-1]) / 2
    return descend(histogram, lambda low, high: squared_error(counts, centres, edges[low], edges[high]))


def least_divergence(histogram: Histogram) -> Range:
    """The range whose quantised histogram diverges least from the original one, by Kullback and Leibler.

    Migacz, "8-bit inference with TensorRT", GTC 2017, carried over from a threshold on |x| to two ends: values outside
    count in the last bin of that end, LEVELS levels share the bins of the range, and a level's values spread evenly over its
    non-empty bins. As there, a range has at least as many bins as levels: with fewer, clipping would cost nothing. Zeros are
    left out: they are exact, and many. Where there are few values for the bins, bins are made wider, or nothing is clipped:
    the divergence would measure chance.
    """
    while histogram.counts.sum() < FULL * histogram.counts.size:
        if histogram.counts.size < 2 * LEVELS:
            return histogram.low, histogram.high
        histogram = histogram.coarser()
    return descend(histogram, lambda low, high: divergence(histogram.counts, low, high))


def descend(histogram: Histogram, loss: Callable[[int, int], float]) -> Range:
    """The range of least loss: starting from the extremes, the best high end and the best low end in turn, until neither moves.

    Args:
        loss: loss of a range, given the indices of its low and its high edge.
    """
    lows, highs = candidates(histogram)
    low, high = lows[0], highs[0]
    while True:
        before = low, high
        high = highs[int(np.argmin([loss(low, end) for end in highs]))]
        low = lows[int(np.argmin([loss(end, high) for end in lows]))]
        if (low, high) == before:
            return float(histogram.edges[low]), float(histogram.edges[high])


def squared_error(counts: Array, values: Array, low: float, high: float) -> float:
    """Summed squared error of values with these counts, in LEVELS levels from low to high that include 0."""
    if low == high:
        return math.inf
    step = (high - low) / (LEVELS - 1)
    zero = round(-low / step)
    errors = np.clip(np.rint(values / step), -zero, LEVELS - 1 - zero) * step - values
    return float(counts @ (errors * errors))


def divergence(counts: Array, low: int, high: int) -> float:
    """KL divergence, in nats, of the histogram clipped to bins low..high-1 from its quantisation to LEVELS levels.

    Infinite where the bins are fewer than the levels, or all empty.
    """
    held = counts[low:high].astype(np.float64)
    if held.size < LEVELS or not held.any():
        return math.inf
    levels = np.arange(held.size) * LEVELS // held.size
    filled = held > 0
    sums, sizes = np.bincount(levels, weights=held), np.bincount(levels, weights=filled)
    quantised = np.where(filled, (sums / np.maximum(sizes, 1))[levels], 0.0)
    held[0] += counts[:low].sum()
    held[-1] += counts[high:].sum()
    held, quantised = held / held.sum(), quantised / quantised.sum()
    some = held > 0
    return float(np.sum(held[some] * np.log(held[some] / np.maximum(quantised[some], RARE))))


def candidates(histogram: Histogram) -> tuple[list[int], list[int]]:
    """Indices in `edges` of the low ends and of the high ends that a search tries, from the extremes to 0."""
    below, total = histogram.below, histogram.counts.size
    step = max(1, total // CANDIDATES)
    return [*range(0, below, step), below], [*range(total, below, -step), below]


def observer_for(ranges: Ranges, percentile: float) -> Observer:
    """A new observer for one tensor."""
    makers: dict[Ranges, Callable[[], Observer]] = {
        "minmax": MinMax,
        "moving-average": MovingAverage,
        "entropy": lambda: Clipped(least_divergence),
        "percentile": lambda: Clipped(lambda histogram: holding(histogram, percentile)),
        "mse": lambda: Clipped(least_squared_error),
    }
    return makers[ranges]()
