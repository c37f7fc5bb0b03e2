"""`edgebert convert`: a new model folder with safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with pytorch_model.bin, tf_model.h5 or bert_model.ckpt.index.")
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The folder to write; it must not exist.")],
) -> None:
    """Writes a model folder with model.safetensors; a pickle is read in a process of its own that runs nothing of it."""
    from edgebert.cli.common import visible
    from edgebert.models.convert import convert as write

    typer.echo(f"Wrote {visible(str(write(folder, new)))}. Next: edgebert init {visible(str(new))}")
