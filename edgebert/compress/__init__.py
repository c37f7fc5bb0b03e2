"""compress: from a recipe to a bundle. recipe, resolve, layout, plan, compression (the steps), check, run.

The room is a function as well: `edgebert.compress("recipe.yaml")`. Python binds a room to its name in the package whenever a
module of it is imported, so a function of that name would be gone then: it is the module itself that can be called.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgebert.compress.recipe import Recipe
    from edgebert.compress.run import Run


class CompressRoom(ModuleType):
    """The module of the room, which can be called."""

    def __call__(
        self,
        recipe: str | Path | Recipe | Mapping[str, Any],
        *,
        overrides: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        store: str | Path | None = None,
        remeasure: bool = False,
        quiet: bool = True,
    ) -> Run:
        """Runs a recipe: `edgebert.compress("recipe.yaml").verdict.passed`.

        Args:
            recipe: a YAML file, the name of a recipe that ships, or a content, whose paths count from the working folder.
            overrides: path in the recipe -> value, as in `{"stages.quantize.method": "static"}`.
            out: the run's folder, replaced as a whole at the end; by default `runs/` and the recipe's name.
            store: the store; by default $EDGEBERT_HOME, else `.edgebert` here.
            remeasure: measure again what is stored, and choose again what it decided.
            quiet: whether progress stays off standard error.

        Returns:
            The verdict, the report, the run's folder and the bundle in it. A failed gate is a verdict and raises nothing.

        Raises:
            EdgebertError: the recipe, its data, the environment or a stage prevents the run from finishing.
        """
        from edgebert.compress.call import run_recipe

        return run_recipe(recipe, overrides=overrides, out=out, store=store, remeasure=remeasure, quiet=quiet)


sys.modules[__name__].__class__ = CompressRoom
