"""Runs stages one after another on a tiny BERT, through the pipeline and its store, without exports and measurements."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import review_rows, write_recipe, write_table
from fake_stages import NOT_IN_A_RECIPE

from edgebert.compress.compression import Compression
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import ResolvedRecipe, resolve_recipe
from edgebert.core.progress import Silent
from edgebert.core.store import Artifact, ArtifactStore
from edgebert.stages.base import Stage
from edgebert.stages.export import Export


class Killed(BaseException):
    """Ends a run as a signal would."""


def make_bench(folder: Path, model: Path) -> Path:
    """Writes recipe.yaml, model/ and data/, with transfer.csv (32 rows without labels) in it. Runs do not write there."""
    write_recipe(folder, model)
    write_table(folder / "data" / "transfer.csv", [{"text": row["text"]} for row in review_rows(80)[48:]])
    return folder


def inputs_of(bench: Path, *stages: Stage, overrides: Sequence[str] = ()) -> ResolvedRecipe:
    """The bench's recipe with these stages, and no exports and candidates."""
    file = load_recipe(str(bench / "recipe.yaml"), overrides)
    file = dataclasses.replace(file, recipe=file.recipe.model_copy(update={"stages": (*stages, Export())}))
    inputs = resolve_recipe(file)
    steps = inputs.layout.steps[: len(stages)]
    assert [step.stage for step in steps] == list(stages)
    return dataclasses.replace(inputs, layout=dataclasses.replace(inputs.layout, steps=steps))


def run(bench: Path, store: Path, *stages: Stage, overrides: Sequence[str] = ()) -> list[Artifact]:
    """Runs the stages. Returns the artifact of each."""
    compression = Compression(inputs_of(bench, *stages, overrides=overrides), ArtifactStore(store), Silent())
    compression.store.prepare()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NOT_IN_A_RECIPE)
        compression.run_stages()
    return [compression.made[index] for index in range(len(stages))]


def kill_after(patch: pytest.MonkeyPatch, module: Any, name: str, calls: int) -> None:
    """Lets a function be called this often; the next call ends the run."""
    function, left = getattr(module, name), calls

    def limited(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        return function(*arguments, **options)

    patch.setattr(module, name, limited)


def counted(patch: pytest.MonkeyPatch, module: Any, name: str, size: Callable[..., int] = lambda *_, **__: 1) -> list[int]:
    """Records the size of each call of a function, in a list that grows with the calls."""
    function, calls = getattr(module, name), []

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(size(*arguments, **options))
        return function(*arguments, **options)

    patch.setattr(module, name, counting)
    return calls


def tensors(artifact: Artifact) -> dict[str, Any]:
    """The weights of a Transformers folder."""
    from safetensors.torch import load_file

    return dict(load_file(artifact.path / "model.safetensors"))


def measurements(store: Path, name: str) -> list[Artifact]:
    """The measurements that stages keep in a store beside their results."""
    return [artifact for artifact in ArtifactStore(store).artifacts() if artifact.manifest.made_by.name == name]
