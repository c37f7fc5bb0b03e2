"""What a prune or distill makes is found again when nothing that decides it has changed, and only then."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model, review_rows, write_table
from stage_runs import inputs_of, make_bench, run

from edgebert.compress.compression import Compression
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.errors import RecipeError
from edgebert.stages.base import Stage
from edgebert.stages.distill import Distill
from edgebert.stages.distill.settings import EarlyStop
from edgebert.stages.finetune import Finetune
from edgebert.stages.prune import Prune
from edgebert.stages.prune.settings import Goal, Recovery, Sizes, VocabularyCut
from edgebert.stages.quantize import Quantize

PRUNE = Prune(to=Goal(macs=0.5), block=8)
GRADUAL = Prune(to=Goal(macs=0.5), block=8, steps=2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny model, its data and another teacher; the tests change copies of it."""
    folder = make_bench(tmp_path_factory.mktemp("keys"), model_template)
    make_model(folder / "other", seed=1)
    return folder


def key(bench: Path, stage: Stage, overrides: Sequence[str] = ()) -> str:
    """Key of a stage that takes the recipe's model."""
    compression = Compression(inputs_of(bench, stage, overrides=overrides), ArtifactStore(bench / "store"), Silent())
    compression.store.prepare()
    return compression.key_of(compression.inputs.layout.steps[0])


def rewritten(file: str, rows: list[dict[str, str]]) -> Callable[[Path], object]:
    return lambda folder: write_table(folder / file, rows)


def retouched(folder: Path) -> None:
    """One bit of the other teacher's weights."""
    from safetensors.numpy import load_file, save_file

    file = folder / "other" / "model.safetensors"
    weights = load_file(file)
    weights["classifier.bias"] = weights["classifier.bias"] + 1e-3
    save_file(weights, file, metadata={"format": "pt"})


def renumbered(folder: Path) -> None:
    config = json.loads((folder / "other" / "config.json").read_text())
    (folder / "other" / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-6}))


CHANGES: dict[str, Callable[[Path], object]] = {
    "train": rewritten("data/train.csv", review_rows(47)),
    "transfer": rewritten("data/transfer.csv", [{"text": "a"}, {"text": "b"}]),
    "eval": rewritten("data/eval.csv", review_rows(23, split="eval")),
    "the other teacher's weights": retouched,
    "the other teacher's config": renumbered,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["prune", "distill"])
def test_key_changes_with_the_files_that_decide_the_result(kind: str, change: str, bench: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bench, tmp_path / "bench"))
    overrides = [f"data.transfer={folder}/data/transfer.csv"]
    stage = PRUNE if kind == "prune" else Distill(teachers=(str(folder / "other"),))
    before = key(folder, stage, overrides)
    assert key(folder, stage, overrides) == before
    CHANGES[change](folder)
    decides = {"prune": ("train", "transfer", "eval"), "distill": [name for name in CHANGES if name != "eval"]}
    assert (key(folder, stage, overrides) != before) == (change in decides[kind])


def test_key_changes_with_the_recipe(bench: Path) -> None:
    transfer = f"data.transfer={bench}/data/transfer.csv"
    for stage in (PRUNE, Distill()):
        found = [
            key(bench, stage),
            key(bench, stage, ["seed=1"]),
            key(bench, stage, [transfer]),
            key(bench, stage, [transfer, "data.train=null"]),
            key(bench, stage, ["task.max_length=31"]),
            key(bench, stage, [f"model={bench}/other"]),
        ]
        assert len(set(found)) == len(found)
        assert key(bench, stage, ["measure.rounds=7", "gates=[]"]) == found[0]


SETTINGS: list[dict[str, Any]] = [
    {"epochs": 1.0},
    {"precision": "bf16"},
    {"teachers": ("teacher", "teacher")},
    {"early_stopping": EarlyStop()},
    {"cache_gb": 0.0},
    {"layer_map": ((1, 1),)},
]


def test_key_changes_with_the_settings_but_not_with_how_often_it_is_saved(bench: Path) -> None:
    found = [key(bench, Distill(**settings)) for settings in [{}, *SETTINGS]]
    assert len(set(found)) == len(found)
    assert key(bench, Distill(checkpoint_seconds=1)) == found[0]
    assert key(bench, PRUNE) != key(bench, Prune(to=Goal(macs=0.4), block=8))
    recovering = [GRADUAL, *(GRADUAL.model_copy(update={"recover": Recovery(**given)}) for given in RECOVERIES)]
    once, default, seldom, longer = (key(bench, stage) for stage in recovering)
    assert once == default == seldom != longer


RECOVERIES: list[dict[str, Any]] = [{}, {"checkpoint_seconds": 1}, {"epochs": 1.0}]


def test_recovery_is_of_the_parameters_only_where_a_step_recovers() -> None:
    assert "recover" not in PRUNE.parameters()
    assert GRADUAL.parameters()["recover"]["epochs"] == 0.5
    assert Prune(to=Goal(keep=0.9), recover=Recovery(batch_size=8)).parameters()["recover"]["epochs"] == 0.5


def test_prune_needs_what_its_fields_ask_for() -> None:
    least = {"head", "eval"}
    labelled = Recovery(hard=0.5)
    assert Prune(positions=32).needed() == least
    assert Prune(vocabulary=VocabularyCut()).needed() == least | {"examples"}
    assert Prune(sizes=Sizes(heads=2), positions=32).needed() == least | {"examples", "teacher"} == PRUNE.needed()
    assert Prune(to=Goal(speedup=2)).needed() == PRUNE.needed() | {"target"}
    for gradual, more in (({"to": Goal(macs=0.5), "steps": 2}, set()), ({"to": Goal(keep=0.9)}, {"select"})):
        assert Prune.model_validate(gradual).needed() == PRUNE.needed() | more
        assert Prune.model_validate({**gradual, "recover": labelled}).needed() == PRUNE.needed() | more | {"train"}


def test_key_of_a_speedup_goal_changes_with_the_target_and_no_other(bench: Path) -> None:
    threads = ["targets.0.threads=2"]
    fast, small = Prune(to=Goal(speedup=2), block=8), PRUNE
    assert key(bench, fast) != key(bench, fast, threads)
    assert key(bench, small) == key(bench, small, threads)


def test_key_of_a_speedup_goal_is_that_of_the_first_target_that_runs_something(bench: Path) -> None:
    """A target that no stage makes a candidate for is left out, and so times nothing."""
    stages = (Prune(to=Goal(speedup=2), block=8), Quantize(method="static"))

    def keys(*targets: str) -> str:
        file = load_recipe(str(bench / "recipe.yaml"), [f"targets=[{', '.join(targets)}]"])
        inputs = resolve_recipe(dataclasses.replace(file, recipe=file.recipe.model_copy(update={"stages": stages})))
        compression = Compression(inputs, ArtifactStore(bench / "store"), Silent())
        compression.store.prepare()
        return compression.key_of(inputs.layout.steps[0])

    idle, busy = "{runtime: openvino}", "{runtime: onnxruntime}"
    assert keys(idle, busy) == keys(busy) == keys("{runtime: openvino, threads: 2}", busy)
    assert keys(idle, busy) != keys("{runtime: onnxruntime, threads: 2}", idle)


def test_key_changes_with_the_teacher_and_with_what_came_between(bench: Path, tmp_path: Path) -> None:
    store, last = tmp_path / "store", Distill(epochs=0.1)
    whole = Prune(sizes=Sizes(heads=4))
    once = run(bench, store, whole, last)
    again = run(bench, store, whole, last)
    assert [entry.key for entry in once] == [entry.key for entry in again]
    longer = run(bench, store, whole, whole, last)  # the same weights, by another way: another assistant may lie there
    assert longer[1].key != once[0].key and longer[2].key != once[1].key
    tuned = run(bench, store, Finetune(epochs=0.1), whole, last)
    assert tuned[2].key != once[1].key


def test_key_changes_with_the_function_that_a_prune_keeps(bench: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bench, tmp_path / "bench"))
    own, overrides = folder / "own.py", ["metrics=[own.py:hits]"]
    own.write_text("def hits(predictions, references, labels):\n    return [1.0] * len(references)\n")
    kept, usual = Prune(to=Goal(keep=0.9, metric="own.py:hits"), block=8), Prune(to=Goal(keep=0.9), block=8)
    before = [key(folder, stage, overrides) for stage in (kept, usual)]
    own.write_text(own.read_text() + "# edited\n")
    after = [key(folder, stage, overrides) for stage in (kept, usual)]
    assert before[0] != after[0] and before[1] == after[1] == key(folder, usual)


def test_a_prune_keeps_no_error(bench: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bench, tmp_path / "bench"))
    (folder / "own.py").write_text("def cost(*given):\n    return []\ncost.less_is_better = True\n")
    with pytest.raises(RecipeError, match=r"less `own.py:cost` is better, and prune keeps"):
        key(folder, Prune(to=Goal(keep=0.9, metric="own.py:cost"), block=8), ["metrics=[own.py:cost]"])
