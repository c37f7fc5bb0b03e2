"""Reports of schema versions 1 and 2, with a label's number for each row: on reading they say what they said before."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from answers import hash_of, statistics
from former_reports import signed, version_1, version_2
from hypothesis import given
from hypothesis import strategies as st
from made_reports import finding, verdicts
from page_reports import REFERENCES, an_entry, full_report
from page_reports import a_report as a_page_report

from edgebert.report.compare.comparison import compare
from edgebert.report.compare.pairing import match
from edgebert.report.file import read_report, report_text, write_report
from edgebert.report.report import Report
from edgebert.report.upgrade import upgraded
from edgebert.runtimes.target import Target

Numbers = Sequence[int]


def accuracy(found: Numbers, right: Numbers) -> float:
    """Share of equal numbers."""
    return sum(one == other for one, other in zip(found, right, strict=True)) / len(right)


def macro_f1(found: Numbers, right: Numbers) -> float:
    """Mean over the labels of F1, as scikit-learn has it."""
    from sklearn.metrics import f1_score

    return float(f1_score(right, found, average="macro", zero_division=0))


def as_file(content: dict[str, Any], path: Path) -> Report:
    """The report that is read from the JSON of a former one."""
    path.write_text(json.dumps(signed(content) if content["schema_version"] > 1 else content))
    return read_report(path)


@pytest.mark.parametrize("former", [version_1, version_2])
def test_a_former_report_has_the_values_of_its_integers(former: Callable[..., Any], tmp_path: Path) -> None:
    content = former(json.loads(report_text(full_report())))
    read = as_file(content, tmp_path / "old.json")
    references, fp32 = content["references"], content["entries"][0]["predictions"]
    assert references == list(REFERENCES)
    for old, entry in zip(content["entries"], read.entries, strict=True):
        found = old["predictions"]
        assert read.value(entry, "accuracy") == accuracy(found, references)
        assert read.value(entry, "macro_f1") == pytest.approx(macro_f1(found, references))
        assert read.value(entry, "agreement") == accuracy(found, fp32)
    assert (read.schema_version, read.examples, read.task_metrics) == (3, 4, ("accuracy", "macro_f1"))


answers = st.integers(1, 40).flatmap(lambda rows: st.tuples(*[st.lists(st.integers(0, 3), min_size=rows, max_size=rows)] * 3))


@given(answers)
def test_any_integers_have_their_values(three: tuple[Numbers, Numbers, Numbers]) -> None:
    references, fp32, found = three
    both = [an_entry("fp32", role="baseline", rounds=0), an_entry("int8", rounds=0)]
    content = version_2(json.loads(report_text(a_page_report(*both, labels=tuple("abcd")))))
    content |= {"references": references}
    for entry, predictions in zip(content["entries"], (fp32, found), strict=True):
        entry["predictions"] = predictions
    read = Report.model_validate_json(json.dumps(upgraded(content)))
    candidate = read.entries[1]
    assert read.value(candidate, "accuracy") == pytest.approx(accuracy(found, references))
    assert read.value(candidate, "macro_f1") == pytest.approx(macro_f1(found, references))
    assert read.value(candidate, "agreement") == pytest.approx(accuracy(found, fp32))


def test_agreement_is_with_fp32_of_the_same_target() -> None:
    four, tuned = Target(runtime="onnxruntime", threads=4), Target(runtime="onnxruntime", threads=4, denormals_as_zero=True)
    entries = [
        an_entry("fp32", role="baseline", rounds=0, predictions=(0, 0, 0, 1)),
        an_entry("fp32 on 4", role="baseline", rounds=0, target=four, predictions=(1, 1, 0, 0)),
        an_entry("int8", rounds=0, target=tuned, predictions=(1, 1, 0, 1)),
        an_entry("elsewhere", rounds=0, target=Target(runtime="openvino"), predictions=(1, 1, 0, 1)),
    ]
    content = version_2(json.loads(report_text(a_page_report(*entries))))
    read = Report.model_validate_json(json.dumps(upgraded(content)))
    assert read.baseline_of(read.entries[2]) is read.entries[1]
    assert [read.value(entry, "agreement") for entry in read.entries] == [1.0, 1.0, 0.75, None]


def test_without_answers_nothing_is_scored(tmp_path: Path) -> None:
    report = a_page_report(an_entry("alone", predictions=None), task=None, right_answers=None, eval_data=None)
    read = as_file(version_2(json.loads(report_text(report))), tmp_path / "old.json")
    assert read.model_copy(update={"sha256": None}) == report
    assert read.entries[0].statistics == {} and read.right_answers is None


def test_a_former_report_compares_with_one_of_today(tmp_path: Path) -> None:
    report = full_report()
    write_report(tmp_path / "new.json", report)
    old, new = as_file(version_2(json.loads(report_text(report))), tmp_path / "old.json"), read_report(tmp_path / "new.json")
    assert old.right_answers == new.right_answers
    for pair in range(1, 4):
        found = verdicts(compare(old, new), pair)
        assert "incomparable" not in found.values()
        for metric in ("accuracy", "macro_f1"):
            assert finding(compare(old, new), metric, pair).reason == "the same model gave the same answers"
    other = new.model_copy(update={"right_answers": "0" * 64})
    assert finding(compare(old, other), "accuracy").reason == "other eval data"


def test_a_former_report_of_labels_in_another_order_than_the_alphabets_equals_the_new_one(tmp_path: Path) -> None:
    labels, rows = ("positive", "negative", "neutral"), 300
    right = [labels[row % 2] for row in range(rows)]
    found = [labels[(row + (row % 11 == 0)) % 2] for row in range(rows)]
    entry = an_entry("int8", rounds=0, predictions=None, statistics=statistics(found, right, found, labels))
    baseline = an_entry("fp32", role="baseline", rounds=0, predictions=None, statistics=statistics(found, right, found, labels))
    new = a_page_report(baseline, entry, labels=labels, right_answers=hash_of(right))
    old = as_file(version_2(json.loads(report_text(new))), tmp_path / "old.json")
    assert [item.statistics for item in old.entries] == [item.statistics for item in new.entries]
    assert old.right_answers == new.right_answers
    reasons = {item.metric: item.reason for pair in compare(old, new).pairs for item in pair.findings}
    assert reasons["macro_f1"] == reasons["accuracy"] == "the same model gave the same answers"


def test_a_former_report_keeps_its_checksum_by_which_it_is_known_as_one_run(tmp_path: Path) -> None:
    old = as_file(version_2(json.loads(report_text(full_report()))), tmp_path / "old.json")
    assert old.sha256 and old.sha256 == read_report(tmp_path / "old.json").sha256
    assert all(pair.one_run for pair in match(old, read_report(tmp_path / "old.json")).pairs)
