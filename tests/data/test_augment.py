"""Made-up rows: another row joined on, some words left out, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import review_rows, write_table

from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.prepared import PreparedData, prepare_data
from edgebert.data.spec import DataSpec
from edgebert.stages.distill import augmentation
from edgebert.stages.distill.augmentation import joined as joined_columns
from edgebert.tasks import TASKS


def prepared(store: ArtifactStore, folder: Path, rows: list[dict[str, str]], role: str = "transfer") -> PreparedData:
    write_table(folder / "rows.csv", rows)
    return prepare_data(DataSpec(path="rows.csv"), role, base=folder, task=TASKS[0], store=store, progress=Silent())


@pytest.fixture
def reviews(store: ArtifactStore, tmp_path: Path) -> PreparedData:
    return prepared(store, tmp_path, review_rows(40), "train")


def joined(data: PreparedData, copies: int, seed: int) -> Iterator[dict[str, Any]]:
    """Made-up rows of all inputs that the data has."""
    return joined_columns(data, [name for name in TASKS[0].input_names if name in data.columns], copies, seed)


def test_every_row_is_joined_with_another_and_loses_about_a_tenth_of_its_words(reviews: PreparedData) -> None:
    made, rows = list(joined(reviews, 3, seed=0)), reviews.rows()
    assert len(made) == 3 * len(rows)
    assert all(list(row) == ["text"] for row in made)
    words = [row["text"].split() for row in rows]
    joined_words = kept_words = 0
    for index, row in enumerate(made):
        kept = (row["text"] or "").split()
        fitting = [other for other in words if is_thinned(kept, words[index % len(rows)] + other)]
        assert fitting, row
        joined_words += len(words[index % len(rows)]) + len(fitting[0])
        kept_words += len(kept)
    assert 0.85 < kept_words / joined_words < 0.95


def is_thinned(kept: list[str], whole: list[str]) -> bool:
    """Whether it is a part of the words, in their order, and most of them."""
    left = iter(whole)
    return all(word in left for word in kept) and len(kept) > 0.5 * len(whole)


def test_the_seed_and_the_copy_decide(reviews: PreparedData) -> None:
    assert list(joined(reviews, 2, seed=1)) == list(joined(reviews, 2, seed=1))
    assert list(joined(reviews, 1, seed=1)) != list(joined(reviews, 1, seed=2))
    both = list(joined(reviews, 2, seed=1))
    assert both[: len(reviews)] != both[len(reviews) :]


def test_blocks_do_not_change_what_is_made(reviews: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(joined(reviews, 1, seed=0))
    monkeypatch.setattr(augmentation, "BLOCK_ROWS", 7)
    assert list(joined(reviews, 1, seed=0)) == whole


def test_pairs_stay_pairs(store: ArtifactStore, tmp_path: Path) -> None:
    rows = [{"text": f"a{n} b{n}", "text_pair": f"c{n} d{n}"} for n in range(30)]
    for row in joined(prepared(store, tmp_path, rows), 1, seed=0):
        assert {word[0] for word in (row["text"] or "").split()} <= {"a", "b"}
        assert {word[0] for word in (row["text_pair"] or "").split()} <= {"c", "d"}


def test_a_text_that_would_lose_all_its_words_stays_whole(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "DROPPED", 1.0)
    made = list(joined(prepared(store, tmp_path, [{"text": "good"}]), 1, seed=0))
    assert made == [{"text": "good good"}]
