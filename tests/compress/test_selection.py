"""The rows that choose among models: data.select, else rows held out of data.train, else data.eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import review_rows, write_table
from stage_runs import inputs_of, make_bench

from edgebert.compress.compression import Compression
from edgebert.compress.recipe import Recipe
from edgebert.compress.selection import Choice
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.prepared import PreparedData, prepare_data
from edgebert.data.spec import DataSpec
from edgebert.data.split import FEWEST, MOST, USEFUL, held_out_count, shared_rows, split
from edgebert.errors import DataError
from edgebert.stages.distill import Distill
from edgebert.stages.prune import Prune
from edgebert.stages.prune.settings import Goal
from edgebert.stages.quantize import Quantize
from edgebert.tasks import get_task

TASK = get_task("text-classification")
KEEP = Prune(to=Goal(keep=0.5))
PLAIN = Prune(to=Goal(macs=0.5))


def many(count: int, *, labels: int = 2) -> list[dict[str, str]]:
    return [{"text": f"text number {index}", "label": f"label {index % labels}"} for index in range(count)]


@pytest.mark.parametrize(
    ("rows", "held"), [(0, 0), (4 * USEFUL - 1, 0), (4 * USEFUL, USEFUL), (1396, FEWEST), (5000, 500), (67_349, MOST)]
)
def test_a_tenth_of_train_is_held_out_within_bounds(rows: int, held: int) -> None:
    assert held_out_count(rows) == held


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    store = ArtifactStore(tmp_path / "store")
    store.prepare()

    def prepare(rows: list[dict[str, str]], role: str = "train") -> tuple[PreparedData, ArtifactStore]:
        write_table(tmp_path / f"{role}.csv", rows)
        spec = DataSpec(path=f"{role}.csv")
        return prepare_data(spec, role, base=tmp_path, task=TASK, store=store, progress=Silent()), store

    return prepare


def test_split_is_whole_disjoint_seeded_and_keeps_the_shares_of_labels(prepared: Any) -> None:
    rows = many(1200, labels=3)
    data, store = prepared(sorted(rows, key=lambda row: row["label"]))
    rest, held = split(data, 240, task=TASK, seed=0, store=store)
    ours, theirs = ({row["text"] for row in part.rows()} for part in (rest, held))
    assert not ours & theirs and ours | theirs == {row["text"] for row in rows}
    assert held.labels == {f"label {index}": 80 for index in range(3)}
    assert (rest.role, held.role, len(rest), len(held)) == ("train", "select", 960, 240)
    again, other = (split(data, 240, task=TASK, seed=seed, store=store)[1] for seed in (0, 1))
    assert again.artifact.sha256 == held.artifact.sha256 != other.artifact.sha256


def test_split_leaves_a_label_of_few_rows_to_training(prepared: Any) -> None:
    data, store = prepared([*many(600), {"text": "rare", "label": "rare"}])
    rest, held = split(data, 150, task=TASK, seed=0, store=store)
    assert (rest.labels["rare"], held.labels["rare"]) == (1, 0)


def test_split_of_as_many_labels_as_rows_draws_from_all(prepared: Any) -> None:
    data, store = prepared(many(600, labels=300))
    assert len(split(data, 150, task=TASK, seed=0, store=store)[1]) == 150


def test_shared_rows_are_counted_by_their_texts(prepared: Any) -> None:
    data, _ = prepared(many(20))
    other, _ = prepared([*many(5), {"text": "else", "label": "label 0"}], "eval")
    assert shared_rows(other, data) == shared_rows(data, other) == 5
    assert shared_rows(data, data) == 20


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    folder = make_bench(tmp_path_factory.mktemp("bench"), model_template)
    rows = [{"text": f"{row['text']} {index}", "label": row["label"]} for index, row in enumerate(review_rows(48) * 12)]
    write_table(folder / "data" / "many.csv", rows)
    write_table(folder / "data" / "select.csv", rows[:100])
    return folder


def compression(bench: Path, store: Path, *stages: Any, **data: str) -> Compression:
    overrides = [f"data.{role}={bench}/data/{name}.csv" for role, name in data.items()]
    run = Compression(inputs_of(bench, *stages, overrides=overrides), ArtifactStore(store), Silent())
    run.store.prepare()
    return run


SCORED = Quantize(method="neural-compressor").expand([])[0]
CHOSEN: list[tuple[dict[str, str], Choice, int]] = [
    ({"train": "many", "select": "select"}, Choice("data.select"), 100),
    ({"train": "many"}, Choice("data.train", 144), 144),
    ({}, Choice("data.eval"), 24),
    ({"select": "eval"}, Choice("data.eval"), 24),
]


@pytest.mark.parametrize("stage", [KEEP, SCORED], ids=["prune", "quantize"])
@pytest.mark.parametrize(("data", "choice", "rows"), CHOSEN, ids=["select", "train", "too little train", "eval by name"])
def test_the_rows_that_choose(bench: Path, tmp_path: Path, stage: Any, data: dict[str, str], choice: Choice, rows: int) -> None:
    run = compression(bench, tmp_path / "store", stage, **data)
    assert run.choice == choice
    assert len(run.data["select"]) == rows
    found = run.selection
    assert found is not None and (found.source, found.rows) == (choice.source, rows)
    assert found.data == run.data["select"].artifact.sha256
    assert len(run.data["eval"]) == 24 and found.also_in_eval == 0
    assert found.also_in_train == (100 if choice.source == "data.select" and "train" in run.data else 0)
    if choice.source == "data.train":
        assert len(run.data["train"]) == 576 - rows
        assert not shared_rows(run.data["select"], run.data["train"])


def test_nothing_is_held_out_where_nothing_is_chosen_by_scores(bench: Path, tmp_path: Path) -> None:
    run = compression(bench, tmp_path / "store", PLAIN, Distill(), train="many", select="select")
    assert run.choice is None and run.selection is None and "select" not in run.data
    assert len(run.data["train"]) == 576


def key(bench: Path, store: Path, *stages: Any, at: int = 0, **data: str) -> str:
    run = compression(bench, store, *stages, **data)
    run.made = dict.fromkeys(range(at), run.base)
    return run.key_of(run.inputs.layout.steps[at])


def test_keys_of_recipes_that_do_not_choose_and_of_those_that_choose_on_eval_stay(bench: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert key(bench, store, PLAIN, train="many") == key(bench, store, PLAIN, train="many", select="select")
    assert key(bench, store, KEEP) == key(bench, store, KEEP, select="eval")
    assert key(bench, store, SCORED) == key(bench, store, SCORED, select="eval")


def test_keys_change_with_the_rows_that_choose_and_with_what_is_held_out(bench: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for stage in (KEEP, SCORED):
        found = [key(bench, store, stage, train="many", **data) for data in ({}, {"select": "select"}, {"select": "eval"})]
        assert len(set(found)) == 3
    alone, beside = (key(bench, store, *stages, train="many") for stages in ((Distill(),), (Distill(), KEEP)))
    chosen = key(bench, store, Distill(), KEEP, train="many", select="select")
    assert alone == chosen != beside  # rows are held out of the training of a recipe that chooses later


def test_rows_that_train_do_not_choose(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train and data\.select hold the same rows"):
        _ = compression(bench, tmp_path / "store", KEEP, train="many", select="many").data


def test_a_recipe_may_name_the_rows_that_choose(bench: Path) -> None:
    fields = Recipe.model_fields["data"].annotation.model_fields  # type: ignore[union-attr]
    assert "eval decides only once" in str(fields["select"].description)
