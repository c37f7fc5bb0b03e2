"""A baseline that is no better than guessing, or does not read its texts, fails every candidate, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from made_reports import a_report, an_entry, rounds

from edgebert.measure.predictions import statistics_of
from edgebert.report.gates import Gate
from edgebert.report.report import Report
from edgebert.report.text.concerns import concern_lines
from edgebert.report.text.search import advice_lines
from edgebert.report.text_counts import TextCounts
from edgebert.report.verdict import judge
from edgebert.tasks import get_task

RELATIVE = {"metric": "accuracy", "min_ratio": 0.9}
GOOD = TextCounts(texts=10, cut=0, tokens=100, unknown=1)
LABELS = ("no", "yes")


def reported(
    right: Sequence[Any], fp32: Sequence[Any], *gates: dict[str, Any], task: str = "text-classification", **changes: Any
) -> Report:
    """FP32, and a candidate that answers as FP32 does."""
    known, labels = get_task(task), sorted({*map(str, right), *map(str, fp32), *LABELS})
    scored = {"statistics": statistics_of(known, fp32, right, labels), "texts": GOOD, **changes}
    entries = [an_entry(rounds(1), name=name, role=role) for name, role in (("fp32", "baseline"), ("int8", "candidate"))]
    guess = (
        {} if changes.get("texts") is None and "texts" in changes else statistics_of(known, known.guesses(right), right, labels)
    )
    made = a_report(*(entry.model_copy(update=scored) for entry in entries), gates=tuple(map(Gate.model_validate, gates)))
    return made.model_copy(update={"task": task, "guess": guess})


RIGHT = ["yes"] * 6 + ["no"] * 4


@pytest.mark.parametrize(
    ("fp32", "passed"),
    [
        (["no"] * 6 + ["yes"] * 4, False),
        (["yes"] * 10, False),
        (["no"] * 10, False),
        (["yes"] * 7 + ["no"] * 3, True),
        (RIGHT, True),
    ],
    ids=["names exchanged", "always the commonest", "always the other", "one more", "all"],
)
def test_a_share_of_a_worthless_score_holds_for_no_candidate(fp32: list[str], passed: bool) -> None:
    report = reported(RIGHT, fp32, RELATIVE)
    verdict = judge(report)
    assert verdict.passed is passed
    said = any("no better than 0.6, that of the same commonest answer" in reason for reason in verdict.best.failures)
    assert said is not passed
    assert not any("what to try next" in line for line in advice_lines(report, verdict))


def test_one_of_many_classes_is_compared_with_the_commonest() -> None:
    right = [f"class {index % 77}" for index in range(770)]
    verdict = judge(reported(right, [f"class {5}"] * 764 + right[764:], RELATIVE))
    assert verdict.passed  # 0.0208 against 0.013
    assert not judge(reported(right, ["class 5"] * 770, RELATIVE)).passed


@pytest.mark.parametrize(
    ("gates", "passed"),
    [
        ([{"metric": "accuracy", "min": 0.0}], True),
        ([RELATIVE, {"metric": "macro_f1", "min": 0.0}], True),
        ([RELATIVE, {"metric": "macro_f1", "min": 0.1}], False),
        ([{"metric": "accuracy", "min": 0.6}], False),
        ([RELATIVE, {"metric": "accuracy", "min": 0.9}], False),
        ([{"metric": "agreement", "min": 1.0}], False),
        ([{"metric": "accuracy", "max_drop": 0.5}], False),
        ([], False),
    ],
    ids=["nothing asked", "nothing of another metric", "less than a guess", "a guess", "missed", "agreement", "drop", "none"],
)
def test_a_recipe_that_says_how_much_is_enough_decides_itself(gates: list[dict[str, Any]], passed: bool) -> None:
    report = reported(RIGHT, ["yes"] * 10, *gates)
    verdict = judge(report)
    agreeing = {item.gate.metric for item in verdict.best.results if not item.passed} <= {"accuracy", "agreement"}
    assert verdict.passed is passed and agreeing
    said = [*concern_lines(report, verdict), *verdict.best.failures]
    assert sum("no better than 0.6" in line for line in said) == 1


def test_a_bound_above_a_guess_of_another_metric_is_enough() -> None:
    """Rare classes: no better by accuracy, better by the mean of the classes."""
    right, fp32 = ["yes"] * 8 + ["no"] * 2, ["yes"] * 6 + ["no"] * 4
    assert judge(reported(right, fp32, RELATIVE, {"metric": "macro_f1", "min": 0.5})).passed
    assert not judge(reported(right, fp32, RELATIVE, {"metric": "macro_f1", "min": 0.4})).passed


@pytest.mark.parametrize(("hits", "passed"), [(0, False), (1, True)])
def test_a_tagger_without_one_right_entity_is_worthless(hits: int, passed: bool) -> None:
    right = [["B-a", "O"], ["O", "B-b"]]
    fp32 = [["B-a", "O"] if hits else ["B-b", "O"], ["O", "O"]]
    relative = {"metric": "entity_f1", "min_ratio": 0.9}
    report = reported(right, fp32, relative, task="token-classification")
    verdict = judge(report)
    worthless = [reason for reason in verdict.best.failures if "FP32 is worthless" in reason]
    assert bool(worthless) is not passed
    if passed:
        assert verdict.passed


@pytest.mark.parametrize(
    ("unknown", "gates", "passed"),
    [(50, [RELATIVE], False), (49, [RELATIVE], True), (64, [RELATIVE, {"metric": "unknown_share", "max": 0.7}], True)],
)
def test_a_model_that_does_not_read_its_texts_fails(unknown: int, gates: list[dict[str, Any]], passed: bool) -> None:
    report = reported(RIGHT, RIGHT, *gates, texts=TextCounts(texts=10, cut=9, tokens=100, unknown=unknown))
    verdict = judge(report)
    assert verdict.passed is passed
    lines = concern_lines(report, verdict)
    assert f"{unknown}% of the tokens of data.eval are unknown to the tokenizer" in lines[0]
    assert lines[1:] == ["90% of the texts of data.eval are longer than task.max_length and were cut"]
    assert passed or "FP32 does not read these texts: 50%" in verdict.best.failures[0]


def test_reports_that_were_made_before_are_judged_as_before() -> None:
    verdict = judge(reported(RIGHT, ["yes"] * 10, RELATIVE, texts=None))
    assert verdict.passed


def test_a_good_baseline_has_no_concerns() -> None:
    report = reported(RIGHT, RIGHT, RELATIVE)
    assert concern_lines(report, judge(report)) == []
    assert Report.model_validate_json(report.model_dump_json()) == report
