"""Which entries belong together."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from made_reports import a_report, a_round, an_entry, measured, rounds

from edgebert.report.compare.comparison import compare, compare_within
from edgebert.report.compare.pairing import baselines_and_candidates, match
from edgebert.report.rounds import Setting
from edgebert.report.samples import Samples
from edgebert.runtimes.target import Target

OTHER = Target(runtime="onnxruntime", threads=2)
SERVER = Setting(scenario="server", rate=50, queries="q" * 64)


def test_entries_are_matched_by_model_setting_and_target() -> None:
    kinds = [an_entry(name="a"), an_entry(name="a", target=OTHER), an_entry(name="a", setting=SERVER), an_entry(name="b")]
    found = match(a_report(*kinds), a_report(*kinds[::-1]))
    assert all(pair.ref is pair.changed for pair in found.pairs)
    assert [pair.ref for pair in found.pairs] == kinds
    assert not found.missing and not found.extra


def test_a_tuned_target_is_still_the_same_service() -> None:
    tuned = an_entry(name="a", target=Target(runtime="onnxruntime", disabled_optimizers=("BiasGeluFusion",)))
    found = match(a_report(an_entry(name="a"), an_entry(name="b")), a_report(an_entry(name="b"), tuned))
    assert found.pairs[0].changed is tuned


def test_names_do_not_count_when_each_report_has_one_model() -> None:
    ref, changed = a_report(an_entry(name="last month")), a_report(an_entry(name="today"))
    assert len(match(ref, changed).pairs) == 1
    both = a_report(an_entry(name="today"), an_entry(name="another"))
    assert match(ref, both).missing == ref.entries and match(ref, both).extra == both.entries


def test_what_is_left_of_a_model_is_paired_and_its_load_said_to_differ() -> None:
    ref = a_report(an_entry(rounds(), name="a"), an_entry(rounds(), name="b"))
    changed = a_report(an_entry(rounds(), name="b"), an_entry(rounds(), name="a", target=OTHER))
    pair = compare(ref, changed).pairs[0]
    assert pair.ref == pair.changed == "a"
    assert pair.obstacles == ("other service: threads 1 -> 2",)


def test_another_step_between_lengths_is_still_the_same_service() -> None:
    buckets = [an_entry(name="a", target=Target(runtime="openvino", length_bucket=step)) for step in (8, 16, 32)]
    assert match(a_report(buckets[0]), a_report(buckets[1])).pairs
    found = match(a_report(*buckets[:2]), a_report(buckets[1], buckets[2]))
    assert [(pair.ref.target.bucket, pair.changed.target.bucket) for pair in found.pairs] == [(8, 32), (16, 16)]


def test_many_entries_are_matched_in_little_time() -> None:
    many = [an_entry(name=f"m{number}", role=role) for number in range(300) for role in ("baseline", "candidate")]
    report = a_report(*many)
    with mock.patch.object(Target, "for_baseline", autospec=True, side_effect=Target.for_baseline) as calls:
        assert len(match(report, report).pairs) == 600
        assert len(baselines_and_candidates(report).pairs) == 300
    assert calls.call_count <= 2 * 300


def test_several_that_are_left_are_not_guessed_at() -> None:
    ref = a_report(an_entry(name="a"), an_entry(name="b"))
    sweep = [an_entry(name="a", target=Target(runtime="onnxruntime", threads=count)) for count in (2, 4)]
    found = match(ref, a_report(*sweep))
    assert not found.pairs and len(found.missing) == len(found.extra) == 2


def test_candidates_of_one_report_stand_beside_their_own_baseline() -> None:
    own = an_entry(name="onnxruntime/fp32", role="baseline")
    other = an_entry(name="openvino/fp32", role="baseline", target=Target(runtime="openvino"))
    loaded = an_entry(name="onnxruntime/fp32", role="baseline", setting=SERVER)
    candidates = [
        an_entry(name="onnxruntime/int8"),
        an_entry(name="openvino/int8", target=Target(runtime="openvino", precision="bf16")),
        an_entry(name="onnxruntime/int8", setting=SERVER),
    ]
    found = baselines_and_candidates(a_report(loaded, other, own, *candidates))
    assert [pair.ref for pair in found.pairs] == [own, other, loaded]
    assert [pair.changed for pair in found.pairs] == candidates


def test_rounds_are_paired_by_their_number_within_one_run_only() -> None:
    one_run = a_report(an_entry(rounds(), name="fp32", role="baseline"), an_entry(rounds(seed=1)[::-1], name="int8"))
    pair = baselines_and_candidates(one_run).pairs[0]
    paired = pair.rounds()
    assert paired is not None
    assert [item.round for item in paired[0]] == [item.round for item in paired[1]] == list(range(8))
    assert compare_within(one_run).pairs[0].paired
    assert not compare(measured(1), measured(2)).pairs[0].paired


@pytest.mark.parametrize("kept", [slice(0, 7), slice(1, 8)])
def test_rounds_that_one_side_lacks_leave_nothing_to_pair(kept: slice) -> None:
    one_run = a_report(an_entry(rounds(), name="fp32", role="baseline"), an_entry(rounds(seed=1)[kept], name="int8"))
    pair = compare_within(one_run).pairs[0]
    assert not pair.paired
    assert {item.processes for item in pair.findings if item.processes} == {(8, 7)}


def test_a_process_without_queries_is_left_out() -> None:
    nothing = {"latencies_ns": Samples(), "lengths": Samples(), "tokenise_ns": Samples(), "wall_ns": None}
    empty = a_round(8, generator=np.random.default_rng(0), **nothing)
    with_empty = a_report(an_entry((*rounds(seed=1), empty)))
    found = {item.metric: item for item in compare(with_empty, measured(2)).pairs[0].findings}
    assert found["p50_ms"].processes == (8, 8)
    assert found["load_ms"].processes == (8, 8)
