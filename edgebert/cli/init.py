"""`edgebert init`: writes a recipe for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebert.cli.common import visible


def init(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Folder with config.json and weights, package://..., or a Hub name."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The recipe to write.")] = Path("recipe.yaml"),
    train: Annotated[Path | None, typer.Option(metavar="FILE", help="Training data.")] = None,
    evaluation: Annotated[
        Path | None, typer.Option("--eval", metavar="FILE", help="Labelled data that decides the gates.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite.")] = False,
) -> None:
    """Writes a recipe for a model, with columns, labels and lengths of the data."""
    from edgebert.compress.init import recipe_text, write_recipe

    text = recipe_text(model, out=out, train=train, evaluation=evaluation)
    write_recipe(text, out, force=force)
    first = "name your data in it, then: " if "# EDIT" in text else "check its columns, then: " if "guessed" in text else ""
    if found := next((line.partition("   # ")[2] for line in text.splitlines() if line.startswith("model: ")), ""):
        typer.echo(f"Found {visible(found)}.")
    typer.echo(f"Wrote {out}. Next: {first}edgebert plan {out}")
