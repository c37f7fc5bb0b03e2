"""Answers to the same examples: McNemar's test, intervals of differences, and what may not be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_reports import a_report, an_entry, finding, verdicts
from pydantic import ValidationError

from edgebert.report.compare import accuracy as accuracy_module
from edgebert.report.compare.accuracy import compare_scores, compare_shares
from edgebert.report.compare.comparison import compare, compare_within
from edgebert.report.compare.findings import Comparison
from edgebert.report.entry import Entry
from edgebert.report.report import Report
from edgebert.report.row_statistics import RowStatistics
from edgebert.tasks.metrics.macro_f1 import MACRO_F1
from edgebert.tasks.reductions import reduce_rows


@pytest.fixture(autouse=True, scope="module")
def few_resamples() -> Iterator[None]:
    """Every promise here holds with a few hundred resamples as well as with 2000, in a tenth of the time."""
    with mock.patch.object(accuracy_module, "VALUES", 90_000):
        yield


RIGHT = tuple(np.random.default_rng(0).integers(0, 2, 2000).tolist())


def answers(*, wrong: range, **changes: Any) -> Report:
    """A report of one entry whose answers to the examples in `wrong` are wrong."""
    found = [1 - label if index in wrong else label for index, label in enumerate(RIGHT)]
    entry = an_entry(predictions=found, references=RIGHT, fp32=RIGHT, artifact=f"{len(wrong):064d}")
    return a_report(entry, references=RIGHT, **changes)


def accuracy(changed: Report, ref: Report | None = None) -> Any:
    return finding(compare(ref or answers(wrong=range(200)), changed), "accuracy")


def test_the_same_answers_of_another_model_are_equivalent_where_there_are_enough_of_them() -> None:
    found = accuracy(answers(wrong=range(200), labels=("no", "yes")))
    assert found.verdict == "equivalent" and found.difference == 0.0
    three = {"predictions": (1, 1, 0), "references": (1, 1, 1)}
    few = [a_report(an_entry(**three, artifact=letter * 64), references=(1, 1, 1)) for letter in "ab"]
    assert finding(compare(*few), "accuracy").verdict == "inconclusive"
    assert finding(compare(few[0], few[0]), "accuracy").reason == "the same model gave the same answers"


def test_more_or_less_accurate_has_mcnemars_p_value() -> None:
    found = accuracy(answers(wrong=range(260)))
    assert (found.verdict, found.p_value) == ("less-accurate", pytest.approx(2 / 2**60))
    assert found.difference == pytest.approx(-0.03)
    assert accuracy(answers(wrong=range(200)), answers(wrong=range(260))).verdict == "more-accurate"
    assert accuracy(answers(wrong=range(212))).verdict == "inconclusive"
    assert accuracy(answers(wrong=range(201))).verdict == "equivalent"


def test_answers_that_differ_in_both_directions_are_no_loss() -> None:
    found = accuracy(answers(wrong=range(20, 220)))
    assert found.difference == 0.0 and found.p_value == 1.0
    assert found.interval[0] == pytest.approx(-found.interval[1])


APART = [
    ({"eval_data": "f" * 64}, "other eval data"),
    ({"right_answers": "0" * 64}, "other eval data"),
    ({"labels": ("yes", "no")}, "other labels"),
]


@pytest.mark.parametrize(("changes", "reason"), APART)
def test_other_data_or_labels_are_incomparable(changes: dict[str, Any], reason: str) -> None:
    changed = answers(wrong=range(200)).model_copy(update=changes)
    found = accuracy(changed)
    assert (found.verdict, found.reason, found.interval) == ("incomparable", reason, None)


def test_a_metric_that_is_computed_in_another_way_is_incomparable() -> None:
    ref, changed = answers(wrong=range(200)), answers(wrong=range(220))
    other = RowStatistics.of("ratio", np.ones((len(RIGHT), 2)))
    entry = changed.entries[0].model_copy(update={"statistics": {**changed.entries[0].statistics, "accuracy": other}})
    found = accuracy(changed.model_copy(update={"entries": (entry,)}), ref)
    assert (found.verdict, found.reason) == ("incomparable", "accuracy is computed in another way: mean -> ratio")


def test_answers_of_one_side_alone_are_incomparable_and_of_none_not_listed() -> None:
    without = a_report(an_entry(), references=RIGHT)
    assert accuracy(without).reason == "CHANGED has no accuracy"
    assert "accuracy" not in verdicts(compare(without, without))


def test_agreement_is_each_sides_with_its_own_fp32() -> None:
    def report(wrong: range) -> Report:
        found = answers(wrong=wrong)
        fp32 = an_entry(name="fp32", role="baseline", predictions=RIGHT, references=RIGHT, fp32=RIGHT)
        return found.model_copy(update={"entries": (fp32, *found.entries)})

    comparison = compare(report(range(20)), report(range(220)))
    assert "agreement" not in verdicts(comparison, pair=0)
    found = finding(comparison, "agreement", pair=1)
    assert found.verdict == "less-accurate" and found.ref == pytest.approx(0.99)
    assert "agreement" not in verdicts(compare_within(report(range(20))))


flags = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(flags)
def test_swapping_the_sides_mirrors_the_difference_of_shares(pairs: list[tuple[bool, bool]]) -> None:
    ref, changed = (np.array(side) for side in zip(*pairs, strict=True))
    forth, back = compare_shares(ref, changed), compare_shares(changed, ref)
    assert forth.value == pytest.approx(-back.value)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.low < forth.high


def test_intervals_of_shares_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(600):
        ref = generator.random(400) < 0.9
        flipped = generator.random(400) < np.where(ref, 0.03, 0.10)
        found = compare_shares(ref, ref ^ flipped)
        held += found.low <= 0.9 * -0.03 + 0.1 * 0.10 <= found.high
    assert held >= 600 * 0.93


def macro_f1(predictions: Sequence[int], references: Sequence[int]) -> RowStatistics:
    """The statistics of macro F1."""
    metric = MACRO_F1
    return RowStatistics.of(metric.reduction, metric.statistics(list(predictions), list(references), range(9)))


@settings(max_examples=8)
@given(st.integers(0, 50))
def test_other_scores_are_bootstrapped_over_the_examples(seed: int) -> None:
    generator = np.random.default_rng(seed)
    right = generator.integers(0, 3, 300)
    ref, changed = (macro_f1(np.where(generator.random(300) < share, right, 0), right) for share in (0.9, 0.6))
    forth, back = compare_scores(ref, changed, seed=0), compare_scores(changed, ref, seed=0)
    assert forth.low < forth.value < forth.high < 0
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth == compare_scores(ref, changed, seed=0)


def test_a_score_of_equal_answers_keeps_some_doubt() -> None:
    right = (0, 1, 1, 0)
    found = compare_scores(macro_f1(right, right), macro_f1(right, right), seed=0)
    assert found.value == 0 and found.low < 0 < found.high


def test_more_differing_answers_never_mean_less_doubt() -> None:
    right = np.random.default_rng(1).integers(0, 3, 400)
    widths = []
    for wrong in (0, 1, 2, 4, 8, 30):
        changed = np.where(np.arange(400) < wrong, (right + 1) % 3, right)
        found = compare_scores(macro_f1(right, right), macro_f1(changed, right), seed=0)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths == sorted(widths)


def scored(count: int, name: str = "int8") -> Entry:
    """An entry with the statistics of this many right answers."""
    return an_entry(name=name, predictions=(1,) * count, references=(1,) * count)


def test_answers_to_other_numbers_of_examples_are_no_report() -> None:
    with pytest.raises(ValidationError, match="different numbers of examples: fp32 3, int8 2"):
        a_report(scored(3, "fp32"), scored(2))
    with pytest.raises(ValidationError, match="different numbers of examples: int8 3, int8 2"):
        a_report(scored(3), scored(2))
    mixed = {**scored(2).statistics, "macro_f1": scored(3).statistics["macro_f1"]}
    with pytest.raises(ValidationError, match="different numbers of examples: int8 2, int8 3"):
        a_report(an_entry(statistics=mixed))
    assert a_report(scored(2), an_entry(name="unscored")).examples == 2


def test_a_report_of_a_task_that_is_not_known_compares() -> None:
    ref, changed = (answers(wrong=range(wrong)).model_copy(update={"task": "poetry"}) for wrong in (200, 260))
    comparison = compare(ref, changed)
    assert finding(comparison, "accuracy").verdict == "less-accurate"
    known = compare(answers(wrong=range(200)), answers(wrong=range(260)))
    for metric in ("accuracy", "macro_f1", "agreement"):
        assert finding(comparison, metric) == finding(known, metric)
    other = accuracy(changed)
    assert (other.verdict, other.reason) == ("incomparable", "another task: text-classification -> poetry")


def test_more_answers_take_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy_module, "VALUES", 1000)
    calls = []

    def counted(name: str, rows: Any) -> float:
        calls.append(len(rows))
        return reduce_rows(name, rows)

    monkeypatch.setattr(accuracy_module, "reduce_rows", counted)
    right = np.zeros(1000, dtype=np.int64)
    wrong = right.copy()
    wrong[::100] = 1
    compare_scores(macro_f1(right, right), macro_f1(wrong, right), seed=0)
    assert len(calls) == 2 + 2 * 200


def in_all(comparison: Comparison) -> set[str]:
    return {item.metric for pair in comparison.pairs for item in pair.findings}


def test_without_scored_answers_there_are_no_scores() -> None:
    unknown = a_report(an_entry(), task=None)
    assert not {"accuracy", "macro_f1", "agreement"} & in_all(compare(unknown, unknown))


def test_a_metric_of_the_users_own_is_compared_where_both_have_one_function() -> None:
    kept = {"m.py:hits": RowStatistics.of("mean", np.ones((4, 1)))}
    one, same, edited, unknown = (
        a_report(an_entry(statistics=kept, artifact=letter * 64), metric_sources=sources)
        for letter, sources in zip("abcd", ({"m.py:hits": "1"}, {"m.py:hits": "1"}, {"m.py:hits": "2"}, {}), strict=True)
    )
    assert finding(compare(one, same), "m.py:hits").verdict != "incomparable"
    for other in (edited, unknown):
        found = finding(compare(one, other), "m.py:hits")
        assert found.verdict == "incomparable" and "not the same for both" in str(found.reason)
    assert Report.model_validate_json(one.model_dump_json()) == one and "metric_sources" not in unknown.model_dump()
