"""Ratios of percentiles with their intervals: what must hold for any numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert.report.compare import statistics
from edgebert.report.compare.drift import drift_variance
from edgebert.report.compare.statistics import FEWEST_PROCESSES, Estimate, Side, compare_sides, second_opinion, thinned_to

values = st.lists(st.integers(1, 10**9), min_size=1, max_size=12).map(np.array)
sides = st.lists(values, min_size=FEWEST_PROCESSES, max_size=7).map(lambda blocks: Side(tuple(blocks)))
PERCENTS = (50, 90)


def noisy(seed: int, *, processes: int = 6, queries: int = 50, level: float = 1e6) -> Side:
    generator = np.random.default_rng(seed)
    return Side(tuple((level * generator.lognormal(0, 0.1, queries)).astype(np.int64) for _ in range(processes)))


def estimate(ref: Side, changed: Side, *, paired: bool = False) -> Estimate:
    return compare_sides(ref, changed, [50], paired=paired, seed=0)[0]


@settings(max_examples=40)
@given(sides, sides)
def test_swapping_the_sides_inverts_the_ratio_and_its_interval(ref: Side, changed: Side) -> None:
    pairs = [compare_sides(*both, PERCENTS, paired=False, seed=0) for both in ((ref, changed), (changed, ref))]
    for forth, back in zip(*pairs, strict=True):
        assert forth.log_ratio == pytest.approx(-back.log_ratio)
        assert forth.half_width == pytest.approx(back.half_width)
        assert forth.p_value == pytest.approx(back.p_value)


@settings(max_examples=40)
@given(sides, st.sampled_from([2, 3, 10, 1000]))
def test_scaling_all_times_changes_nothing(side: Side, factor: int) -> None:
    other = noisy(1, level=1e5)
    scaled = [Side(tuple(block * factor for block in one.blocks)) for one in (side, other)]
    before, after = estimate(side, other), estimate(scaled[0], scaled[1])
    assert after.log_ratio == pytest.approx(before.log_ratio)
    assert after.half_width == pytest.approx(before.half_width, rel=1e-6, abs=1e-9)


@settings(max_examples=40)
@given(sides, st.randoms(use_true_random=False))
def test_the_order_of_processes_decides_nothing_but_the_width_for_a_drift(side: Side, random: object) -> None:
    shuffled = list(side.blocks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = [estimate(Side(blocks), noisy(2)) for blocks in (side.blocks, tuple(shuffled))]
    assert found[0].log_ratio == found[1].log_ratio
    assert found[0].p_value == pytest.approx(found[1].p_value)


def in_order(levels: Sequence[float]) -> Side:
    return Side(tuple(np.array([level]) for level in levels))


def test_a_side_that_drifts_has_a_wider_interval_than_the_same_values_in_another_order() -> None:
    levels = np.exp(0.02 * np.array([0, 1, 2, 3, 4, 5, 6, 7])) * 1e6
    steady = in_order(np.exp(0.001 * np.array([1, -1, 1, 1, -1, -1, 1, -1])) * 1e6)
    mixed = levels[[3, 6, 0, 5, 2, 7, 1, 4]]
    drifted, shuffled = (estimate(in_order(order), steady) for order in (levels, mixed))
    assert drifted.ratio == pytest.approx(shuffled.ratio)
    assert drifted.half_width > 1.2 * shuffled.half_width
    assert abs(drifted.log_ratio) < drifted.half_width  # the speed at the start was the same
    backwards = estimate(in_order(levels[::-1]), steady)
    assert backwards.half_width == pytest.approx(drifted.half_width)


def test_variance_of_a_drift_is_that_of_a_random_walk_and_of_noise_where_there_is_none() -> None:
    generator = np.random.default_rng(0)
    walks = [np.cumsum(generator.normal(0, 0.02, 200)) for _ in range(2)]
    assert drift_variance(walks) == pytest.approx(2 * 0.02**2 * 201 * 401 / 1200, rel=0.3)
    noise = [generator.normal(0, 0.02, 400) for _ in range(2)]
    assert drift_variance(noise) == pytest.approx(2 * 0.02**2 / 400, rel=2.0)
    assert drift_variance([np.ones(8), np.full(5, 2.0)]) == 0.0


def test_the_same_seed_gives_the_same_interval_and_another_a_near_one() -> None:
    rounds = {"processes": 9}
    first, again = (compare_sides(noisy(1, **rounds), noisy(2, **rounds), [50], paired=True, seed=0)[0] for _ in range(2))
    assert first == again
    other = compare_sides(noisy(1, **rounds), noisy(2, **rounds), [50], paired=True, seed=1)[0]
    assert other.half_width != first.half_width
    assert other.half_width == pytest.approx(first.half_width, rel=0.2)


def test_estimate_is_the_ratio_of_the_percentiles_of_all_samples() -> None:
    ref, changed = noisy(1), noisy(2, queries=80)
    found = compare_sides(ref, changed, [50, 90], paired=False, seed=0)
    for one, percent in zip(found, (50, 90), strict=True):
        expected = [float(np.percentile(np.concatenate(side.blocks), percent)) for side in (ref, changed)]
        assert [one.ref, one.changed] == expected
        assert one.ratio == pytest.approx(expected[1] / expected[0])


def test_pairing_cancels_what_slows_a_round_down_as_a_whole() -> None:
    drift = (1.0, 1.3, 0.8, 1.6, 0.7, 1.1)
    ref, changed = noisy(1), noisy(2, level=1.1e6)
    drifted = [
        Side(tuple((block * factor).astype(np.int64) for block, factor in zip(side.blocks, drift, strict=True)))
        for side in (ref, changed)
    ]
    paired, apart = estimate(*drifted, paired=True), estimate(*drifted, paired=False)
    assert paired.half_width < apart.half_width / 3
    assert paired.p_value == apart.p_value  # the second opinion knows no pairs


def test_interval_has_no_width_when_all_samples_are_equal() -> None:
    same, other = (Side((np.full(20, level),) * 5) for level in (1_000_000, 1_100_000))
    assert estimate(same, same).interval == (1.0, 1.0)
    assert estimate(same, same).p_value == 1.0
    assert estimate(same, other).interval == pytest.approx((1.1, 1.1))
    assert estimate(same, other).p_value < 0.05


def test_interval_has_no_end_with_too_few_processes_or_a_value_of_zero() -> None:
    few = Side(noisy(1).blocks[: FEWEST_PROCESSES - 1])
    assert estimate(few, noisy(2)).interval is None
    assert estimate(few, noisy(2)).ratio is not None
    zeros = Side((np.zeros(20, dtype=np.int64),) * 5)
    assert estimate(zeros, noisy(2)).interval is None and estimate(zeros, noisy(2)).ratio is None


def test_one_sample_a_process_is_a_median_of_processes() -> None:
    ref = Side(tuple(np.array([value]) for value in (100, 101, 102, 103, 109)))
    changed = Side(tuple(np.array([value]) for value in (200, 201, 202, 203, 209)))
    found = estimate(ref, changed)
    assert (found.ref, found.changed) == (102.0, 202.0)
    assert found.interval is not None and found.interval[0] < 202 / 102 < found.interval[1]


def test_bootstrap_of_blocks_is_the_one_that_pools_them_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    side = noisy(3, processes=5, queries=31)
    draws = statistics._draws(5, seed=0)[:200]
    found = np.exp(statistics._log_percentiles(side, PERCENTS, draws))
    for row, counts in zip(found, draws, strict=True):
        pooled = np.concatenate([np.repeat(block, int(count)) for block, count in zip(side.blocks, counts, strict=True)])
        exact = [np.percentile(pooled, percent, method="averaged_inverted_cdf") for percent in PERCENTS]
        assert row == pytest.approx(exact)


def test_thinned_samples_give_the_same_interval_and_how_many_are_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ref, changed = noisy(1, queries=4000), noisy(2, queries=4000)
    whole = estimate(ref, changed)
    assert thinned_to([ref, changed]) is None
    monkeypatch.setattr(statistics, "KEPT_CELLS", 36 * 500)
    thinned = estimate(ref, changed)
    assert thinned_to([ref, changed]) == 500
    assert thinned.ratio == whole.ratio
    assert thinned.half_width == pytest.approx(whole.half_width, rel=0.15)


@pytest.mark.parametrize("count", [4, 9])
def test_second_opinion_sees_a_complete_separation_and_no_more_than_chance_in_equals(count: int) -> None:
    ref = np.linspace(100, 101, count)
    assert second_opinion(ref, ref * 1.5) < 0.05
    assert second_opinion(ref, ref[::-1].copy()) > 0.5
    drift = np.geomspace(1, 4, count)
    assert second_opinion(ref * drift, ref * drift * 1.05) > 0.05


def test_second_opinion_of_equal_rounds_is_wrong_no_more_often_than_it_says() -> None:
    generator = np.random.default_rng(3)
    drift = np.exp(generator.normal(0, 0.01, (400, 8)))
    sides = np.exp(generator.normal(0, 0.01, (2, 400, 8))) * drift
    wrong = sum(second_opinion(ours, theirs) <= 0.05 for ours, theirs in zip(*sides, strict=True))
    assert wrong <= 400 * 0.06


def test_many_processes_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    side, other = noisy(1, processes=40, queries=60), noisy(2, processes=40, queries=60)
    whole = estimate(side, other)
    monkeypatch.setattr(statistics, "KEPT_CELLS", 40 * 200)
    assert estimate(side, other).half_width == pytest.approx(whole.half_width, rel=0.25)


def test_estimates_are_finite_numbers_for_wild_samples() -> None:
    wild = Side((*[np.array([1, 2**53 - 1, 5])] * 4, np.array([2**52])))
    found = estimate(wild, noisy(1))
    assert math.isfinite(found.half_width) and found.interval is not None
