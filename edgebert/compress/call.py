"""The room as Python calls it: a recipe as a file or as its content, and defaults as the command line has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.compress.plan import Plan, make_plan
from edgebert.compress.recipe import Recipe
from edgebert.compress.recipe_file import RecipeFile, load_content, load_recipe
from edgebert.compress.run import Run, compress
from edgebert.core.progress import progress_for
from edgebert.core.store import ArtifactStore
from edgebert.core.store_folder import store_folder

AnyRecipe = str | Path | Recipe | Mapping[str, Any]
"""A YAML file, the name of a recipe that ships, or a recipe's content."""


def run_recipe(
    recipe: AnyRecipe,
    *,
    overrides: Mapping[str, Any] | None,
    out: str | Path | None,
    store: str | Path | None,
    remeasure: bool,
    quiet: bool,
) -> Run:
    """Runs a recipe; see `edgebert.compress.CompressRoom`."""
    file = recipe_file(recipe, overrides or {})
    folder = Path(out) if out is not None else Path("runs") / file.name
    kept = ArtifactStore(store_folder(store))
    return compress(file, store=kept, out=folder, progress=progress_for(quiet=quiet), remeasure=remeasure)


def plan(recipe: AnyRecipe, *, overrides: Mapping[str, Any] | None = None, store: str | Path | None = None) -> Plan:
    """The work that a recipe would do: `edgebert.plan("recipe.yaml").ready`.

    Args:
        recipe: as for `edgebert.compress`; so are `overrides` and `store`.

    Returns:
        Its lines: every piece of work, whether the store has it, and what is missing.

    Raises:
        InputError: the recipe, its model or its data cannot work, with every fault that was found.
    """
    return make_plan(recipe_file(recipe, overrides or {}), ArtifactStore(store_folder(store)))


def recipe_file(recipe: AnyRecipe, overrides: Mapping[str, Any]) -> RecipeFile:
    """A recipe with its overrides, checked.

    Raises:
        RecipeError: the recipe has problems; the error contains all of them.
        InputError: there is no such file.
    """
    texts = [f"{path}={json.dumps(value, default=str)}" for path, value in overrides.items()]
    if isinstance(recipe, Recipe):
        recipe = _written(recipe)
    if isinstance(recipe, Mapping):
        return load_content(json.loads(json.dumps(recipe, default=str)), texts)
    return load_recipe(str(recipe), texts)


def _written(recipe: Recipe) -> dict[str, Any]:
    """The recipe's content as its file has it: each stage below its name."""
    content = recipe.model_dump(mode="json", exclude_none=True)
    return {**content, "stages": [{stage.pop("stage"): stage} for stage in content["stages"]]}
