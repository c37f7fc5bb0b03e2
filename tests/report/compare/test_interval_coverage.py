"""How often intervals contain the truth and verdicts are right, on simulated noise like that of processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from made_reports import a_report, a_round, an_entry, measured, verdicts

from edgebert.report.compare.comparison import compare
from edgebert.report.compare.findings import CompareOptions
from edgebert.report.compare.statistics import Side, compare_sides

pytestmark = pytest.mark.slow
NOISE = {"between": 0.008, "wander": 0.002}
TIMES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "throughput", "cold_start_ms", "load_ms")


def a_side(generator: np.random.Generator, processes: int, *, paired_levels: np.ndarray | None = None) -> Side:
    """Levels between processes 1.2 %, drift and heavy tails within."""
    blocks = []
    lengths = np.exp(np.random.default_rng(1).normal(0, 0.3, 100))
    for number in range(processes):
        level = generator.normal(0, 0.012) + (0 if paired_levels is None else paired_levels[number])
        drift = np.cumsum(generator.normal(0, 0.003, 100))
        tails = (generator.random(100) < 0.02) * generator.exponential(0.4, 100)
        blocks.append(1e6 * lengths * np.exp(level + drift + tails + generator.normal(0, 0.02, 100)))
    return Side(tuple(blocks))


@pytest.mark.parametrize(("processes", "paired"), [(4, False), (9, False), (5, True)])
def test_intervals_hold_the_truth_as_often_as_they_say(processes: int, paired: bool) -> None:
    generator = np.random.default_rng(11)
    held = Counter[float]()
    for _ in range(120):
        levels = generator.normal(0, 0.05, processes) if paired else None
        ref, changed = (a_side(generator, processes, paired_levels=levels) for _ in range(2))
        for percent, found in zip((50, 90), compare_sides(ref, changed, (50, 90), paired=paired, seed=0), strict=True):
            held[percent] += abs(found.log_ratio) <= found.half_width
    # 114 of 120 is 95 %; by chance alone it is below 106 once in a thousand times
    assert min(held.values()) >= 106


def counted(slower: float, *, pairs: int = 20) -> Counter[tuple[str, str]]:
    found = Counter[tuple[str, str]]()
    for seed in range(pairs):
        ref, changed = measured(2 * seed, **NOISE), measured(2 * seed + 1, slower=slower, **NOISE)
        for metric, verdict in verdicts(compare(ref, changed, CompareOptions(metrics=TIMES))).items():
            found[metric, verdict] += 1
    return found


def test_the_same_model_measured_twice_is_almost_never_called_faster_or_slower() -> None:
    found = counted(1.0)
    assert sum(count for (_, verdict), count in found.items() if verdict in ("faster", "slower")) <= 1
    assert found["p50_ms", "equivalent"] >= 6  # few processes do not exclude a drift


def test_five_percent_are_found_and_three_never_get_the_wrong_sign() -> None:
    assert counted(1.05)["p50_ms", "slower"] >= 14
    assert counted(1.10)["p50_ms", "slower"] >= 18
    assert counted(1 / 1.10)["p50_ms", "faster"] >= 18
    assert not any(verdict == "faster" for _, verdict in counted(1.03))


@pytest.mark.parametrize("processes", [4, 8, 16])
@pytest.mark.parametrize("step", [0.005, 0.02, 0.05])
def test_a_machine_that_drifts_from_process_to_process_is_no_slower_or_faster_model(processes: int, step: float) -> None:
    generator = np.random.default_rng(processes)
    wrong, pairs = 0, 60
    for _ in range(pairs):
        reports = [
            a_report(an_entry([a_round(at, generator=generator, queries=20, slower=level) for at, level in enumerate(levels)]))
            for levels in np.exp(np.cumsum(generator.normal(0, step, (2, processes)), axis=1))
        ]
        found = verdicts(compare(*reports, CompareOptions(metrics=("p50_ms",))))["p50_ms"]
        wrong += found in ("faster", "slower")
    # 3 of 60 is the nominal share; by chance alone it is above 7 once in a hundred times. Without the drift, it is 9 to 35.
    assert wrong <= 7
