"""Obstacles that make two measurements incomparable, and notes on differences that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_reports import MACHINE, a_report, a_round, an_entry, finding, measured, rounds, verdicts

from edgebert.report.compare import statistics
from edgebert.report.compare.comparison import compare, compare_within
from edgebert.report.compare.findings import CompareOptions
from edgebert.report.report import Report
from edgebert.report.rounds import Setting
from edgebert.report.samples import Samples
from edgebert.report.search_record import SearchRecord
from edgebert.runtimes.target import Target

FEW = CompareOptions(metrics=("p50_ms", "size_mb"))


def machine(**changes: Any) -> Report:
    return a_report(an_entry(rounds(seed=1)), environment=MACHINE.model_copy(update=changes))


def service(**changes: Any) -> Report:
    return a_report(an_entry(rounds(seed=1), target=Target(**{"runtime": "onnxruntime", **changes})))


def load(**changes: Any) -> Report:
    return a_report(an_entry(rounds(seed=1), setting=Setting(**{"queries": "q" * 64, **changes})))


INCOMPARABLE = [
    (machine(cpu="Cortex-A76"), "another machine: cpu EPYC -> Cortex-A76"),
    (machine(isa=("arm-dotprod",)), "another machine: isa avx512_vnni avx2 -> arm-dotprod"),
    (machine(cores=4), "another machine: cores 2 -> 4"),
    (service(threads=2), "other service: threads 1 -> 2"),
    (service(batch=8), "other service: batch 1 -> 8"),
    (service(padding="max_length"), "other service: padding longest -> max_length"),
    (load(scenario="server", rate=50), "other load: scenario single-stream -> server; other load: rate none -> 50.0"),
    (
        load(scenario="multi-stream", streams=8),
        "other load: scenario single-stream -> multi-stream; other load: streams 1 -> 8",
    ),
    (load(instances=2), "other load: instances 1 -> 2"),
    (load(lengths="32"), "other load: lengths data -> 32"),
    (load(driver="mlcommons-loadgen"), "other load: driver edgebert -> mlcommons-loadgen"),
    (
        load(queries="r" * 64),
        "other queries: not the same texts in the same order; measure both with the same --queries, --seed and --data",
    ),
]


@pytest.mark.parametrize(("changed", "reason"), INCOMPARABLE, ids=[reason for _, reason in INCOMPARABLE])
def test_another_measurement_is_incomparable_and_the_reason_says_why(changed: Report, reason: str) -> None:
    comparison = compare(measured(0), changed, FEW)
    assert finding(comparison, "p50_ms").verdict == "incomparable"
    assert finding(comparison, "p50_ms").reason == reason
    assert finding(comparison, "p50_ms").interval is None and finding(comparison, "p50_ms").ratio is None
    assert finding(comparison, "size_mb").verdict == "equivalent"  # files are the same size everywhere


def test_boards_and_quotas_count_when_both_sides_know_them() -> None:
    pi = machine(board="Raspberry Pi 5")
    assert compare(pi, machine(board="Raspberry Pi 4"), FEW).pairs[0].obstacles
    assert not compare(pi, machine(), FEW).pairs[0].obstacles
    assert compare(machine(cpu_quota=1.0), machine(cpu_quota=2.0), FEW).pairs[0].obstacles


def test_what_users_change_on_purpose_is_listed_and_does_not_keep_apart() -> None:
    changed = a_report(
        an_entry(
            rounds(seed=1),
            artifact="b" * 64,
            stage="int8-auto",
            target=Target(runtime="onnxruntime", disabled_optimizers=("BiasGeluFusion",)),
        ),
        environment=MACHINE.model_copy(update={"packages": {"numpy": "2", "onnxruntime": "1.32"}}),
    )
    pair = compare(measured(0), changed, FEW).pairs[0]
    assert not pair.obstacles
    assert pair.differs == (
        "model aaaaaaaaaaaa -> bbbbbbbbbbbb",
        "made by int8-dynamic -> int8-auto",
        "disabled_optimizers none -> BiasGeluFusion",
        "onnxruntime none -> 1.32",
    )


def test_another_runtime_brings_its_own_bucket() -> None:
    assert compare(measured(0), service(runtime="openvino"), FEW).pairs[0].obstacles == ()


def test_across_devices_compares_and_says_so_and_all_else_still_counts() -> None:
    options = FEW.model_copy(update={"across_devices": True})
    pi = a_report(an_entry(rounds(seed=1, slower=8.0)), environment=MACHINE.model_copy(update={"cpu": "Cortex-A76"}))
    comparison = compare(measured(0), pi, options)
    assert comparison.notes == ("across devices, another machine: cpu EPYC -> Cortex-A76",)
    assert finding(comparison, "p50_ms").verdict == "slower"
    assert compare(measured(0), measured(1), options).notes == ()
    other = a_report(an_entry(rounds(seed=1), target=Target(runtime="onnxruntime", threads=2)), environment=pi.environment)
    assert compare(measured(0), other, options).pairs[0].obstacles == ("other service: threads 1 -> 2",)


def test_the_state_of_the_machine_is_a_note() -> None:
    pair = compare(machine(governor="powersave", turbo=False), machine(governor="performance", turbo=True), FEW).pairs[0]
    assert not pair.obstacles
    assert "governor powersave -> performance, which may be the reason" in pair.notes
    assert "turbo False -> True, which may be the reason" in pair.notes


def test_other_instruction_sets_for_int8_are_a_note() -> None:
    with_amx, without = (a_report(an_entry(rounds(seed=seed, isa=isa))) for seed, isa in enumerate(["amx", "avx512_vnni"]))
    assert "INT8 could use amx -> avx512_vnni, which may be the reason" in compare(with_amx, without, FEW).pairs[0].notes
    assert not any("INT8" in note for note in compare(with_amx, with_amx, FEW).pairs[0].notes)


def test_processes_that_had_not_settled_are_a_note() -> None:
    unsettled = a_report(an_entry(rounds(seed=1, stable=False)))
    assert "8 of 8 processes of CHANGED had not settled after warm-up" in compare(measured(0), unsettled, FEW).pairs[0].notes


def test_reports_that_do_not_say_what_was_asked_are_compared_by_their_lengths() -> None:
    old = a_report(an_entry(rounds(seed=1), setting=Setting()))
    assert verdicts(compare(measured(0), old, FEW))["p50_ms"] == "equivalent"
    assert "a report does not say which texts were asked" in compare(measured(0), old, FEW).pairs[0].notes
    longer = a_report(an_entry(rounds(seed=1, lengths=Samples([9] * 150)), setting=Setting()))
    (obstacle,) = compare(measured(0), longer, FEW).pairs[0].obstacles
    assert obstacle.startswith("other queries: lengths of 7 -> 9 tokens; measure both with the same --queries")
    late = [*rounds(seed=1, count=4), *rounds(seed=1, count=4, lengths=Samples([9] * 150))]
    assert compare(measured(0), a_report(an_entry(late, setting=Setting())), FEW).pairs[0].obstacles
    for empty in ((), [a_round(0, generator=np.random.default_rng(0), latencies_ns=Samples(), lengths=Samples())]):
        assert not compare(measured(0), a_report(an_entry(empty, setting=Setting())), FEW).pairs[0].obstacles


def test_the_same_texts_at_other_lengths_are_another_measurement_unless_the_tokenizer_made_them() -> None:
    longer = {"measured": rounds(seed=1, lengths=Samples([128] * 150))}
    pair = compare(measured(0), a_report(an_entry(**longer)), FEW).pairs[0]
    assert pair.obstacles == ("other lengths: lengths of 7 -> 128 tokens",)
    pair = compare(measured(0), a_report(an_entry(**longer, tokenizer="t" * 64)), FEW).pairs[0]
    assert not pair.obstacles and "lengths of 7 -> 128 tokens" in pair.differs
    padded = an_entry(rounds(seed=1, lengths=Samples([8] * 150)), target=Target(runtime="onnxruntime", length_bucket=8))
    pair = compare(measured(0), a_report(padded), FEW).pairs[0]
    assert not pair.obstacles and pair.differs == ("length_bucket 1 -> 8",)


def searched(**tuning: Any) -> SearchRecord:
    return SearchRecord(
        method="dynamic", rewrites=(), repairs=(), excluded_nodes=(), tuning=tuning, passed=True, rows=10, trials=()
    )


def test_what_a_search_chose_beside_its_fp32_is_no_obstacle() -> None:
    two = Target(runtime="onnxruntime", threads=2)
    entries = [
        an_entry(rounds(seed=0), name="onnxruntime/fp32", role="baseline"),
        an_entry(rounds(seed=1), name="onnxruntime-t2/fp32", role="baseline", target=two),
        an_entry(rounds(seed=2), name="onnxruntime-t2/int8-auto", search=searched(threads=1)),
    ]
    (pair,) = compare_within(a_report(*entries), FEW).pairs
    assert pair.ref == "onnxruntime-t2/fp32" and not pair.obstacles
    assert "threads 2 -> 1" in pair.differs
    untuned = [*entries[:2], entries[2].model_copy(update={"search": None, "name": "other"})]
    assert compare_within(a_report(*untuned), FEW).pairs[0].ref == "onnxruntime/fp32"
    apart = compare(a_report(an_entry(rounds(seed=1), target=two)), a_report(entries[2]), FEW).pairs[0]
    assert apart.obstacles == ("other service: threads 2 -> 1",)


def test_what_may_have_changed_a_process_is_a_note() -> None:
    changes = {"variables": {"OMP_NUM_THREADS": "1"}, "boot_options": ("mitigations=off",), "max_mhz": 3000.0, "isolated": (1,)}
    notes = compare(machine(huge_pages="always"), machine(huge_pages="never", **changes), FEW).pairs[0].notes
    for text in (
        "huge_pages always -> never",
        "OMP_NUM_THREADS none -> 1",
        "boot_options none -> mitigations=off",
        "isolated none -> 1",
    ):
        assert f"{text}, which may be the reason" in notes
    assert not any("max_mhz" in note or "core_kinds" in note for note in notes)  # one side does not know


def test_throttling_by_a_quota_is_named() -> None:
    hot = an_entry(rounds(seed=2, throttled=True))
    limited = MACHINE.model_copy(update={"cpu_quota": 1.5})
    found = compare(a_report(an_entry(rounds(seed=1)), environment=limited), a_report(hot, environment=limited), FEW)
    assert "raise the CPU quota of 1.5 cores" in finding(found, "p50_ms").reason
    assert "let it cool down and measure again" in finding(compare(measured(1), a_report(hot)), "p50_ms").reason


def test_a_metric_that_one_side_lacks_is_incomparable_and_one_that_both_lack_is_not_listed() -> None:
    without = a_report(an_entry(rounds(seed=1, cold_start_ns=None)))
    comparison = compare(measured(0), without)
    found = finding(comparison, "cold_start_ms")
    assert (found.verdict, found.reason) == ("incomparable", "CHANGED has no cold_start_ms")
    assert found.ref is not None and found.changed is None
    assert "pss_mb" not in verdicts(comparison)
    short = a_report(an_entry(rounds(seed=1, count=4, queries=20)))
    assert finding(compare(measured(0), short), "p95_ms").reason == "CHANGED has no p95_ms, or fewer than 130 samples"


def test_a_note_says_when_intervals_are_not_of_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "KEPT_CELLS", 64 * 50)
    notes = compare(measured(0), measured(1), FEW).pairs[0].notes
    assert (
        "percentiles are of all 2,400 samples, their intervals of 50 evenly spaced ones of each process: "
        "its ranks are off by at most 1 %"
    ) in notes
