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

    lines = make_plan(load_recipe(recipe, overrides or ()), open_store(store))
    width = max(len(line.name) for line in lines)
    print_result(
        json_output,
        lambda: [line.__dict__ for line in lines],
        lambda: (f"{line.name:{width}}  {line.state:8}  {line.note}".rstrip() for line in lines),
    )
    raise typer.Exit(next((line.exit_code for line in lines if line.exit_code), 0))
