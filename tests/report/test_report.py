"""Reports hold raw measurements; what is computed from them is computed on reading, or not at all."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from page_reports import full_report
from run_reports import entry, report, timed

from edgebert.models.sizes import EncoderSizes, LayerSizes
from edgebert.report.entry import SAMPLES_FOR, Entry
from edgebert.report.file import report_text
from edgebert.report.metric_table import METRICS
from edgebert.report.report import Report
from edgebert.report.rounds import Coverage, FloatProduct
from edgebert.report.row_statistics import RowStatistics
from edgebert.report.samples import Samples


@pytest.mark.parametrize(("percent", "fewest"), SAMPLES_FOR.items())
def test_percentile_is_given_only_when_there_are_enough_samples(percent: int, fewest: int) -> None:
    assert entry(timed(fewest - 1)).percentile_ms(percent) is None
    expected = float(np.percentile(np.arange(1, fewest + 1), percent))
    assert entry(timed(fewest)).percentile_ms(percent) == pytest.approx(expected)


def test_percentile_counts_the_samples_of_all_rounds() -> None:
    assert entry(timed(40)).percentile_ms(90) is None
    assert entry(timed(40), timed(40, number=1)).percentile_ms(90) is not None


def test_samples_for_leaves_a_percentile_a_few_samples_above_it() -> None:
    assert all(fewest * (100 - percent) / 100 > 6 for percent, fewest in SAMPLES_FOR.items())


def test_latencies_keep_the_order_in_which_they_were_taken() -> None:
    both = entry(timed(3), timed(2, number=1)).latencies_ms()
    assert both.tolist() == [1.0, 2.0, 3.0, 1.0, 2.0]


def test_load_time_and_memory_are_medians_over_the_processes() -> None:
    three = entry(*(timed(1, number=number) for number in range(3)))
    assert three.load_ms() == 10.0
    assert three.peak_rss_mb() == 200.0
    assert three.tokenise_ms() == pytest.approx(0.04)


def test_memory_is_not_given_when_one_process_could_not_say() -> None:
    unknown = timed(1, number=1).model_copy(update={"peak_rss_bytes": None})
    assert entry(timed(1), unknown).peak_rss_mb() is None


def test_nothing_is_measured_when_there_are_no_rounds_and_no_predictions() -> None:
    empty = report(entry(role="baseline", predictions=None), entry(predictions=None))
    values = {metric: empty.value(empty.entries[1], metric) for metric in METRICS}
    assert values.pop("size_mb") == 1.5
    assert set(values.values()) == {None}


def test_agreement_is_the_share_of_examples_on_which_fp32_says_the_same() -> None:
    fp32 = (0, 1, 0, 1)
    both = report(entry(timed(20), role="baseline", predictions=fp32, fp32=fp32), entry(timed(20), fp32=fp32))
    assert both.value(both.entries[1], "agreement") == 0.5
    assert both.value(both.entries[0], "agreement") == 1.0
    assert both.value(both.entries[1], "accuracy") == 0.75


def test_value_compares_with_fp32_of_the_same_target_only() -> None:
    mixed = report(entry(timed(20), role="baseline", threads=2), entry(timed(40), role="baseline"), entry(timed(20), threads=1))
    assert mixed.baseline_of(mixed.entries[2]) is mixed.entries[1]
    assert mixed.value(mixed.entries[2], "speedup") == pytest.approx(20.5 / 10.5)
    alone = report(entry(timed(20), role="baseline", threads=2), entry(timed(20)))
    assert alone.value(alone.entries[1], "speedup") is None
    assert alone.value(alone.entries[1], "agreement") is None


def test_a_candidate_that_runs_on_fewer_threads_than_asked_is_held_against_its_own_targets_fp32() -> None:
    def named(name: str, found: Entry) -> Entry:
        return found.model_copy(update={"name": name})

    four = named("onnxruntime-t4/fp32", entry(timed(20), role="baseline", threads=4))
    two = named("onnxruntime-t2/fp32", entry(timed(40), role="baseline", threads=2))
    tuned = named("onnxruntime-t4/int8-auto", entry(timed(20), threads=2))
    mixed = report(two, four, tuned)
    assert mixed.baseline_of(tuned) is four
    assert mixed.value(tuned, "speedup") == 1.0


def keys_of(value: Any) -> set[str]:
    """Every key anywhere in a JSON value."""
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys_of(inner)}
    return {key for inner in value for key in keys_of(inner)} if isinstance(value, list) else set()


def test_statistics_are_never_stored_when_a_report_is_written() -> None:
    stored = json.loads(report_text(full_report()))
    for item in stored["entries"]:
        for measured in item["rounds"]:
            unpacked = [Samples.unpacked(measured[name]) for name in ("latencies_ns", "lengths", "tokenise_ns")]
            assert [len(samples) for samples in unpacked] == [60] * 3
        del item["rounds"], item["target"], item["setting"], item["search"]
        (item["coverage"] or {}).pop("kernels", None)
        assert all({*kept} == {*RowStatistics.model_fields} for kept in item.pop("statistics").values())
    del stored["gates"], stored["environment"]
    raw = {name for model in (Report, Entry, EncoderSizes, LayerSizes, Coverage, FloatProduct) for name in model.model_fields}
    assert keys_of(stored) <= raw
    assert raw & set(METRICS) == {"macs", "parameters"}  # counted, not measured: there is nothing to compute them from


def test_macs_and_parameters_are_those_that_were_counted() -> None:
    both = report(entry(role="baseline"), entry().model_copy(update={"macs": 5e8, "parameters": 22_000_000}))
    assert [both.value(item, "macs") for item in both.entries] == [None, 5e8]
    assert [both.value(item, "parameters") for item in both.entries] == [None, 22_000_000]


def test_coverage_is_the_int8_share_of_the_macs_and_the_roofline_is_their_time_at_the_int8_rate() -> None:
    counts = Coverage(
        int8_macs=300, all_macs=400, length=7, batch=1, kernels={"MatMul": 1}, float_products=(), int8_macs_per_second=2e5
    )
    both = report(entry(timed(20), role="baseline"), entry(timed(20)).model_copy(update={"coverage": counts}))
    metrics = ("int8_coverage", "roofline_ratio")
    assert [both.value(both.entries[0], metric) for metric in metrics] == [None, None]
    assert [both.value(both.entries[1], metric) for metric in metrics] == pytest.approx([0.75, 10.5 / 2.0])
    assert counts.roofline_ms == 2.0
    untimed = entry().model_copy(update={"coverage": counts})
    assert both.value(untimed, "roofline_ratio") is None


def test_an_intermediate_is_neither_a_candidate_nor_the_baseline() -> None:
    found = report(entry(timed(20), role="intermediate"), entry(timed(20), timed(20), role="baseline"), entry(timed(20)))
    intermediate, baseline, candidate = found.entries
    assert found.candidates() == [candidate]
    assert found.baseline_of(candidate) is found.baseline_of(intermediate) is baseline
    assert found.value(intermediate, "speedup") == pytest.approx(1.0)
