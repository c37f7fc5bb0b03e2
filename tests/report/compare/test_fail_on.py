"""--fail-on never fails open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_reports import MACHINE, a_report, a_round, an_entry, measured, rounds

from edgebert.errors import InputError
from edgebert.report.compare.comparison import compare, compare_within
from edgebert.report.compare.findings import CompareOptions, Comparison, Finding, PairFindings, Policy
from edgebert.report.compare.policy import REQUIRED, failures
from edgebert.report.report import Report
from edgebert.report.rounds import Setting
from edgebert.report.samples import Samples
from edgebert.runtimes.target import Target

SLOWER = Policy(fail_on=("slower",))


def holding(metric: str, verdict: Any, at_worst: float | None, *, named: bool = False, **changes: Any) -> bool:
    """Whether a comparison with one finding passes."""
    kept = {"ref": 1.0, "changed": 1.0, **changes}
    found = Finding(metric=metric, verdict=verdict, reason="reason", at_worst=at_worst, **kept)
    others = [
        Finding(metric=name, verdict="equivalent", reason="", at_worst=1.0) for name in REQUIRED["slower"] if name != metric
    ]
    findings = (found,) if named else (found, *others)
    pair = PairFindings(ref="a", changed="a", target="t", setting="s", paired=False, findings=findings)
    options = CompareOptions(metrics=(metric,) if named else ())
    return not failures([Comparison(ref="a", changed="b", options=options, pairs=(pair,))], SLOWER)


TRUTHS = [
    ("p50_ms", "equivalent", 1.01, True),
    ("p50_ms", "faster", 0.9, True),
    ("p50_ms", "slower", 1.049, True),
    ("p50_ms", "slower", 1.051, False),
    ("p50_ms", "inconclusive", 1.049, True),
    ("p50_ms", "inconclusive", 1.05, False),
    ("p50_ms", "inconclusive", None, False),
    ("p50_ms", "incomparable", None, False),
    ("throughput", "inconclusive", 1.2, False),
    ("load_ms", "inconclusive", 1.2, True),
    ("load_ms", "inconclusive", None, True),
    ("load_ms", "slower", 1.2, False),
    ("p99_ms", "slower", 1.2, False),
    ("p99_ms", "slower", 1.03, True),
]


@pytest.mark.parametrize(("metric", "verdict", "at_worst", "passes"), TRUTHS)
def test_policy_passes_only_what_holds(metric: str, verdict: Any, at_worst: float | None, passes: bool) -> None:
    assert holding(metric, verdict, at_worst) is passes


def test_a_metric_that_was_asked_for_by_name_has_to_be_shown_to_hold() -> None:
    assert holding("p99_ms", "inconclusive", 1.2)
    assert not holding("p99_ms", "inconclusive", 1.2, named=True)
    assert not failures([compare(measured(1), measured(2), CompareOptions(metrics=("p50_ms",)))], SLOWER)
    (failure,) = failures([compare(measured(1), measured(2), CompareOptions(metrics=("p50_ms", "p99.9_ms")))], SLOWER)
    assert failure.metric == "p99.9_ms" and failure.reason == "not shown: p99.9_ms was not measured"


def test_a_metric_that_changed_lost_fails_whatever_it_is() -> None:
    assert not holding("load_ms", "incomparable", None, changed=None)
    assert holding("load_ms", "incomparable", None, ref=None)
    assert not holding("p50_ms", "incomparable", None, ref=None)


def reasons(comparison: Comparison, *words: Any, **changes: Any) -> list[str]:
    return [failure.reason for failure in failures([comparison], Policy(fail_on=words or ("slower",), **changes))]


def test_equal_models_pass_and_a_slower_one_fails() -> None:
    assert reasons(compare(measured(1), measured(2))) == []
    found = reasons(compare(measured(1), measured(2, slower=1.2)))
    assert found and all("slower" in reason for reason in found)
    assert reasons(compare(measured(1), measured(2, slower=1.2)), "larger") == []
    assert reasons(compare(measured(1), measured(2, slower=1.2)), threshold=0.5) == []
    assert reasons(compare(measured(1), measured(2, slower=0.8))) == []


def test_a_candidate_without_a_baseline_fails_and_the_reason_says_so() -> None:
    fp32 = an_entry(rounds(seed=1), name="onnxruntime/fp32", role="baseline")
    alone = an_entry(rounds(seed=3), name="two/int8", target=Target(runtime="onnxruntime", threads=2))
    comparison = compare_within(a_report(fp32, an_entry(rounds(seed=2), name="onnxruntime/int8"), alone))
    assert comparison.missing == ("two/int8 (onnxruntime-t2, single-stream)",) and not comparison.extra
    assert reasons(comparison) == [
        "not shown: two/int8 (onnxruntime-t2, single-stream) has no baseline on its threads, batch and load"
    ]


def without(**changes: Any) -> Any:
    """Two measurements of equal models whose rounds all lack something."""
    return compare(*(a_report(an_entry(rounds(seed=seed, **changes))) for seed in (1, 2)))


def test_what_neither_side_measured_is_not_shown() -> None:
    assert reasons(without(wall_ns=None)) == ["not shown: throughput was measured on neither side"]
    assert reasons(without(queries=10, count=6))[0] == "not shown: p90_ms needs 64 samples a side, here are 60 and 60"
    few = reasons(without(queries=3, count=5))[:2]
    assert few == [
        "not shown: p50_ms was measured on neither side, or from fewer than 16 samples",
        "not shown: p90_ms was measured on neither side, or from fewer than 64 samples",
    ]
    assert set(few) < set(reasons(without(queries=3, count=5), "any"))
    assert reasons(without(peak_rss_bytes=None), "larger") == ["not shown: peak_rss_mb was measured on neither side"]
    nothing = a_report(an_entry())
    assert len(reasons(compare(nothing, nothing))) == 3


def test_offline_it_is_throughput_that_counts() -> None:
    offline = Setting(scenario="offline", queries="q" * 64)
    sides = [a_report(an_entry(rounds(seed=seed, queries=2), setting=offline)) for seed in (1, 2)]
    assert not [reason for reason in reasons(compare(*sides)) if reason.startswith("not shown")]
    sides = [a_report(an_entry(rounds(seed=seed, queries=2, wall_ns=None), setting=offline)) for seed in (1, 2)]
    assert "not shown: throughput was measured on neither side" in reasons(compare(*sides))


def test_a_wide_band_does_not_weaken_the_threshold() -> None:
    slow_to_load = [item.model_copy(update={"load_ns": int(item.load_ns * 1.1)}) for item in rounds(seed=2)]
    comparison = compare(measured(1), a_report(an_entry(slow_to_load)), CompareOptions(band=0.5))
    (reason,) = reasons(comparison)
    assert reason.startswith("load_ms: ") and "allowed is less than 5 % slower" in reason
    assert reasons(comparison, threshold=0.2) == []
    reference = Samples(np.full(8, 2_300_000))
    hidden = compare(measured(1), a_report(an_entry(rounds(seed=2, reference_workload_ns=reference))), CompareOptions(band=0.5))
    assert any(reason.startswith("p50_ms is not shown to hold") for reason in reasons(hidden))


def test_a_size_of_one_side_alone_is_not_comparable() -> None:
    known, unknown = measured(1), a_report(an_entry(rounds(seed=2), size_bytes=0))
    for ref, changed, lacking in ((known, unknown, "CHANGED"), (unknown, known, "REF")):
        (reason,) = reasons(compare(ref, changed), "larger")
        assert reason == f"size_mb is not shown to hold less than 5 % larger: {lacking} has no size_mb"


def test_too_few_processes_fail() -> None:
    found = reasons(compare(measured(1, count=3), measured(2, count=3)))
    assert any("not shown to hold" in reason and "too few processes: 3" in reason for reason in found)


def test_another_machine_fails_once_and_says_why() -> None:
    other = a_report(an_entry(rounds(seed=2)), environment=MACHINE.model_copy(update={"cores": 64}))
    found = reasons(compare(measured(1), other))
    assert found == ["not shown: incomparable, another machine: cores 2 -> 64"]
    assert not reasons(compare(measured(1), other, CompareOptions(across_devices=True)))


def test_a_throttled_machine_fails() -> None:
    hot = a_report(an_entry(rounds(seed=2, throttled=True)))
    assert any("throttled" in reason for reason in reasons(compare(measured(1), hot)))


def test_a_machine_that_was_faster_may_hide_a_loss_and_fails() -> None:
    reference = Samples(np.full(8, 2_300_000))
    found = reasons(compare(measured(1), a_report(an_entry(rounds(seed=2, reference_workload_ns=reference)))))
    assert any("the machine itself was" in reason for reason in found)


def test_an_entry_without_counterpart_fails() -> None:
    ref = a_report(an_entry(rounds(seed=1), name="a"), an_entry(rounds(seed=2), name="b"))
    changed = a_report(an_entry(rounds(seed=3), name="a"))
    assert reasons(compare(ref, changed)) == ["not shown: CHANGED has no b (onnxruntime, single-stream)"]
    assert not reasons(compare(changed, ref))


def test_nothing_to_compare_fails() -> None:
    alone = a_report(an_entry(rounds(), name="fp32", role="baseline", target=Target(runtime="openvino")))
    assert reasons(compare_within(alone), "any") == ["not shown: no entry has a counterpart"]


def test_words_of_which_nothing_was_measured_fail() -> None:
    empty = a_report(an_entry(size_bytes=0))
    assert len(reasons(compare(empty, empty), "any")) == 5
    assert reasons(compare(measured(1), measured(2)), "less-accurate") == [
        "not shown: nothing was measured on both sides that says whether it is less-accurate"
    ]
    assert reasons(compare(measured(1), measured(2)), "any") == []


def test_size_and_answers_have_thresholds_of_their_own() -> None:
    right = (1, 0) * 500
    ref = a_report(an_entry(rounds(seed=1), predictions=right, references=right), references=right)
    found = (1,) * 60 + right[60:]
    lost = an_entry(rounds(seed=2), predictions=found, references=right, size_bytes=30_000_000, artifact="b" * 64)
    comparison = compare(ref, a_report(lost, references=right))
    found = reasons(comparison, "any")
    assert [reason.split(":")[0] for reason in found] == ["size_mb", "accuracy", "macro_f1"]
    assert reasons(comparison, "less-accurate", accuracy_threshold=0.05, threshold=0.0) == []
    assert len(reasons(comparison, "larger")) == 1
    assert reasons(comparison, "larger", threshold=0.5) == []


def test_a_threshold_of_nothing_passes_the_same_file() -> None:
    same = a_report(an_entry(predictions=(1, 0), references=(1, 1)), references=(1, 1))
    assert reasons(compare(same, same), "less-accurate", accuracy_threshold=0.0) == []


def test_a_real_loss_of_answers_fails() -> None:
    right = (1, 0) * 500
    sides = [
        a_report(
            an_entry(
                rounds(seed=wrong),
                predictions=(*([1] * wrong), *right[wrong:]),
                references=right,
                artifact=f"{wrong:064d}",
            ),
            references=right,
        )
        for wrong in (0, 200)
    ]
    found = reasons(compare(*sides), "less-accurate")
    assert [reason.split(":")[0] for reason in found] == ["accuracy", "macro_f1"]
    assert all("allowed is a loss of less than 1 points" in reason for reason in found)
    assert reasons(compare(*sides[::-1]), "less-accurate") == []


def disguised(report: Report) -> list[Report]:
    """The report with its samples in another order, divided otherwise, or with a few of them changed, left out or added."""
    processes = report.entries[0].rounds
    samples = [item.latencies_ns.values for item in processes]
    generator = np.random.default_rng(0)

    def with_samples(values: Sequence[Any]) -> Report:
        given = [
            item.model_copy(update={"latencies_ns": Samples(np.asarray(times)), "lengths": Samples([7] * len(times))})
            for item, times in zip(processes, values, strict=False)
        ]
        return a_report(an_entry(given))

    other = [item.latencies_ns.values for item in rounds(seed=99)]
    return [
        with_samples([generator.permutation(times) for times in samples]),
        with_samples([np.sort(times) for times in samples]),
        a_report(an_entry([item.model_copy(update={"round": 7 - item.round}) for item in processes])),
        with_samples(np.array_split(generator.permutation(np.concatenate(samples)), 8)),
        with_samples([times[1:] for times in samples]),
        with_samples([[*times[:-1], times[-1] + 1] for times in samples]),
        with_samples([samples[0], *other[1:]]),
        a_report(an_entry(processes[:5])),
    ]


def test_the_same_measurement_twice_shows_nothing() -> None:
    report = measured(1)
    copied = a_report(an_entry(report.entries[0].rounds, name="copy"))
    for other in (report, copied, *disguised(report)):
        comparison = compare(report, other)
        assert any("the same measurement" in note for note in comparison.pairs[0].notes)
        assert reasons(comparison) == ["not shown: both sides are the same measurement; measure again"]


def test_a_process_that_counts_twice_shows_nothing() -> None:
    ref, changed = measured(1), measured(2)
    copies = [item.model_copy(update={"round": at}) for at, item in enumerate(2 * changed.entries[0].rounds[:4])]
    comparison = compare(ref, a_report(an_entry(copies)))
    assert comparison.pairs[0].obstacles == ("CHANGED holds the samples of one process twice (rounds 0 and 4)",)
    assert reasons(comparison)


def test_coarse_clocks_and_equal_times_are_no_sign_of_the_same_measurement() -> None:
    coarse = [
        [
            item.model_copy(update={"latencies_ns": Samples(item.latencies_ns.values // 10**5 * 10**5)})
            for item in rounds(seed=seed)
        ]
        for seed in (1, 2)
    ]
    flat = [
        [a_round(at, generator=np.random.default_rng(at), latencies_ns=Samples([level] * 150)) for at in range(8)]
        for level in (2_000_000, 2_100_000)
    ]
    for ref, changed in (coarse, flat):
        assert not compare(a_report(an_entry(ref)), a_report(an_entry(changed))).pairs[0].same_measurement


SLOW = {"seed": 2, "slower": 2.0}


@pytest.mark.parametrize(
    "added",
    [{}, {"size_bytes": 1}, {"artifact": "b" * 64}, {"stage": "other"}, {"role": "baseline"}],
    ids=lambda changes: "".join(changes) or "all equal",
)
def test_two_entries_of_one_name_are_refused_whichever_comes_first(added: dict[str, Any]) -> None:
    fast, slow = an_entry(rounds(seed=1)), an_entry(rounds(**SLOW), **added)
    for entries in ((fast, slow), (slow, fast)):
        for sides in ((measured(3), a_report(*entries)), (a_report(*entries), measured(3))):
            with pytest.raises(InputError, match=r"has 2 entries int8 .*; which of them is meant"):
                compare(*sides)


def test_two_baselines_of_one_name_are_refused() -> None:
    baselines = [an_entry(rounds(seed=seed), name="fp32", role="baseline") for seed in (1, 2)]
    with pytest.raises(InputError, match="has 2 entries fp32"):
        compare_within(a_report(*baselines, an_entry(rounds(seed=3))))


def test_one_name_under_several_loads_is_compared() -> None:
    swept = [an_entry(rounds(seed=seed), target=Target(runtime="onnxruntime", threads=seed)) for seed in (1, 2)]
    assert len(compare(a_report(*swept), a_report(*swept)).pairs) == 2


def test_an_exact_number_holds_at_the_threshold() -> None:
    sides = [a_report(an_entry(rounds(seed=seed), size_bytes=size)) for seed, size in ((1, 20_000_000), (2, 21_000_000))]
    size = CompareOptions(metrics=("size_mb",))
    assert reasons(compare(*sides, size), "larger", threshold=0.05) == []
    assert len(reasons(compare(*sides, size), "larger", threshold=0.04)) == 1
    assert reasons(compare(sides[0], sides[0].model_copy(), size), "larger", threshold=0.0) != []  # the same measurement
    assert reasons(compare(measured(1), measured(2), size), "larger", threshold=0.0) == []


def test_a_size_is_comparable_on_any_machine() -> None:
    other = a_report(an_entry(rounds(seed=2)), environment=MACHINE.model_copy(update={"cores": 64}))
    assert reasons(compare(measured(1), other, CompareOptions(metrics=("size_mb",))), "larger") == []
    assert reasons(compare(measured(1), other), "larger") == ["not shown: incomparable, another machine: cores 2 -> 64"]


def test_without_a_reference_workload_it_passes_with_a_note() -> None:
    comparison = compare(measured(1), a_report(an_entry(rounds(seed=2, reference_workload_ns=Samples()))))
    assert reasons(comparison) == []
    assert any("not checked whether the machine itself changed" in note for note in comparison.pairs[0].notes)
