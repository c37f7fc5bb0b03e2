"""Examples: labelled rows, then rows without labels, numbered through and tokenised for a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import review_rows, write_table

from edgebert.artifact import ArtifactStore
from edgebert.data import prepare_data
from edgebert.data_spec import DataSpec
from edgebert.examples import UNLABELLED, Examples
from edgebert.progress import Silent
from edgebert.serving import Serving
from edgebert.tasks import TASKS

LABELS = ("negative", "positive")


@pytest.fixture
def examples(store: ArtifactStore, model_template: Path, tmp_path: Path) -> Examples:
    """5 labelled rows and 4 without labels."""
    write_table(tmp_path / "train.csv", review_rows(5))
    write_table(tmp_path / "transfer.csv", review_rows(9)[5:])  # its labels are not looked at

    def prepared(role: str) -> object:
        return prepare_data(DataSpec(path=f"{role}.csv"), role, base=tmp_path, task=TASKS[0], store=store, progress=Silent())

    serving = Serving(TASKS[0], LABELS, 16, 0, model_template / "tokenizer.json")
    return Examples((prepared("train"), prepared("transfer")), serving)  # type: ignore[arg-type]


def test_rows_are_numbered_through_and_only_those_of_train_have_labels(examples: Examples) -> None:
    assert len(examples) == 9
    assert examples.targets == [LABELS.index(row["label"]) for row in review_rows(5)] + [UNLABELLED] * 4


def test_rows_come_in_the_order_of_their_numbers(examples: Examples) -> None:
    wanted = examples.serving.encode(examples.tokenizer, review_rows(9))
    assert examples.encoded([7, 0, 5, 4]) == [wanted[index] for index in (7, 0, 5, 4)]
    assert examples.encoded([8]) == [wanted[8]]
    assert examples.lengths == [len(item) for item in wanted]
    assert max(examples.lengths) == 16


def test_batch_is_padded_to_its_longest_row(examples: Examples) -> None:
    batch = examples.batch([6, 1])
    longest = max(examples.lengths[6], examples.lengths[1])
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert batch["input_ids"].shape == (2, longest)
    assert batch["attention_mask"].sum(dim=1).tolist() == [examples.lengths[6], examples.lengths[1]]
    assert batch["labels"].tolist() == [UNLABELLED, examples.targets[1]]


def test_sample_is_drawn_by_the_seed_and_shortest_first(examples: Examples) -> None:
    drawn = examples.sample(6, seed=1)
    assert drawn == examples.sample(6, seed=1) != examples.sample(6, seed=2)
    assert len(set(drawn)) == 6
    assert [examples.lengths[index] for index in drawn] == sorted(examples.lengths[index] for index in drawn)
    assert sorted(examples.sample(100, seed=0)) == list(range(9))
