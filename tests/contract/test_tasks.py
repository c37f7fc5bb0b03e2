"""The contract of every task: windows, predictions, metrics, targets and losses, labels, rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_rows import SAMPLES, shape_of, sure_outputs
from tokenizers import Tokenizer

from edgebert.core.files import sentences
from edgebert.data.column_kinds import KINDS
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import (
    IGNORED,
    LISTS,
    Column,
    Encoded,
    Output,
    Row,
    Task,
    collate,
    is_target,
    padded_targets,
    split_outputs,
)
from edgebert.tasks.metrics import METRIC_NAMES
from edgebert.tasks.reductions import REDUCTIONS, reduce_rows

CONFIGURED = tuple(task.configured(SAMPLES[task.name].options) for task in TASKS)
every_task = pytest.mark.parametrize("task", CONFIGURED, ids=lambda task: task.name)


with_answers = pytest.mark.parametrize("task", [task for task in CONFIGURED if task.label_column], ids=lambda task: task.name)
"""The tasks whose data have right answers; others make them of the texts, as a masked language model."""
of_single_windows = pytest.mark.parametrize(
    "task", [task for task in CONFIGURED if not task.in_pairs], ids=lambda task: task.name
)
"""The tasks whose loss looks at each window alone."""
of_single_answers = pytest.mark.parametrize(
    "task", [task for task in CONFIGURED if task.label_column and not task.in_pairs], ids=lambda task: task.name
)
"""Those of them whose data have right answers."""


def inputs_of(task: Task) -> list[Column]:
    """The columns that go into the model."""
    return [column for column in task.columns if not column.is_label]


def required_of(task: Task) -> list[Column]:
    """Those of them that every data set has."""
    return [column for column in inputs_of(task) if column.required]


def labels_of(task: Task) -> tuple[str, ...]:
    """Labels of a model for the task."""
    return SAMPLES[task.name].labels


def labelled_rows(task: Task) -> list[Row]:
    """Rows with right answers, all labels among them."""
    return [SAMPLES[task.name].row(number, sentence) for number, sentence in enumerate(sentences()[:5])]


def indices_of(task: Task) -> dict[str, int]:
    """Label -> its index."""
    return {label: index for index, label in enumerate(labels_of(task))}


def outputs_for(task: Task, encoded: Sequence[Encoded], seed: int = 0) -> list[dict[str, Any]]:
    """Random outputs of a model for some windows."""
    generator = np.random.default_rng(seed)
    whole = [
        {
            output.name: generator.normal(size=(1, *shape_of(output, task, len(item)))).astype(np.float32)
            for output in task.outputs
        }
        for item in encoded
    ]
    return [split_outputs(task, values, [item])[0] for values, item in zip(whole, encoded, strict=True)]


def value_of(task: Task, metric: int, predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """The value of one of the task's metrics."""
    chosen = task.metrics[metric]
    return reduce_rows(chosen.reduction, chosen.statistics(predictions, references, labels_of(task)))


@pytest.fixture(scope="module")
def tokenizer(model_template: Path) -> Tokenizer:
    """The tiny model's."""
    return Tokenizer.from_file(str(model_template / "tokenizer.json"))


@every_task
def test_get_task_finds_the_task_by_its_name(task: Task) -> None:
    assert get_task(task.name, task.options) == task and get_task(task.name) is TASKS[CONFIGURED.index(task)]


def test_task_names_are_distinct() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)


@every_task
def test_task_names_its_columns_outputs_and_metrics(task: Task) -> None:
    answers = [column for column in task.columns if column.is_label]
    assert all(answers[0].or_else == other.name for other in answers[1:])
    assert task.outputs and task.metrics and all(output.axes for output in task.outputs)
    assert all(metric.scores(task.prediction) for metric in task.metrics) and not task.metrics[0].less_is_better
    assert bool(labels_of(task)) == task.has_labels
    assert (task.head and task.architecture.startswith("For")) or (task.pools and task.architecture == "Model")
    assert {column.kind for column in task.columns} <= set(KINDS)
    assert all(any(other.name == column.or_else for other in task.columns) for column in task.columns if column.or_else)


@every_task
def test_a_report_takes_the_tasks_first_metric_for_the_deciding_one(task: Task) -> None:
    names = [metric.name for metric in task.metrics]
    assert [name for name in METRIC_NAMES if name in names] == names


@every_task
def test_optimum_knows_the_auto_class_of_the_task(task: Task) -> None:
    from edgebert.models.load import auto_class

    assert task.architecture in auto_class(task)._model_mapping[_bert_config()].__name__


def _bert_config() -> Any:
    from transformers import BertConfig

    return BertConfig


texts = st.text(alphabet="abz .,é漢🙂\t\n", max_size=200).filter(str.strip)
OF_KIND: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "words": st.lists(texts, min_size=1, max_size=30),
    "texts": st.lists(texts, min_size=1, max_size=3),
}


@every_task
@given(data=st.data(), max_length=st.integers(min_value=3, max_value=64))
def test_encode_never_exceeds_max_length(task: Task, tokenizer: Tokenizer, data: st.DataObject, max_length: int) -> None:
    columns = data.draw(st.sampled_from([required_of(task), inputs_of(task)]))
    values = {column.name: OF_KIND[column.kind] for column in columns}
    rows = data.draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=4))
    encoded = task.encode(tokenizer, rows, max_length)
    numbers = [item.row for item in encoded]
    assert numbers == sorted(numbers) and set(numbers) == set(range(len(rows)))
    for item in encoded:
        assert 0 < len(item.ids) == len(item.type_ids) <= max_length
        assert len(item.offsets) in (0, len(item)) and len(item.words) in (0, len(item))


@every_task
def test_encode_does_not_depend_on_what_was_encoded_before(task: Task, tokenizer: Tokenizer) -> None:
    rows = task.rows_from(sentences()[:4], [column.name for column in inputs_of(task)])
    first = task.encode(tokenizer, rows, 48)
    task.encode(tokenizer, rows, 3)
    assert task.encode(tokenizer, rows, 48) == first
    alone = [(number, item) for number, row in enumerate(rows) for item in task.encode(tokenizer, [row], 48)]
    assert [dataclasses.replace(item, row=number) for number, item in alone] == first


@with_answers
def test_encode_keeps_every_token_when_the_text_is_short(task: Task, tokenizer: Tokenizer) -> None:
    row = task.rows_from(["a good film"], [column.name for column in task.columns if column.required])[0]
    item, *_ = task.encode(tokenizer, [row], 64)
    assert "a good film" in tokenizer.decode(list(item.ids), skip_special_tokens=False)


@every_task
def test_encode_marks_the_second_sentence_when_there_are_two(task: Task, tokenizer: Tokenizer) -> None:
    row = task.rows_from(["a good film", "not bad"], [column.name for column in inputs_of(task)])[0]
    if len(row) < 2:
        pytest.skip("the task has one text")
    item, *_ = task.encode(tokenizer, [row], 64)
    assert set(item.type_ids) == {0, 1}
    assert list(item.type_ids) == sorted(item.type_ids)


@every_task
@pytest.mark.parametrize("max_length", [8, 64])
def test_every_row_has_one_prediction_and_one_answer_whatever_its_windows(
    task: Task, tokenizer: Tokenizer, max_length: int
) -> None:
    rows, labels = labelled_rows(task), labels_of(task)
    encoded = task.encode(tokenizer, rows, max_length)
    outputs = outputs_for(task, encoded)
    predictions = task.decode(outputs, encoded, rows, labels)
    assert len(predictions) == len(rows) and json.loads(json.dumps(predictions)) == predictions
    answers = task.answer(outputs, encoded, rows, labels)
    assert len(answers) == len(rows)
    for answer in answers:
        assert all(isinstance(cell, str) for cell in answer.cells())
        assert json.loads(json.dumps(answer.as_json()))
    assert task.decode([], [], [], labels) == task.answer([], [], [], labels) == []


@of_single_answers
def test_outputs_that_are_the_targets_are_decoded_to_the_reference(task: Task, tokenizer: Tokenizer) -> None:
    rows, labels, indices = labelled_rows(task), labels_of(task), indices_of(task)
    encoded = task.encode(tokenizer, rows, 64)
    outputs = [sure_outputs(task, task.targets(item, rows[item.row], indices)) for item in encoded]
    references = [task.reference(row, indices, labels) for row in rows]
    assert task.decode(outputs, encoded, rows, labels) == references
    for index, metric in enumerate(task.metrics):
        assert value_of(task, index, references, references) == pytest.approx(0.0 if metric.less_is_better else 1.0)


@with_answers
def test_metrics_have_a_row_for_each_example_and_right_answers_are_the_best(task: Task, tokenizer: Tokenizer) -> None:
    rows, labels = labelled_rows(task), labels_of(task)
    references = [task.reference(row, indices_of(task), labels) for row in rows]
    encoded = task.encode(tokenizer, rows, 64)
    for seed in range(5):
        predictions = task.decode(outputs_for(task, encoded, seed), encoded, rows, labels)
        for index, metric in enumerate(task.metrics):
            found = metric.statistics(predictions, references, labels)
            assert found.dtype == np.float64 and len(found) == len(rows)
            assert REDUCTIONS[metric.reduction].fits(found.shape[1])
            best, reached = (value_of(task, index, made, references) for made in (references, predictions))
            assert reached >= best if metric.less_is_better else reached <= best
            assert metric.statistics([], [], labels).shape == (0, found.shape[1])


@with_answers
def test_guesses_are_one_answer_to_all_rows_and_no_better_than_the_right_ones(task: Task) -> None:
    references = [task.reference(row, indices_of(task), labels_of(task)) for row in labelled_rows(task)]
    guesses = task.guesses(references)
    assert len(guesses) == len(references) and task.guesses(references[:1] * 3) == task.guesses(references[:1]) * 3
    for index, metric in enumerate(task.metrics):
        guessed, best = (value_of(task, index, made, references) for made in (guesses, references))
        assert guessed > best if metric.less_is_better else guessed < best


def padded(task: Task, tokenizer: Tokenizer, *, labelled: bool = True) -> tuple[Any, Any, Any]:
    """(what `combined` makes of random outputs, targets, mask) of a padded batch, as tensors."""
    rows = labelled_rows(task)
    if not labelled:
        rows = [{name: value for name, value in row.items() if name in task.input_names} for row in rows]
    encoded = task.encode(tokenizer, rows, 32)
    length = max(map(len, encoded)) + 3
    of_windows = [task.targets(item, rows[item.row], indices_of(task)) for item in encoded]
    targets = padded_targets(of_windows, length, of_tokens=task.of_tokens)
    generator = torch.Generator().manual_seed(0)
    outputs = {
        output.name: torch.randn((len(encoded), *shape_of(output, task, length)), generator=generator)
        for output in task.outputs
    }
    mask = torch.from_numpy(collate(encoded, length=length, pad_id=0)["attention_mask"]).bool()
    return task.combined(outputs), torch.from_numpy(targets), mask


@with_answers
def test_targets_count_where_a_row_has_a_right_answer_and_nowhere_else(task: Task, tokenizer: Tokenizer) -> None:
    _, targets, mask = padded(task, tokenizer)
    assert is_target(targets).any()
    if task.has_labels and not targets.is_floating_point():
        assert set(targets.flatten().tolist()) - {IGNORED} == set(range(len(labels_of(task))))
    if task.of_tokens:
        assert not is_target(targets)[~mask].any()
    unlabelled = padded(task, tokenizer, labelled=False)[1]
    assert unlabelled.shape == targets.shape and not is_target(unlabelled).any()


@of_single_answers
def test_loss_is_the_mean_over_targets_and_its_sum_adds_up(task: Task, tokenizer: Tokenizer) -> None:
    logits, targets, _ = padded(task, tokenizer)
    count = int(is_target(targets).sum())
    mean, total = task.loss(logits, targets), task.loss(logits, targets, "sum")
    assert float(total) == pytest.approx(float(mean) * count, rel=1e-5)
    parts = sum(
        float(task.loss(logits[[row]], targets[[row]], "sum")) for row in range(len(targets)) if is_target(targets[row]).any()
    )
    assert float(total) == pytest.approx(parts, rel=1e-5)
    assert float(task.loss(logits, padded(task, tokenizer, labelled=False)[1])) == 0.0


@of_single_windows
def test_training_on_the_targets_lowers_the_loss(task: Task, tokenizer: Tokenizer) -> None:
    logits, targets, _ = padded(task, tokenizer)
    loss = task.loss(logits.requires_grad_(), targets)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert float(task.loss((logits - 0.1 * logits.grad).detach(), targets)) < loss.item()


@every_task
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_imitate_is_zero_for_the_teacher_itself_and_ignores_padding(
    task: Task, tokenizer: Tokenizer, temperature: float
) -> None:
    teacher, _, mask = padded(task, tokenizer)
    assert float(task.imitate(teacher.clone(), teacher, mask, temperature)) == pytest.approx(0, abs=1e-5)
    student = teacher.flip(0).requires_grad_()
    loss = task.imitate(student, teacher, mask, temperature)
    loss.backward()
    assert loss.item() > 0.01 and student.grad is not None and student.grad.isfinite().all()
    if task.of_tokens:
        assert not student.grad[~mask].any() and student.grad[mask].any()
        assert task.imitate(student, teacher, torch.zeros_like(mask), temperature).item() == 0.0


@of_single_windows
def test_pseudo_targets_are_the_teachers_answers(task: Task, tokenizer: Tokenizer) -> None:
    logits, targets, mask = padded(task, tokenizer)
    made = task.pseudo_targets(logits, mask)
    assert made.shape == targets.shape and is_target(made).any()
    assert float(task.loss(logits, made)) <= float(task.loss(logits, made.flip(0)))
    if task.of_tokens:
        assert not is_target(made)[~mask].any()


@every_task
def test_a_row_with_what_it_needs_is_taken(task: Task) -> None:
    for row in labelled_rows(task):
        task.check_row(row)
    for label in labels_of(task):
        task.check_label(label)


@every_task
def test_rows_from_makes_one_row_with_inputs_for_each_sentence(task: Task) -> None:
    rows = task.rows_from(["one", "two", "three"], [column.name for column in task.columns])
    assert len(rows) == 3
    assert all(set(row) <= set(task.input_names) for row in rows)
    assert all(column.name in row or column.or_else in row for row in rows for column in required_of(task))
    lists = {column.name for column in task.columns if column.kind in LISTS}
    assert all(isinstance(row[name], tuple if name in lists else str) and row[name] for row in rows for name in row)


@every_task
def test_rows_from_leaves_out_the_columns_that_the_data_does_not_have(task: Task) -> None:
    required = required_of(task)
    wanted = sorted(column.or_else or column.name for column in required)
    assert all(sorted(row) == wanted for row in task.rows_from(["one", "two"], [column.name for column in required]))


@with_answers
def test_row_of_splits_a_line_into_the_tasks_texts(task: Task) -> None:
    names = [column.name for column in inputs_of(task) if column.kind == "text"]
    if any(column.kind == "texts" for column in required_of(task)):
        pytest.skip("the task has lines of its own")
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


def test_padded_targets_are_ignored_beyond_each_example() -> None:
    of_examples = padded_targets([np.array(1), np.array(IGNORED)], 7, of_tokens=False)
    assert of_examples.tolist() == [1, IGNORED] and str(of_examples.dtype) == "int64"
    of_tokens = padded_targets([np.array([2, 1]), np.array([0, IGNORED, 1])], 4, of_tokens=True)
    assert of_tokens.tolist() == [[2, 1, IGNORED, IGNORED], [0, IGNORED, 1, IGNORED]]
    numbers = padded_targets([np.array([1.5]), np.array([np.nan])], 4, of_tokens=False)
    assert numbers.shape == (2, 1) and np.isnan(numbers[1])


def test_an_output_fits_the_shape_of_its_axes() -> None:
    assert Output("logits", ("labels",)).fits((3,), tokens=7, labels=3)
    assert not Output("logits", ("labels",)).fits((4,), tokens=7, labels=3)
    assert not Output("logits", ("labels",)).fits((7, 3), tokens=7, labels=3)
    assert Output("logits", ("tokens", "labels")).fits((7, 3), tokens=7, labels=3)
    assert Output("vector", ("width",)).fits((384,), tokens=7, labels=0)
    assert not Output("vector", ("width",)).fits((0,), tokens=7, labels=0)


@every_task
def test_split_outputs_leave_out_padding_and_what_fills_a_batch(task: Task) -> None:
    encoded = [Encoded((1, 2, 3), (0, 0, 0)), Encoded((1,), (0,), 1)]
    batch = {output.name: np.random.default_rng(0).normal(size=(4, *shape_of(output, task, 5))) for output in task.outputs}
    parts = split_outputs(task, batch, encoded)
    assert len(parts) == 2
    for row, (item, part) in enumerate(zip(encoded, parts, strict=True)):
        for output in task.outputs:
            assert part[output.name].shape == shape_of(output, task, len(item))
            whole = batch[output.name][row]
            assert (part[output.name] == (whole[: len(item)] if output.of_tokens else whole)).all()
