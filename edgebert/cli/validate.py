"""`edgebert validate`: checks a recipe."""

from __future__ import annotations

import typer

from edgebert.cli.common import RecipeArgument, SetOption


def validate(recipe: RecipeArgument, overrides: SetOption = None) -> None:
    """Checks a recipe, its model and the order of its stages; reads no data."""
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.resolve import resolve_recipe

    file = load_recipe(recipe, overrides or ())
    resolve_recipe(file)
    typer.echo(f"{recipe}: valid")
