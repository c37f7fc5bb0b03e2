"""`edgebert plan`: shows what compress would do."""

from __future__ import annotations

import typer

from edgebert.cli.common import JsonOption, RecipeArgument, SetOption, StoreOption, open_store, print_result


def plan(
    recipe: RecipeArgument, overrides: SetOption = None, store: StoreOption = None, json_output: JsonOption = False
) -> None:
    """Shows what compress would do, what is in the store already, and what is missing."""
    from edgebert.compress.plan import make_plan
    from edgebert.compress.recipe_file import load_recipe

    found = make_plan(load_recipe(recipe, overrides or ()), open_store(store))
    print_result(json_output, lambda: [line.__dict__ for line in found.lines], lambda: [str(found)])
    raise typer.Exit(found.exit_code)
