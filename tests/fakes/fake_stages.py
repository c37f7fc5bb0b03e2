"""Stages that change the weights or the tokenizer in a known way."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgebert.compress.recipe_file import RecipeFile, load_recipe
from edgebert.compress.run import Run, compress
from edgebert.core.progress import Silent
from edgebert.core.store import Artifact, ArtifactStore
from edgebert.stages.base import RunContext, Stage

NOT_IN_A_RECIPE = "Pydantic serializer warnings"
"""Pydantic's warning when it writes a recipe with a stage that is not registered."""
Kept = tuple[int, tuple[int, ...], int]
"""A kept layer, its kept heads, and the number of its first FFN neurons that are kept."""


class Cut(Stage):
    """Keeps the named parts of the encoder; the rest is removed by the surgery of edgebert.models.

    Sample:

        - cut: {kept: [[0, [0, 2], 16]]}
    """

    stage: Literal["cut"] = "cut"
    kept: tuple[Kept, ...] = ((0, (0, 2), 16),)

    version: ClassVar[int] = 1
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"head"})
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder."""
        from edgebert.models.load import load_model, save_model
        from edgebert.models.surgery import Units, prune

        copy_files(source, context.out)
        kept = {layer: Units(heads, tuple(range(neurons))) for layer, heads, neurons in self.kept}
        save_model(prune(load_model(source.path, context.task), kept), context.out)
        return {}


class Retoken(Stage):
    """Gives the model a tokenizer that keeps capitals: other tokens, and so another tokenizer.json.

    Sample:

        - retoken
    """

    stage: Literal["retoken"] = "retoken"

    version: ClassVar[int] = 1
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"head"})
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder."""
        copy_files(source, context.out)
        tokenizer = json.loads((source.path / "tokenizer.json").read_text())
        tokenizer["normalizer"]["lowercase"] = False
        (context.out / "tokenizer.json").write_text(json.dumps(tokenizer))
        return {}


def copy_files(source: Artifact, folder: Path) -> None:
    """Copies all files of an artifact."""
    for name in source.manifest.files:
        shutil.copyfile(source.path / name, folder / name)


def with_stages(path: Path, *stages: Stage, **changes: Any) -> RecipeFile:
    """A recipe file with these stages, registered or not; `changes` are other parts of the recipe."""
    file = load_recipe(str(path))
    return replace(file, recipe=file.recipe.model_copy(update={"stages": stages, **changes}))


def compressed(folder: Path, *stages: Stage, **changes: Any) -> Run:
    """Runs `folder`/recipe.yaml with these stages into `folder`/runs/recipe, with the store `folder`/store."""
    file = with_stages(folder / "recipe.yaml", *stages, **changes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NOT_IN_A_RECIPE)
        return compress(file, store=ArtifactStore(folder / "store"), out=folder / "runs" / "recipe", progress=Silent())
