"""`edgebert init`: writes a recipe for a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    model: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="Folder with config.json and model.safetensors.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The recipe to write.")] = Path("recipe.yaml"),
    train: Annotated[Path | None, typer.Option(metavar="FILE", help="Training data.")] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--eval", metavar="FILE", help="Labelled data that decides the gates.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite.")] = False,
) -> None:
    """Writes a recipe for a model folder."""
    from edgebert.compress.init import recipe_text, write_recipe

    write_recipe(recipe_text(model, out=out, train=train, evaluation=evaluation), out, force=force)
    first = "" if train and evaluation else "name your data in it, then: "
    typer.echo(f"Wrote {out}. Next: {first}edgebert plan {out}")
