"""What the verbs share: options that mean the same everywhere, and how results leave."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.core import interrupts

if TYPE_CHECKING:
    from edgebert.core.progress import Progress

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that compress wrote.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as one JSON document.")]


def open_progress(quiet: bool) -> Progress:
    """Progress on standard error, which Ctrl-C can always get through."""
    from edgebert.core.progress import progress_for

    return interrupts.Interruptible(progress_for(quiet=quiet))


def visible(text: str) -> str:
    """Text with parts that somebody else chose, such as the maker of a bundle, so that no terminal obeys it."""
    return "".join(mark if mark.isprintable() or mark == "\n" else ascii(mark)[1:-1] for mark in text)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    import json

    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Lets a verb end with its own exit code although nobody reads its output any more (`| head -1`)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


TargetArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET", help="pi@kitchen, pi@kitchen:folder, ssh://pi@kitchen:2222, ./folder, or a name of the fleet."
    ),
]


FleetOption = Annotated[Path | None, typer.Option("--fleet", metavar="FILE", help="Devices by name: fleet.yaml.")]


OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="LABEL=VALUE", help="Devices of the fleet with that label. Repeatable.")
]


ParallelOption = Annotated[
    int | None, typer.Option(min=1, max=64, help="Devices at a time. Default: what the fleet says, else 4.")
]
