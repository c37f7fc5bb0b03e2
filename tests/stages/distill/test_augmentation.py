"""Distillation on made-up rows: the teacher answers them, they are made once, and they have no labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_stages import Cut
from stage_runs import make_bench, measurements, run

from edgebert.core.store import Artifact
from edgebert.stages.distill import Distill, learn
from edgebert.stages.examples import UNLABELLED, Examples

CUT = Cut(kept=((0, (0, 1), 24), (1, (1, 3), 24)))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny model and its data; do not write into it."""
    return make_bench(tmp_path_factory.mktemp("augment"), model_template)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[Examples]:
    """The examples of each training, as they come."""
    found: list[Examples] = []
    real = learn.learn

    def noting(student: Any, teachers: Any, paired: Any, examples: Examples, *rest: Any, **options: Any) -> Any:
        found.append(examples)
        return real(student, teachers, paired, examples, *rest, **options)

    monkeypatch.setattr(learn, "learn", noting)
    return found


def distilled(bench: Path, store: Path, overrides: Sequence[str] = (), **settings: Any) -> Artifact:
    fields = {"epochs": 1, "batch_size": 16, "learning_rate": 0.005, **settings}
    return run(bench, store, CUT, Distill(**fields), overrides=overrides)[-1]


def test_made_up_rows_come_after_the_others_without_labels(bench: Path, tmp_path: Path, trained_on: list[Examples]) -> None:
    overrides = [f"data.transfer={bench}/data/transfer.csv"]
    distilled(bench, tmp_path / "store", overrides, augment=2)
    (examples,) = trained_on
    assert [len(data) for data in examples.sets] == [48, 32, 2 * 48, 2 * 32]
    assert UNLABELLED not in examples.targets[:48]
    assert set(examples.targets[48:]) == {UNLABELLED}
    outputs = measurements(tmp_path / "store", "teacher-outputs")
    assert [artifact.facts["examples"] for artifact in outputs] == [3 * (48 + 32)]


def test_made_up_rows_are_made_once_and_follow_the_seed(bench: Path, tmp_path: Path, trained_on: list[Examples]) -> None:
    store = tmp_path / "store"
    distilled(bench, store, augment=1)
    distilled(bench, store, augment=1, temperature=4.0)
    assert len(measurements(store, "made-up-rows")) == 1
    distilled(bench, store, ["seed=1"], augment=1)
    first, _, other = (examples.sets[1].rows() for examples in trained_on)
    assert first != other


def test_made_up_rows_change_what_is_learned(bench: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert distilled(bench, store).sha256 != distilled(bench, store, augment=1).sha256
