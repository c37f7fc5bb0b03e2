"""Text classification: the most probable label, its probability, and metrics that are scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from tokenizers import Tokenizer, models, pre_tokenizers

from edgebert.errors import InputError
from edgebert.tasks.answers import Detail
from edgebert.tasks.reductions import reduce_rows
from edgebert.tasks.text_classification import PredictedLabel, TextClassification
from edgebert.tasks.token_classification import TokenClassification

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


def test_a_tab_has_the_tokens_of_a_space_where_a_vocabulary_tells_them_apart() -> None:
    letters = {letter: index for index, letter in enumerate("ab\u0120\u0109")}  # as byte-level BPE writes a space and a tab
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert tokenizer.encode("a\tb").ids != tokenizer.encode("a b").ids
    rows = [{"text": "a\tb"}, {"text": "a b"}, {"text": "a\tb", "text_pair": "b\ta"}, {"text": "a b", "text_pair": "b a"}]
    for task, inputs in ((TASK, rows), (TokenClassification(), rows[:2])):
        ids = [item.ids for item in task.encode(tokenizer, inputs, 16)]
        assert ids[0::2] == ids[1::2]
    (answer,) = TokenClassification().answer(
        [{"logits": np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0]])}],
        TokenClassification().encode(tokenizer, rows[:1], 16),
        rows[:1],
        ("S-X", "O"),
        Detail(top_k=1, logits=True),
    )
    assert [(word.text, word.start, list(word.probabilities)) for word in answer.words] == [
        ("a", 0, ["S-X"]),
        ("b", 2, ["S-X"]),
    ]
    assert answer.words[0].logits == {"S-X": 9.0, "O": 0.0}


def test_one_line_is_one_text_where_the_model_takes_one() -> None:
    assert TASK.row_of("a\tb\tc", {"text"}) == {"text": "a\tb\tc"}
    assert TASK.row_of(("a", "b"), {"text", "text_pair"}) == TASK.row_of("a\tb") == {"text": "a", "text_pair": "b"}


def test_a_line_of_three_texts_is_refused() -> None:
    with pytest.raises(InputError, match="has 3 parts between tabs, but text-classification takes 2"):
        TASK.row_of("a\tb\tc")
