"""`edgebert validate`: checks a recipe."""

from __future__ import annotations

import typer

from edgebert.cli.common import RecipeArgument, SetOption


def validate(recipe: RecipeArgument, overrides: SetOption = None) -> None:
    """Checks a recipe, its model, the order of its stages and the first rows of its data files, and reports all faults."""
    from edgebert.compress.inputs import checked_recipe
    from edgebert.compress.recipe_file import load_recipe

    checked_recipe(load_recipe(recipe, overrides or ()))
    typer.echo(f"{recipe}: valid")
