"""The contract of every task: lengths, decoding, metrics, labels, rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from tokenizers import Tokenizer

from edgebert.core.files import sentences
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import Encoded, Task, collate

every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)

SCIKIT: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": accuracy_score,
    "macro_f1": lambda references, predictions: f1_score(references, predictions, average="macro"),
}


def inputs_of(task: Task) -> list[str]:
    return [column.name for column in task.columns if not column.is_label]


@pytest.fixture(scope="module")
def tokenizer(model_template: Path) -> Tokenizer:
    """The tiny model's."""
    return Tokenizer.from_file(str(model_template / "tokenizer.json"))


@every_task
def test_get_task_finds_the_task_by_its_name(task: Task) -> None:
    assert get_task(task.name) is task


def test_task_names_are_distinct() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)


@every_task
def test_task_names_its_columns_outputs_and_metrics(task: Task) -> None:
    assert sum(column.is_label for column in task.columns) <= 1
    assert task.outputs and task.metrics
    assert task.head and task.architecture.startswith("For")


@every_task
def test_optimum_knows_the_auto_class_of_the_task(task: Task) -> None:
    from edgebert.models.load import auto_class

    assert task.architecture in auto_class(task)._model_mapping[_bert_config()].__name__


def _bert_config() -> Any:
    from transformers import BertConfig

    return BertConfig


texts = st.text(alphabet="abz .,é漢🙂\t\n", max_size=200).filter(str.strip)


@every_task
@given(data=st.data(), max_length=st.integers(min_value=3, max_value=64))
def test_encode_never_exceeds_max_length(task: Task, tokenizer: Tokenizer, data: st.DataObject, max_length: int) -> None:
    required = [column.name for column in task.columns if column.required and not column.is_label]
    names = data.draw(st.sampled_from([required, inputs_of(task)]))
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, texts)), min_size=1, max_size=4))
    encoded = task.encode(tokenizer, rows, max_length)
    assert len(encoded) == len(rows)
    for item in encoded:
        assert 0 < len(item.ids) == len(item.type_ids) <= max_length


@every_task
def test_encode_does_not_depend_on_what_was_encoded_before(task: Task, tokenizer: Tokenizer) -> None:
    rows = task.rows_from(sentences()[:4], inputs_of(task))
    first = task.encode(tokenizer, rows, 48)
    task.encode(tokenizer, rows, 3)
    assert task.encode(tokenizer, rows, 48) == first
    assert [task.encode(tokenizer, [row], 48)[0] for row in rows] == first


@every_task
def test_encode_keeps_every_token_when_the_text_is_short(task: Task, tokenizer: Tokenizer) -> None:
    row = task.rows_from(["a good film"], [column.name for column in task.columns if column.required])[0]
    (item,) = task.encode(tokenizer, [row], 64)
    assert "a good film" in tokenizer.decode(list(item.ids), skip_special_tokens=False)


@every_task
def test_encode_marks_the_second_sentence_when_there_are_two(task: Task, tokenizer: Tokenizer) -> None:
    if len(inputs_of(task)) < 2:
        pytest.skip("the task has one text")
    row = task.rows_from(["a good film", "not bad"], inputs_of(task))[0]
    (item,) = task.encode(tokenizer, [row], 64)
    assert set(item.type_ids) == {0, 1}
    assert list(item.type_ids) == sorted(item.type_ids)


@every_task
def test_predict_and_answer_agree_and_give_one_answer_for_each_example(task: Task) -> None:
    outputs = {name: np.array([[3.0, -1.0], [0.25, 0.75], [-800.0, 800.0]], np.float32) for name in task.outputs}
    predictions = task.predict(outputs)
    assert predictions.tolist() == [0, 1, 1]
    assert np.issubdtype(predictions.dtype, np.integer)
    answers = task.answer(outputs, ("no", "yes"))
    assert [answer.label for answer in answers] == ["no", "yes", "yes"]
    assert all(0.5 <= answer.score <= 1.0 for answer in answers)
    assert answers[1].score == pytest.approx(1 / (1 + np.exp(-0.5)))


labels = st.integers(min_value=0, max_value=4)


@every_task
@given(pairs=st.lists(st.tuples(labels, labels), min_size=1, max_size=60))
def test_score_is_that_of_scikit_learn(task: Task, pairs: list[tuple[int, int]]) -> None:
    predictions, references = (np.array(side) for side in zip(*pairs, strict=True))
    for metric in task.metrics:
        assert task.score(metric, predictions, references) == pytest.approx(SCIKIT[metric](references, predictions)), metric


@every_task
def test_label_index_finds_a_label_by_its_name_or_by_its_number(task: Task) -> None:
    names = ("negative", "neutral", "positive")
    assert [task.label_index(label, names) for label in names] == [0, 1, 2]
    assert [task.label_index(label, names) for label in ("0", "1", "2")] == [0, 1, 2]


@every_task
def test_label_index_prefers_the_name_when_names_are_numbers(task: Task) -> None:
    assert task.label_index("1", ("1", "2")) == 0
    assert task.label_index("2", ("1", "2")) == 1


@every_task
@pytest.mark.parametrize("label", ["", "Positive", "3", "-1", "1.5", "²", "九", "9" * 5000])
def test_label_index_is_none_when_the_label_is_not_one_of_the_models(task: Task, label: str) -> None:
    assert task.label_index(label, ("negative", "neutral", "positive")) is None


@every_task
def test_rows_from_makes_one_row_with_the_inputs_for_each_sentence(task: Task) -> None:
    columns = [column.name for column in task.columns]
    rows = task.rows_from(["one", "two", "three"], columns)
    assert len(rows) == 3
    assert all(sorted(row) == sorted(inputs_of(task)) for row in rows)
    assert all(isinstance(value, str) and value for row in rows for value in row.values())


@every_task
def test_rows_from_leaves_out_the_columns_that_the_data_does_not_have(task: Task) -> None:
    required = [column.name for column in task.columns if column.required and not column.is_label]
    assert all(sorted(row) == sorted(required) for row in task.rows_from(["one", "two"], required))


@every_task
def test_row_of_splits_a_line_into_the_tasks_columns(task: Task) -> None:
    names = inputs_of(task)
    assert task.row_of("\t".join(names)) == {name: name for name in names}
    assert task.row_of("alone") == {names[0]: "alone"}


def test_collate_pads_ids_masks_and_types_to_one_length() -> None:
    batch = collate([Encoded((2, 5, 3), (0, 0, 1)), Encoded((2,), (0,))], length=4, pad_id=9)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[2, 5, 3, 9], [2, 9, 9, 9]],
        "attention_mask": [[1, 1, 1, 0], [1, 0, 0, 0]],
        "token_type_ids": [[0, 0, 1, 0], [0, 0, 0, 0]],
    }
    assert {str(value.dtype) for value in batch.values()} == {"int64"}
