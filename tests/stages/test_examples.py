"""Examples: labelled rows, then rows without labels, numbered through and tokenised for a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import review_rows, write_table

from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.prepared import prepare_data
from edgebert.data.spec import DataSpec
from edgebert.errors import StageError
from edgebert.runtimes.serving import Serving
from edgebert.stages.examples import Examples, coarse_length, same_tokens
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import IGNORED, Encoded

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
    targets = examples.batch(range(9))["labels"].tolist()
    assert targets == [LABELS.index(row["label"]) for row in review_rows(5)] + [IGNORED] * 4
    assert not examples.labelled and Examples(examples.sets[:1], examples.serving).labelled


def test_rows_come_in_the_order_of_their_numbers(examples: Examples) -> None:
    wanted = examples.serving.encode(examples.tokenizer, review_rows(9))
    assert [item.ids for item in examples.encoded([7, 0, 5, 4])] == [wanted[index].ids for index in (7, 0, 5, 4)]
    assert [item.ids for item in examples.encoded([8])] == [wanted[8].ids]
    assert [(window.row, window.number) for window in examples.windows] == [(index, 0) for index in range(9)]
    assert examples.lengths == [len(item) for item in wanted]
    assert max(examples.lengths) == 16


def test_batch_is_padded_to_its_longest_row(examples: Examples) -> None:
    batch = examples.batch([6, 1])
    longest = max(examples.lengths[6], examples.lengths[1])
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert batch["input_ids"].shape == (2, longest)
    assert batch["attention_mask"].sum(dim=1).tolist() == [examples.lengths[6], examples.lengths[1]]
    assert batch["labels"].tolist() == [IGNORED, LABELS.index(review_rows(2)[1]["label"])]


def test_a_long_row_is_several_examples_that_share_it(store: ArtifactStore, model_template: Path, tmp_path: Path) -> None:
    long, short = [f"{letter} O" for letter in "abcdefghij"], ["a B-x", "b I-x"]
    (tmp_path / "train.conll").write_text("\n".join([*short, "", *long, "", *short, ""]))
    task, labels = get_task("token-classification"), ("O", "B-x", "I-x")
    data = prepare_data(DataSpec(path="train.conll"), "train", base=tmp_path, task=task, store=store, progress=Silent())
    found = Examples((data,), Serving(task, labels, 8, 0, model_template / "tokenizer.json"))
    assert [(window.row, window.number) for window in found.windows] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert found.lengths == [len(item) for item in found.encoded(range(4))] == [4, 8, 8, 4]
    batch = found.batch([3, 2])
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 8)
    assert batch["labels"][0].tolist() == [IGNORED, 1, 2] + [IGNORED] * 5
    words = {word for item in found.encoded([1, 2]) for word in item.words if word >= 0}
    assert words == set(range(10))
    assert (batch["labels"][1] == 0).sum() == 5  # the word that the window begins with began in the one before


def test_sample_is_drawn_by_the_seed_and_shortest_first(examples: Examples) -> None:
    drawn = examples.sample(6, seed=1)
    assert drawn == examples.sample(6, seed=1) != examples.sample(6, seed=2)
    assert len(set(drawn)) == 6
    assert [examples.lengths[index] for index in drawn] == sorted(examples.lengths[index] for index in drawn)
    assert sorted(examples.sample(100, seed=0)) == list(range(9))


def test_coarse_lengths_are_few_and_hardly_longer() -> None:
    lengths = range(1, 513)
    coarse = [coarse_length(length) for length in lengths]
    assert all(length <= padded < max(length + 4, 1.25 * length) for length, padded in zip(lengths, coarse, strict=True))
    assert len(set(coarse)) == 24 and max(coarse) == 512
    assert coarse == sorted(coarse)


def test_coarse_batches_are_padded_further_but_never_beyond_what_the_model_takes(examples: Examples) -> None:
    for indices in ([6, 1], [0], list(range(9))):
        plain, coarse = examples.batch(indices), examples.batch(indices, coarse=True)
        length = plain["input_ids"].shape[1]
        assert coarse["input_ids"].shape[1] == min(coarse_length(length), 16)
        assert (coarse["input_ids"][:, :length] == plain["input_ids"]).all()
        assert not coarse["attention_mask"][:, length:].any()
        assert (coarse["labels"] == plain["labels"]).all()
    odd = dataclasses.replace(examples, serving=dataclasses.replace(examples.serving, max_length=7))
    assert odd.batch([0], coarse=True)["input_ids"].shape[1] == 7


def test_tokens_of_two_tokenizers_correspond_where_they_have_the_same_characters() -> None:
    cut = {"offsets": ((0, 0), (0, 3), (4, 6), (0, 0)), "words": (-1, 0, 1, -1)}
    other = {"offsets": ((0, 0), (0, 1), (1, 3), (0, 0)), "words": (-1, 0, 0, -1)}
    ours, same, theirs = (Encoded((1, 2, 3, 4), (0,) * 4, **found) for found in (cut, cut, other))
    assert same_tokens([ours, ours], [same, theirs]) == [True, False]


def test_examples_of_tokenizers_that_make_other_windows_are_refused(
    store: ArtifactStore, model_template: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.conll").write_text("\n".join(f"{letter} O" for letter in "abcdefghij") + "\n\na B-x\n")
    task, labels = get_task("token-classification"), ("O", "B-x")
    data = prepare_data(DataSpec(path="train.conll"), "train", base=tmp_path, task=task, store=store, progress=Silent())
    tokenizer = model_template / "tokenizer.json"
    ours, longer = (Examples((data,), Serving(task, labels, length, 0, tokenizer)) for length in (8, 32))
    ours.require_same_windows(Examples((data,), Serving(task, labels, 8, 0, tokenizer)), "the teacher")
    with pytest.raises(StageError, match="The tokenizer of the teacher makes other windows"):
        ours.require_same_windows(longer, "the teacher")
