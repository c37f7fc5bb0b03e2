"""From an estimate to a verdict: the band, the second opinion, the machine itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_reports import MIRRORED, a_report, an_entry, finding, measured, rounds, verdicts

from edgebert.report.compare.compared_metrics import MEASURED
from edgebert.report.compare.comparison import compare, compare_within
from edgebert.report.compare.findings import CompareOptions
from edgebert.report.compare.statistics import Estimate
from edgebert.report.compare.verdicts import Cost, at_worst, judge, judge_size, margins_for
from edgebert.report.report import Report
from edgebert.report.samples import Samples

P50, THROUGHPUT = MEASURED["p50_ms"], MEASURED["throughput"]


def judged(
    log_ratio: float, half_width: float, *, metric: Any = P50, p_value: float = 0.001, **changes: Any
) -> tuple[str, str]:
    estimate = Estimate(1.0, math.exp(log_ratio), log_ratio, half_width, p_value)
    usual: dict[str, Any] = {"band": 0.02, "one_run": False, "virtual": False}
    margins = margins_for(**{name: changes.pop(name, value) for name, value in usual.items()})
    return judge(metric, estimate, **{"margins": margins, "processes": (8, 8), "machine": None, **changes})


RULE = [
    (0.05, 0.02, "slower"),
    (-0.05, 0.02, "faster"),
    (0.05, 0.035, "inconclusive"),
    (0.015, 0.003, "equivalent"),
    (0.019, 0.003, "inconclusive"),
    (0.0, 0.019, "equivalent"),
    (0.0, 0.021, "inconclusive"),
    (0.03, 0.0, "slower"),
    (0.0, 0.0, "equivalent"),
]


@pytest.mark.parametrize(("log_ratio", "half_width", "verdict"), RULE)
def test_verdict_is_where_the_whole_interval_lies(log_ratio: float, half_width: float, verdict: str) -> None:
    assert judged(log_ratio, half_width)[0] == verdict
    mirrored = MIRRORED.get(verdict, verdict)
    assert judged(-log_ratio, half_width)[0] == mirrored
    assert judged(log_ratio, half_width, metric=THROUGHPUT)[0] == mirrored


def test_within_one_run_half_the_band_is_margin_enough() -> None:
    assert judged(0.05, 0.035)[0] == "inconclusive"
    assert judged(0.05, 0.035, one_run=True)[0] == "slower"
    assert judged(-0.05, 0.035, one_run=True)[0] == "faster"
    assert judged(0.05, 0.045, one_run=True)[0] == "inconclusive"
    assert judged(0.018, 0.001, one_run=True)[0] == "equivalent"
    assert judged(0.0195, 0.005, one_run=True)[0] == "inconclusive"


def test_measured_apart_on_a_virtual_machine_twice_the_band_has_to_be_exceeded() -> None:
    verdict, reason = judged(0.05, 0.02, virtual=True)
    assert verdict == "inconclusive" and "measure both in one run" in reason
    assert judged(0.07, 0.02, virtual=True)[0] == "slower"
    assert judged(-0.07, 0.02, virtual=True)[0] == "faster"
    assert judged(0.05, 0.02, virtual=True, one_run=True)[0] == "slower"
    assert judged(0.015, 0.003, virtual=True)[0] == "equivalent"


def test_a_reference_workload_that_varied_casts_no_doubt_where_both_took_turns() -> None:
    assert judged(0.10, 0.02, machine=Cost(0.0, 0.15))[0] == "inconclusive"
    assert judged(0.10, 0.02, machine=Cost(0.0, 0.15), one_run=True)[0] == "slower"
    assert judged(0.10, 0.02, machine=Cost(0.09, 0.01), one_run=True)[0] == "inconclusive"
    assert judged(0.0, 0.005, machine=Cost(0.0, 0.15), one_run=True)[0] == "inconclusive"


def test_band_has_the_width_that_was_asked_for() -> None:
    assert judged(0.05, 0.02, band=0.1)[0] == "equivalent"
    assert judged(0.015, 0.003, band=0.005)[0] == "slower"


def test_reason_says_what_would_settle_it() -> None:
    assert judged(0.035, 0.02)[1].endswith("about 6 more processes a side would settle it")
    assert judged(math.log1p(0.02), 0.01)[1].endswith("more processes will hardly settle it")


def test_mann_whitney_has_to_agree_with_a_difference() -> None:
    verdict, reason = judged(0.05, 0.01, p_value=0.2)
    assert verdict == "inconclusive" and "Mann-Whitney's test does not agree (p = 0.2)" in reason
    assert judged(0.0, 0.01, p_value=0.9)[0] == "equivalent"


MACHINES = [
    (0.05, 0.01, Cost(0.04, 0.005), "inconclusive", "the machine itself was 4.1 % slower then"),
    (0.05, 0.01, Cost(-0.04, 0.005), "slower", ""),
    (0.20, 0.01, Cost(0.04, 0.005), "slower", "does not explain it"),
    (0.60, 0.01, Cost(0.40, 0.005), "inconclusive", "the machine itself was 49.2 % slower then"),
    (0.0, 0.005, Cost(0.04, 0.005), "inconclusive", "the machine itself was 4.1 % slower then"),
    (0.0, 0.005, Cost(-0.04, 0.005), "inconclusive", "the machine itself was 4.1 % faster then"),
    (0.0, 0.005, Cost(0.008, 0.005), "equivalent", ""),
    (0.0, 0.005, Cost(0.0, 0.009), "equivalent", ""),
    (0.0, 0.005, Cost(-0.02, 0.025), "inconclusive", "the machine's own speed is only known as"),
    (0.0, 0.005, Cost(0.0, 0.15), "inconclusive", "the machine was disturbed"),
    (0.10, 0.02, Cost(0.0, 0.15), "inconclusive", "the machine was disturbed"),
    (1.10, 0.02, Cost(0.0, 0.15), "slower", "the machine was disturbed"),
]


@pytest.mark.parametrize(("log_ratio", "half_width", "machine", "verdict", "text"), MACHINES)
def test_the_machine_itself_may_be_the_reason(
    log_ratio: float, half_width: float, machine: Cost, verdict: str, text: str
) -> None:
    found, reason = judged(log_ratio, half_width, machine=machine)
    assert found == verdict and text in reason
    other = Cost(-machine.value, machine.half_width)
    assert judged(-log_ratio, half_width, machine=other)[0] == MIRRORED.get(found, found)


def test_at_worst_counts_what_a_faster_machine_may_hide() -> None:
    estimate = Estimate(1.0, 1.0, 0.0, 0.01, 1.0)
    assert at_worst(P50, estimate, 0.02, None) == pytest.approx(math.exp(0.01))
    assert at_worst(P50, estimate, 0.02, Cost(-0.04, 0.005)) > math.exp(0.05)
    assert at_worst(P50, estimate, 0.02, Cost(0.04, 0.005)) == pytest.approx(math.exp(0.01))
    assert at_worst(P50, estimate, 0.02, Cost(-0.03, 0.04)) > math.exp(0.06)
    assert at_worst(P50, estimate, 0.5, Cost(-0.04, 0.005)) > math.exp(0.05)


def test_sizes_are_exact() -> None:
    size = MEASURED["size_mb"]
    assert judge_size(size, 100, 100, 0.02) == ("equivalent", "the same")
    assert judge_size(size, 100, 101, 0.02)[0] == "equivalent"
    assert judge_size(size, 100, 103, 0.02)[0] == "larger"
    assert judge_size(size, 103, 100, 0.02)[0] == "smaller"


def with_machine(level: float, *, seed: int, slower: float = 1.0) -> Report:
    """A report whose reference workload took so many times as long."""
    found = rounds(seed=seed, slower=slower)
    times = 2.6e6 * level * np.random.default_rng(seed).normal(1, 0.002, len(found))
    timed = [
        item.model_copy(update={"reference_workload_ns": Samples([int(reference)] * 8)})
        for item, reference in zip(found, times, strict=True)
    ]
    return a_report(an_entry(timed))


def test_a_machine_that_was_slower_is_not_the_models_fault() -> None:
    comparison = compare(with_machine(1.0, seed=1), with_machine(1.05, seed=2, slower=1.05))
    assert finding(comparison, "p50_ms").verdict == "inconclusive"
    assert "the machine itself was" in finding(comparison, "p50_ms").reason
    assert finding(comparison, "peak_rss_mb").verdict == "equivalent"
    assert finding(compare(with_machine(1.0, seed=1), with_machine(1.0, seed=2, slower=1.05)), "p50_ms").verdict == "slower"


def test_without_a_reference_workload_there_is_a_note_and_no_check() -> None:
    old = a_report(an_entry(rounds(seed=2, slower=1.06, reference_workload_ns=Samples())))
    comparison = compare(measured(1), old)
    assert finding(comparison, "p50_ms").verdict == "slower"
    assert any("no reference workload" in note for note in comparison.pairs[0].notes)


def test_throttled_processes_decide_nothing_about_time() -> None:
    hot = [item.model_copy(update={"throttled": number < 3}) for number, item in enumerate(rounds(seed=2, slower=1.3))]
    comparison = compare(measured(1), a_report(an_entry(hot)))
    found = finding(comparison, "p50_ms")
    assert found.verdict == "inconclusive" and found.at_worst is None
    assert found.reason.startswith("the machine throttled in 3 of 8 processes of CHANGED")
    assert finding(comparison, "peak_rss_mb").verdict == "equivalent"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_processes_decide_nothing(count: int) -> None:
    comparison = compare(measured(1), measured(2, count=count, slower=3.0))
    kept = [item for item in comparison.pairs[0].findings if item.processes]
    assert len(kept) >= 5 and {item.verdict for item in kept} == {"inconclusive"}
    assert {item.reason for item in kept} == {f"too few processes: {count}; measure with --rounds 5 or more"}
    assert finding(comparison, "p50_ms").ratio == pytest.approx(3.0, rel=0.1)
    assert verdicts(comparison)["size_mb"] == "equivalent"


def test_pairing_by_round_finds_what_drift_would_hide() -> None:
    drift = np.exp(np.random.default_rng(0).normal(0, 0.1, 8))

    def drifting(seed: int, slower: float) -> tuple[Any, ...]:
        return tuple(
            item.model_copy(update={"latencies_ns": Samples((item.latencies_ns.values * factor).astype(np.int64))})
            for item, factor in zip(rounds(seed=seed, slower=slower), drift, strict=True)
        )

    ref, changed = drifting(1, 1.0), drifting(2, 1.1)
    one_run = a_report(an_entry(ref, role="baseline", name="fp32"), an_entry(changed, name="int8"))
    p50 = CompareOptions(metrics=("p50_ms",))
    assert verdicts(compare_within(one_run, p50)) == {"p50_ms": "slower"}
    assert verdicts(compare(a_report(an_entry(ref)), a_report(an_entry(changed)), p50)) == {"p50_ms": "inconclusive"}


@settings(max_examples=12)
@given(st.integers(0, 1000), st.sampled_from([0.7, 0.95, 1.0, 1.03, 1.1, 2.0]))
def test_swapping_the_reports_mirrors_every_verdict(seed: int, slower: float) -> None:
    ref, changed = measured(seed, queries=70), measured(seed + 1, queries=70, slower=slower)
    forth, back = verdicts(compare(ref, changed)), verdicts(compare(changed, ref))
    assert back == {metric: MIRRORED.get(verdict, verdict) for metric, verdict in forth.items()}


@settings(max_examples=12)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_processes_in_a_report_changes_nothing(seed: int, random: Any) -> None:
    ref, changed = measured(seed, queries=70), list(rounds(seed=seed + 1, queries=70))
    before = compare(ref, a_report(an_entry(changed)))
    random.shuffle(changed)
    assert verdicts(compare(ref, a_report(an_entry(changed)))) == verdicts(before)


def test_the_same_reports_give_the_same_comparison() -> None:
    assert compare(measured(1), measured(2)) == compare(measured(1), measured(2))


def test_only_the_metrics_that_were_asked_for_are_listed() -> None:
    assert list(verdicts(compare(measured(1), measured(2), CompareOptions(metrics=("p90_ms", "throughput"))))) == [
        "p90_ms",
        "throughput",
    ]
