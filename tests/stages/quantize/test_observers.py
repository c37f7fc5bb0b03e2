"""Observers of ranges: what is streamed is what NumPy finds on all values at once, and memory does not grow."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert.stages.quantize.observers import (
    BINS,
    FULL,
    LEVELS,
    Histogram,
    MinMax,
    Observer,
    Range,
    Ranges,
    candidates,
    divergence,
    holding,
    least_divergence,
    least_squared_error,
    observer_for,
)

Array = npt.NDArray[Any]
METHODS: tuple[Ranges, ...] = get_args(Ranges)
SAMPLES = 10_000
every_method = pytest.mark.parametrize("method", METHODS)


def gelu(values: Array) -> Array:
    return np.asarray(values * 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2))))


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def normal(seed: int = 0, shape: tuple[int, ...] = (40, 500)) -> Array:
    return np.random.default_rng(seed).normal(0, 1, shape)


def with_outliers(values: Array) -> Array:
    return np.where(np.random.default_rng(9).random(values.shape) < 1e-3, values * 20, values)


SHAPES: dict[str, Callable[[], Array]] = {
    "normal": normal,
    "shifted": lambda: normal() + 3,
    "negative": lambda: -np.abs(normal()) - 1,
    "relu": lambda: np.maximum(normal(), 0),
    "gelu": lambda: gelu(2 * normal()),
    "softmax": lambda: softmax(4 * normal()),
    "outliers": lambda: with_outliers(normal()),
    "relu with outliers": lambda: np.maximum(with_outliers(normal()), 0),
    "tiny": lambda: normal() * 1e-30,
    "huge": lambda: normal() * 1e30,
}
"""Activations of 40 examples as BERT has them."""
every_shape = pytest.mark.parametrize("values", [make().astype(np.float32) for make in SHAPES.values()], ids=list(SHAPES))


def seen(values: Array, method: Ranges, percentile: float = 99.99) -> Range:
    """The range after one example after another."""
    observer = observer_for(method, percentile)
    for example in values:
        observer.observe(example)
    return observer.range()


def histogram_of(values: Array) -> Histogram:
    histogram = Histogram()
    for example in values:
        histogram.add(example)
    return histogram


def quantised(values: Array, low: float, high: float) -> Array:
    """What eight bits make of values, as QuantizeLinear and DequantizeLinear do."""
    step = (high - low) / (LEVELS - 1)
    zero = np.round(-low / step)
    return np.asarray((np.clip(np.round(values / step) + zero, 0, LEVELS - 1) - zero) * step)


def squared_error(values: Array, low: float, high: float) -> float:
    return float(np.mean((quantised(values.astype(np.float64), low, high) - values) ** 2))


@given(
    st.lists(
        st.lists(
            st.floats(-1e6, 1e6, width=32) | st.floats(-(2**-20), 2**-20, width=32) | st.just(0.0), min_size=1, max_size=8
        ),
        min_size=1,
        max_size=6,
    ),
    st.randoms(),
)
def test_histogram_is_that_of_all_values_at_once_in_whatever_order_they_came(examples: list[list[float]], random: Any) -> None:
    streamed = histogram_of([np.array(example, np.float32) for example in examples])  # type: ignore[arg-type]
    values = np.array([value for example in examples for value in example], np.float32)
    assert (streamed.low, streamed.high) == (min(values.min(), 0), max(values.max(), 0))
    assert streamed.zeros == np.sum(values == 0)
    edges = streamed.edges
    assert edges[streamed.below] == 0 and streamed.counts.size <= BINS
    if np.any(values):
        np.testing.assert_array_equal(np.histogram(values[values != 0].astype(float), edges)[0], streamed.counts)
    random.shuffle(examples)
    other = histogram_of([np.array(example, np.float32) for example in examples])  # type: ignore[arg-type]
    np.testing.assert_array_equal(other.edges, edges)
    np.testing.assert_array_equal(other.counts, streamed.counts)


@every_shape
def test_histogram_uses_at_least_half_of_its_bins(values: Array) -> None:
    histogram = histogram_of(values)
    assert BINS / 2 <= histogram.counts.size <= BINS
    assert histogram.counts.sum() + histogram.zeros == values.size


@every_method
@every_shape
def test_range_contains_zero_and_nothing_beyond_the_extremes(values: Array, method: Ranges) -> None:
    low, high = seen(values, method)
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)
    assert low < high
    assert (low == 0) == (values.min() >= 0) and (high == 0) == (values.max() <= 0)


@every_method
def test_range_of_zeros_is_zero_and_zeros_before_values_change_nothing(method: Ranges) -> None:
    zeros = np.zeros((3, 5), np.float32)
    assert seen(zeros, method) == (0, 0)
    if method in ("minmax", "entropy", "mse"):
        assert seen([*zeros, *normal()], method) == seen(normal(), method)  # type: ignore[arg-type]


@every_shape
def test_minmax_is_the_extremes(values: Array) -> None:
    assert seen(values, "minmax") == (min(values.min(), 0), max(values.max(), 0))


@every_shape
def test_moving_average_is_the_mean_of_the_extremes_of_each_example(values: Array) -> None:
    expected = min(values.min(axis=1).mean(dtype=float), 0), max(values.max(axis=1).mean(dtype=float), 0)
    np.testing.assert_allclose(seen(values, "moving-average"), expected, rtol=1e-6)


@every_shape
@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99, 100])
def test_percentile_is_that_of_all_values_to_a_bin_and_holds_its_share(values: Array, percentile: float) -> None:
    low, high = seen(values, "percentile", percentile)
    width = histogram_of(values).width
    tail = (100 - percentile) / 200
    assert np.mean((values >= low) & (values <= high)) >= percentile / 100 - 1e-12
    ordered, left_out = np.sort(values, axis=None), math.floor(values.size * tail + 1e-9)
    assert low == pytest.approx(min(ordered[left_out], 0), abs=width)
    assert high == pytest.approx(max(ordered[-1 - left_out], 0), abs=width)


@every_shape
def test_mse_loses_no_more_than_the_best_pair_of_ends_on_all_values(values: Array) -> None:
    extremes = min(values.min(), 0), max(values.max(), 0)
    parts = np.linspace(0.05, 1, 20)
    pairs = [(low, high) for low in extremes[0] * parts for high in extremes[1] * parts if low < high]
    best = min(squared_error(values, low, high) for low, high in dict.fromkeys(pairs))
    assert squared_error(values, *seen(values, "mse")) <= 1.02 * best


def test_mse_clips_outliers_and_keeps_what_has_none() -> None:
    many = normal(shape=(10, 100_000))
    many[3, 5] = 20
    low, high = seen(many, "mse")
    assert low < -3 and 4 < high < 16  # one clipped value against a finer step for a million
    even = np.random.default_rng(0).uniform(-1, 2, (10, 1000))
    assert seen(even, "mse") == pytest.approx((-1, 2), rel=0.01)


def slow_divergence(counts: list[int], low: int, high: int) -> float:
    """The steps of the slides, one after another."""
    window = counts[low:high]
    reference = [float(count) for count in window]
    reference[0] += sum(counts[:low])
    reference[-1] += sum(counts[high:])
    groups: dict[int, list[int]] = {}
    for index in range(len(window)):
        groups.setdefault(index * LEVELS // len(window), []).append(index)
    assert len(groups) == LEVELS
    spread = [0.0] * len(window)
    for indices in groups.values():
        filled = [index for index in indices if window[index]]
        for index in filled:
            spread[index] = sum(window[index] for index in filled) / len(filled)
    one, other = sum(reference), sum(spread)
    return sum(p / one * math.log((p / one) / max(q / other, 1e-9)) for p, q in zip(reference, spread, strict=True) if p)


@pytest.mark.parametrize("low, high", [(0, 1000), (0, 300), (100, 700), (372, 628)])
def test_divergence_is_that_of_the_slides(low: int, high: int) -> None:
    counts = np.histogram(with_outliers(normal()), 1000)[0]
    assert divergence(counts, low, high) == pytest.approx(slow_divergence(counts.tolist(), low, high))


def test_divergence_of_fewer_bins_than_levels_is_no_choice() -> None:
    counts = np.histogram(normal(), 1000)[0]
    assert divergence(counts, 400, 400 + LEVELS - 1) == math.inf
    assert divergence(np.zeros(1000), 0, 1000) == math.inf


@every_shape
def test_entropy_diverges_less_than_any_move_of_one_end(values: Array) -> None:
    histogram = histogram_of(np.repeat(values, 20, axis=0))
    lows, highs = candidates(histogram)
    assert lows[0] == 0 and highs[0] == histogram.counts.size and lows[-1] == highs[-1] == histogram.below
    low, high = (int(np.flatnonzero(histogram.edges == end)[0]) for end in least_divergence(histogram))
    assert histogram.counts.sum() >= FULL * histogram.counts.size
    found = divergence(histogram.counts, low, high)
    others = [(end, high) for end in lows] + [(low, end) for end in highs]
    assert found == min(divergence(histogram.counts, *pair) for pair in others) < math.inf
    assert found <= divergence(histogram.counts, 0, histogram.counts.size)


@every_shape
def test_coarser_histogram_is_that_of_twice_the_width(values: Array) -> None:
    fine = histogram_of(values)
    coarse = fine.coarser()
    assert coarse.width == 2 * fine.width and (coarse.low, coarse.high) == (fine.low, fine.high)
    expected = np.histogram(values[values != 0].astype(float), coarse.edges)[0]
    np.testing.assert_array_equal(coarse.counts, expected)


def test_entropy_clips_little_where_there_are_few_values() -> None:
    assert seen(normal(shape=(1, 300)), "entropy") == seen(normal(shape=(1, 300)), "minmax")
    few = normal(shape=(8, 1000))
    assert seen(few, "entropy")[1] > 0.7 * few.max()


def test_entropy_clips_outliers_and_keeps_what_has_none() -> None:
    values = with_outliers(normal(shape=(40, 10_000)))
    assert seen(values, "entropy")[1] < 0.5 * values.max()
    even = np.random.default_rng(0).uniform(-1, 2, (10, 10_000))
    assert seen(even, "entropy") == pytest.approx((-1, 2), rel=0.02)


@every_method
def test_an_outlier_that_comes_late_is_counted_as_if_it_had_come_first(method: Ranges) -> None:
    values = normal()
    late, early = np.concatenate([values, [[1000.0] * 500]]), np.concatenate([[[1000.0] * 500], values])
    np.testing.assert_allclose(seen(late, method), seen(early, method), rtol=1e-12)


def stream(count: int) -> Iterator[Array]:
    """Examples whose extremes grow and whose lengths differ, as a generator: they are never in memory together."""
    generator = np.random.default_rng(3)
    for number in range(count):
        yield generator.standard_normal(16 + number % 32, dtype=np.float32) * np.float32(1 + number / 1000)


def size_of(observer: Observer) -> int:
    """Bytes of its numbers and arrays."""
    holders = [observer, *(value for value in vars(observer).values() if isinstance(value, Histogram))]
    return sum(value.nbytes if isinstance(value, np.ndarray) else 8 for holder in holders for value in vars(holder).values())


@every_method
def test_memory_does_not_grow_with_ten_thousand_samples_and_the_range_is_right(method: Ranges) -> None:
    observer = observer_for(method, 99.9)
    tracemalloc.start()
    try:
        for number, example in enumerate(stream(SAMPLES), start=1):
            observer.observe(example)
            if number == SAMPLES // 100:
                early = size_of(observer), *tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
        late = size_of(observer), *tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert late[0] == early[0] <= 8 * BINS + 200
    assert late[1] <= early[1] + 16_384  # a single number kept for each sample would be 80,000 bytes
    assert max(early[2], late[2]) <= 8 * 8 * BINS  # with what a histogram needs to widen
    at_once = list(stream(SAMPLES))
    expected = MinMax()
    if method == "minmax":
        expected.observe(np.concatenate(at_once))
        assert observer.range() == expected.range()
    elif method == "moving-average":
        means = np.mean([(example.min(), example.max()) for example in at_once], axis=0, dtype=float)
        np.testing.assert_allclose(observer.range(), means, rtol=1e-9)
    else:
        find: Callable[[Histogram], Range] = {
            "entropy": least_divergence,
            "percentile": lambda histogram: holding(histogram, 99.9),
            "mse": least_squared_error,
        }[method]
        whole = histogram_of(np.concatenate(at_once)[None])
        low, high = find(whole)
        assert observer.range() == (max(low, whole.low), min(high, whole.high))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(-3, 3), st.floats(0.01, 100))
def test_every_method_gives_a_usable_range_for_any_skew(seed: int, shift: float, scale: float) -> None:
    values = ((normal(seed, (4, 200)) + shift) ** 3 * scale).astype(np.float32)
    for method in METHODS:
        low, high = seen(values, method)
        assert math.isfinite(low) and math.isfinite(high) and low <= 0 <= high and low < high
