"""Text classification: the most probable label, its probability, and metrics that are scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from edgebert.errors import InputError
from edgebert.tasks.reductions import reduce_rows
from edgebert.tasks.text_classification import PredictedLabel, TextClassification

TASK = TextClassification()
SCIKIT: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": accuracy_score,
    "macro_f1": lambda references, predictions: f1_score(references, predictions, average="macro"),
}


def test_decode_and_answer_agree() -> None:
    outputs = [{"logits": np.array(row, np.float32)} for row in ([3.0, -1.0], [0.25, 0.75], [-800.0, 800.0])]
    assert TASK.decode(outputs, [], [], ("no", "yes")) == ["no", "yes", "yes"]
    answers = TASK.answer(outputs, [], [], ("no", "yes"))
    assert all(isinstance(answer, PredictedLabel) for answer in answers)
    found = [answer.as_json() for answer in answers]
    assert [answer["label"] for answer in found] == ["no", "yes", "yes"]
    assert all(0.5 <= answer["score"] <= 1.0 for answer in found)
    assert found[1]["score"] == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert answers[1].cells() == ("yes", "0.6225")


labels = st.sampled_from("abcde")


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=60))
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    predictions, references = (list(side) for side in zip(*pairs, strict=True))
    assert {metric.name for metric in TASK.metrics} == set(SCIKIT)
    for metric in TASK.metrics:
        found = reduce_rows(metric.reduction, metric.statistics(predictions, references, "abcde"))
        assert found == pytest.approx(SCIKIT[metric.name](references, predictions)), metric.name


def test_the_reference_is_the_models_name_of_the_label() -> None:
    row = {"text": "a", "label": "1"}
    assert TASK.reference(row, {"0": 0, "1": 1}, ("no", "yes")) == "yes"
    assert TASK.targets(None, row, {"0": 0, "1": 1}).tolist() == 1  # type: ignore[arg-type] - reads no tokens


def test_a_line_of_three_texts_is_refused() -> None:
    with pytest.raises(InputError, match="has 3 parts between tabs, but text-classification takes 2"):
        TASK.row_of("a\tb\tc")
