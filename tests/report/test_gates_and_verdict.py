"""Gates never fail open, and the verdict keeps the best candidate whatever the gates say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from answers import hash_of, statistics
from hypothesis import given
from hypothesis import strategies as st

from edgebert.report.entry import Entry
from edgebert.report.environment import Environment
from edgebert.report.gates import BOUNDS, Gate, judge_gate
from edgebert.report.metric_table import GATED
from edgebert.report.report import Report
from edgebert.report.rounds import Coverage, Round
from edgebert.report.text_counts import TextCounts
from edgebert.report.verdict import judge
from edgebert.runtimes.target import Target
from edgebert.tasks.metrics import ANSWER_METRICS

RELATIVE = ("min_ratio", "max_ratio", "max_drop", "max_rise")
ENVIRONMENT = Environment(cpu="a", isa=(), cores=1, machine="m", system="s", python="3", packages={})
COUNTS = Coverage(int8_macs=3, all_macs=4, length=7, batch=1, kernels={}, float_products=(), int8_macs_per_second=1e3)
REFERENCES = (0, 1) * 10

measured = st.floats(min_value=0, max_value=1e6)
bounds = st.floats(min_value=1e-3, max_value=1e3)
unmeasured = st.sampled_from([None, math.nan, math.inf, -math.inf])


def gate(kind: str, value: float, metric: Any = "accuracy") -> Gate:
    return Gate.model_validate({"metric": metric, kind: value})


@given(kind=st.sampled_from(BOUNDS), bound=bounds, candidate=unmeasured, baseline=st.one_of(measured, unmeasured))
def test_judge_gate_never_passes_when_the_candidate_was_not_measured(
    kind: str, bound: float, candidate: float | None, baseline: float | None
) -> None:
    result = judge_gate(gate(kind, bound), candidate, baseline)
    assert not result.passed
    assert "not measured on the candidate" in result.reason


@given(kind=st.sampled_from(RELATIVE), bound=bounds, candidate=measured, baseline=unmeasured)
def test_judge_gate_never_passes_when_fp32_was_not_measured(
    kind: str, bound: float, candidate: float, baseline: float | None
) -> None:
    result = judge_gate(gate(kind, bound), candidate, baseline)
    assert not result.passed
    assert "not measured on the FP32" in result.reason


@given(kind=st.sampled_from(["min", "max"]), bound=bounds, candidate=measured, baseline=st.one_of(measured, unmeasured))
def test_judge_gate_asks_nothing_of_fp32_when_the_bound_is_absolute(
    kind: str, bound: float, candidate: float, baseline: float | None
) -> None:
    assert judge_gate(gate(kind, bound), candidate, baseline) == judge_gate(gate(kind, bound), candidate, None)


@given(candidate=measured, baseline=measured, bound=bounds)
def test_judge_gate_holds_exactly_on_the_allowed_side_of_each_bound(candidate: float, baseline: float, bound: float) -> None:
    expected = {
        "min": candidate >= bound,
        "max": candidate <= bound,
        "min_ratio": baseline != 0 and candidate >= baseline * bound,
        "max_ratio": candidate <= baseline * bound,
        "max_drop": baseline - candidate <= bound,
        "max_rise": candidate - baseline <= bound,
    }
    limits = {"min": bound, "max": bound, "max_drop": baseline - bound, "max_rise": baseline + bound}
    for kind, holds in expected.items():
        limit = limits.get(kind, baseline * bound)
        if abs(candidate - limit) > 1e-9 * max(1.0, abs(limit)):  # nearer than that, the last bits decide
            assert judge_gate(gate(kind, bound), candidate, baseline).passed is holds, kind


@given(baseline=st.floats(min_value=1e-3, max_value=1e3), ratio=st.floats(min_value=1e-3, max_value=1e3))
def test_judge_gate_holds_when_the_ratio_is_met_exactly(baseline: float, ratio: float) -> None:
    assert judge_gate(gate("min_ratio", ratio), baseline * ratio, baseline).passed
    assert judge_gate(gate("max_ratio", ratio), baseline * ratio, baseline).passed


def test_judge_gate_holds_when_a_decimal_bound_is_met_on_paper() -> None:
    assert judge_gate(gate("max_drop", 0.1), 0.8, 0.9).passed  # 0.9 - 0.1 is a little more than 0.8 in binary


def test_judge_gate_says_what_was_measured_and_what_was_wanted() -> None:
    missed = judge_gate(gate("min_ratio", 0.99), 0.5, 0.8)
    assert missed.reason == "accuracy >= 0.99 of FP32: 0.5 (FP32 0.8), missed"
    assert judge_gate(gate("max", 30.0, "size_mb"), 20.0, None).reason == "size_mb <= 30: 20, holds"


@pytest.mark.parametrize("metric", ["speedup", "agreement", "int8_coverage"])
@pytest.mark.parametrize("kind", RELATIVE)
def test_gate_is_refused_when_it_compares_what_is_already_relative(metric: str, kind: str) -> None:
    with pytest.raises(
        ValueError, match=f"{metric} (is already relative to FP32|of FP32 is 0, nothing to compare with): use min or max"
    ):
        gate(kind, 0.5, metric)


@pytest.mark.parametrize("bounds", [{}, {"min": 0.5, "max": 0.9}, {"min": math.nan}, {"max": math.inf}, {"min_ratio": 0.0}])
def test_gate_is_refused_when_it_has_not_exactly_one_usable_bound(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Gate.model_validate({"metric": "accuracy", **bounds})


def entry(name: str, *, wrong: int = 0, ms: float | None = 1.0, role: Any = "candidate", runtime: Any = "onnxruntime") -> Entry:
    """20 predictions of which the first `wrong` are wrong, and 20 queries of `ms` each."""
    predictions = tuple(1 - label if index < wrong else label for index, label in enumerate(REFERENCES))
    latencies = () if ms is None else (round(ms * 1e6),) * 20
    measured = Round(
        round=0, latencies_ns=latencies, tokenise_ns=(1,), lengths=(2,) * len(latencies), load_ns=1, peak_rss_bytes=1
    )
    return Entry(
        name=name,
        role=role,
        stage=name,
        artifact=name,
        target=Target(runtime=runtime),
        size_bytes=1_000_000,
        statistics=statistics(predictions, REFERENCES, REFERENCES),
        rounds=(measured,),
    )


def report(gates: Sequence[Gate], *candidates: Entry, baseline_ms: float = 2.0) -> Report:
    return Report(
        recipe="r",
        task="text-classification",
        labels=("no", "yes"),
        eval_data="e",
        right_answers=hash_of(REFERENCES),
        environment=ENVIRONMENT,
        gates=tuple(gates),
        entries=(entry("fp32", ms=baseline_ms, role="baseline"), *candidates),
    )


HALF_RIGHT = gate("min", 0.5)
FASTER = gate("min", 1.5, "speedup")


def test_judge_keeps_the_fastest_of_those_that_pass() -> None:
    verdict = judge(
        report([HALF_RIGHT], entry("slow", ms=3.0), entry("wrong", wrong=15, ms=0.1), entry("fast", wrong=5, ms=1.0))
    )
    assert (verdict.status, verdict.best.entry.name) == ("PASSED", "fast")
    assert {judged.entry.name: judged.passed for judged in verdict.judged_entries} == {
        "slow": True,
        "wrong": False,
        "fast": True,
    }


def test_judge_keeps_one_that_passes_when_a_faster_one_fails() -> None:
    verdict = judge(report([HALF_RIGHT], entry("wrong", wrong=20, ms=0.01), entry("right", ms=100.0)))
    assert verdict.best.entry.name == "right"


def test_judge_keeps_the_candidate_with_the_fewest_failures_when_none_passes() -> None:
    verdict = judge(
        report([gate("min", 0.9), FASTER], entry("both missed", wrong=3, ms=5.0), entry("one missed", wrong=9, ms=1.0))
    )
    assert (verdict.status, verdict.best.entry.name) == ("FAILED", "one missed")
    assert [reason.split(":")[0] for reason in verdict.best.failures] == ["accuracy >= 0.9"]


def test_judge_keeps_the_better_score_and_then_the_faster_when_failures_are_equal() -> None:
    gates = [gate("min", 0.99)]
    better = judge(report(gates, entry("fast", wrong=5, ms=0.1), entry("better", wrong=4, ms=9.0)))
    assert better.best.entry.name == "better"
    faster = judge(report(gates, entry("slow", wrong=4, ms=9.0), entry("fast", wrong=4, ms=0.1)))
    assert faster.best.entry.name == "fast"


def test_judge_fails_every_gate_on_a_metric_that_was_not_measured() -> None:
    gates = [gate("max", 1e9, "p99_ms"), gate("min", 0.0, "speedup"), gate("max_ratio", 1e9, "p50_ms")]
    verdict = judge(report(gates, entry("quick", ms=None)))
    assert not verdict.passed
    assert len(verdict.best.failures) == 3


def test_judge_fails_a_relative_gate_when_there_is_no_fp32_on_the_same_target() -> None:
    verdict = judge(report([gate("min_ratio", 0.1)], entry("elsewhere", runtime="openvino")))
    assert not verdict.passed
    assert "not measured on the FP32" in verdict.best.failures[0]


def test_judge_prefers_a_measured_candidate_when_another_was_never_timed() -> None:
    assert judge(report([], entry("untimed", ms=None), entry("timed", ms=50.0))).best.entry.name == "timed"


@pytest.mark.parametrize("metric", ["macs", "parameters"])
def test_judge_compares_what_was_counted_with_fp32(metric: str) -> None:
    fp32, a = entry("fp32", role="baseline"), entry("a")
    gates = [gate("max_ratio", 0.34, metric), gate("max", 4e6, metric), gate("max_drop", 5e6, metric)]
    counted = [fp32.model_copy(update={metric: 9_000_000}), a.model_copy(update={metric: 3_000_000})]
    (judged,) = judge(report(gates, a).model_copy(update={"entries": tuple(counted)})).judged_entries
    assert [result.passed for result in judged.results] == [True, True, False]
    assert judged.results[0].reason == f"{metric} <= 0.34 of FP32: 3e+06 (FP32 9e+06), holds"
    (judged,) = judge(report(gates, a)).judged_entries
    assert not any(result.passed for result in judged.results)  # what was not counted never passes


def test_judge_fails_a_gate_on_int8_when_it_is_too_low_or_was_not_counted() -> None:
    gates = [gate("min", 0.75, "int8_coverage"), gate("min", 0.76, "int8_coverage"), gate("max", 1e9, "roofline_ratio")]
    (judged,) = judge(report(gates, entry("a").model_copy(update={"coverage": COUNTS}))).judged_entries
    assert [result.passed for result in judged.results] == [True, False, True]
    (judged,) = judge(report(gates, entry("a"))).judged_entries
    assert not any(result.passed for result in judged.results)


wrongs = st.integers(min_value=0, max_value=20)
times = st.floats(min_value=0.01, max_value=100).map(lambda ms: round(ms, 3))


@given(
    st.lists(st.tuples(wrongs, times), min_size=1, max_size=6),
    st.lists(st.sampled_from([HALF_RIGHT, FASTER, gate("min_ratio", 0.9), gate("max", 1.0, "p50_ms")]), max_size=3),
)
def test_judge_keeps_one_that_passes_exactly_when_there_is_one_and_no_faster_one_passes(
    shapes: list[tuple[int, float]], gates: list[Gate]
) -> None:
    candidates = [entry(str(index), wrong=wrong, ms=ms) for index, (wrong, ms) in enumerate(shapes)]
    verdict = judge(report(gates, *candidates))
    passing = [judged for judged in verdict.judged_entries if judged.passed]
    assert verdict.passed == bool(passing)
    if passing:
        fastest = min(judged.entry.percentile_ms(50) or math.inf for judged in passing)
        assert verdict.best.entry.percentile_ms(50) == fastest
    else:
        assert len(verdict.best.failures) == min(len(judged.failures) for judged in verdict.judged_entries)


def test_every_metric_of_a_gate_can_be_read_from_a_report() -> None:
    counted = {
        "macs": 5e8,
        "parameters": 22_000_000,
        "coverage": COUNTS,
        "texts": TextCounts(texts=4, cut=1, tokens=9, unknown=0),
    }
    full = report([], entry("a").model_copy(update=counted))
    values = {metric: full.value(full.entries[1], metric) for metric in GATED}
    of_other_tasks = {metric.name for metric in ANSWER_METRICS if metric.of != "label"}
    missing = {metric for metric, value in values.items() if value is None}
    assert missing - of_other_tasks == {"p90_ms", "p95_ms", "p99_ms"}  # 20 queries
    assert values["speedup"] == pytest.approx(2.0)
    assert values["size_mb"] == 1.0


def test_a_share_of_an_fp32_of_nothing_holds_for_no_candidate() -> None:
    found = judge_gate(Gate(metric="accuracy", min_ratio=0.99), 0.0, 0.0)
    assert not found.passed and "FP32 has 0" in found.reason
