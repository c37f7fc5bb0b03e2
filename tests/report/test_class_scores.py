"""Scores of single labels, and a card that is readable with many of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_reports import a_report, an_entry, rounds
from pydantic import ValidationError

from edgebert.bundle.parts import BundleParts
from edgebert.bundle.write import model_card
from edgebert.report.class_scores import class_scores
from edgebert.report.gates import Gate
from edgebert.report.page import classes
from edgebert.report.page.source import PageSource
from edgebert.report.report import Report
from edgebert.report.row_statistics import RowStatistics
from edgebert.report.selection import Selection
from edgebert.report.text.labels import FEW, label_rows, named_labels
from edgebert.report.verdict import judge
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task


def of_labels(count: int, *, examples: int = 2000, seed: int = 0) -> Report:
    """FP32 that is right, and INT8 that is wrong in a fifth of the answers, over so many labels."""
    generator = np.random.default_rng(seed)
    references = tuple(map(int, generator.integers(0, count, examples)))
    guesses = np.where(generator.random(examples) < 0.2, generator.integers(0, count, examples), references)
    entries = [
        an_entry(
            rounds(count=4), name=name, role=role, references=references, predictions=tuple(map(int, given)), artifact=of * 64
        )
        for name, role, given, of in (("o/fp32", "baseline", references, "b"), ("o/int8", "candidate", guesses, "a"))
    ]
    gates = (Gate(metric="accuracy", min_ratio=0.5),)
    return a_report(*entries, references=references, gates=gates, labels=tuple(f"intent {index}" for index in range(count)))


def test_scores_of_a_label_are_those_of_its_counts_and_macro_f1_is_their_mean() -> None:
    references, predictions = (0, 0, 0, 1, 1, 2), (0, 0, 1, 1, 0, 2)
    entry = an_entry(references=references, predictions=predictions)
    report = a_report(entry, references=references, labels=("a", "b", "c", "never"))
    found = class_scores(report, entry)
    assert [(score.label, score.right, score.predicted, score.hits) for score in found] == [
        ("a", 3, 3, 2),
        ("b", 2, 2, 1),
        ("c", 1, 1, 1),
        ("never", 0, 0, 0),
    ]
    assert [score.f1 for score in found] == pytest.approx([2 / 3, 0.5, 1.0, 0.0])
    assert (found[0].precision, found[0].recall) == pytest.approx((2 / 3, 2 / 3))
    assert np.mean([score.f1 for score in found if score.right]) == pytest.approx(entry.score("macro_f1"))


def test_an_entry_without_answers_has_no_scores_of_labels() -> None:
    entry = an_entry(rounds())
    assert class_scores(a_report(entry), entry) == []
    assert classes.section(PageSource("r", None, a_report(entry))).empty  # type: ignore[arg-type]


def test_label_sets_of_more_or_fewer_labels_than_the_reports_are_named() -> None:
    kept = {"macro_f1": RowStatistics.of("macro_f1_of_sets", np.ones((3, 6)))}
    entry = an_entry(rounds(), statistics=kept)
    report = a_report(entry, labels=("a", "b", "c"))
    assert [(score.label, score.f1) for score in class_scores(report, entry)] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    for labels in (("a", "b"), ("a", "b", "c", "d")):
        with pytest.raises(ValidationError, match=f"of 3 labels, and the report {len(labels)}"):
            a_report(entry, labels=labels)


def test_few_labels_are_named_and_have_a_row_each() -> None:
    report = of_labels(3)
    assert named_labels(report.labels) == "the labels intent 0, intent 1, intent 2"
    shown, folded = label_rows(report, report.entries[1])
    assert [row[0] for row in shown] == list(report.labels) and not folded
    assert all(row[5] == "1.000" and float(row[4]) < 1 for row in shown)


def test_of_77_labels_the_worst_are_shown_and_all_are_folded_away() -> None:
    report = of_labels(77)
    assert named_labels(report.labels) == "77 labels (intent 0, intent 1, intent 2, ..., intent 76; all are in config.json)"
    shown, folded = label_rows(report, report.entries[1])
    assert len(shown) == FEW and len(folded) == 77
    assert [row[0] for row in folded] == list(report.labels)
    assert max(float(row[4]) for row in shown) <= min(float(row[4]) for row in folded if row not in shown)


@pytest.mark.parametrize(("count", "opened"), [(3, True), (77, False)])
def test_page_has_a_table_of_labels_beside_the_baseline(count: int, opened: bool) -> None:
    found = classes.section(PageSource("r", None, of_labels(count)))  # type: ignore[arg-type]
    (table,) = found.tables if opened else found.folded
    assert not (found.folded if opened else found.tables)
    assert len(table.rows) == count
    assert [column.title for column in table.columns] == [
        "label",
        "examples",
        "precision",
        "recall",
        "F1",
        "baseline F1",
        "change",
    ]
    assert {len(row) for row in table.rows} == {7}


def card(report: Report) -> str:
    """The model card of a report, without files."""
    labels = tuple(report.labels)
    serving = Serving(get_task("text-classification"), labels, 64, 0, Path("tokenizer.json"))
    variant = SimpleNamespace(goldens=SimpleNamespace(rows=({"text": "my card was declined"},)))
    given = {"serving": serving, "variants": [variant], "report": report, "verdict": judge(report), "lineage": []}
    return model_card(BundleParts(name="banking", recipe="r" * 64, model=None, **given), [])  # type: ignore[arg-type]


def test_card_of_77_labels_is_readable_and_names_all_of_them_once_folded_away() -> None:
    text = card(of_labels(77).model_copy(update={"selection": Selection(source="data.train", rows=300, data="d" * 64)}))
    assert "text-classification with 77 labels (intent 0, intent 1, intent 2, ..., intent 76; all are in config.json)" in text
    top, folded = text.split("<details><summary>All 77 labels</summary>\n\n")
    assert top.count("| intent ") == FEW and "the 12 labels with the lowest F1" in top
    table = folded.split("</details>")[0].strip().splitlines()
    assert len(table) == 2 + 77 and all(line.startswith("| intent ") for line in table[2:])
    assert max(map(len, top.split("## Use")[0].splitlines())) < 300
    assert "\nThe search chose on 300 rows held out of data.train; data.eval was looked at once, for the verdict.\n" in text


def test_card_of_few_labels_has_one_table_of_them() -> None:
    text = card(of_labels(2))
    assert "with the labels intent 0, intent 1, inputs of up to 64 tokens" in text
    assert text.count("| intent ") == 2 and "<details>" not in text and "The search chose" not in text
