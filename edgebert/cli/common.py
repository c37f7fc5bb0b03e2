"""Shared by the verbs: options that mean the same everywhere, progress, and how results are printed."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.cli.streams import drop
from edgebert.core import interrupts, library_caches
from edgebert.core.faults import folder_fault

if TYPE_CHECKING:
    from edgebert.core.progress import Progress
    from edgebert.core.store import ArtifactStore

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that compress wrote.")]
RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override, e.g. stages.quantize.method=static. Repeatable."),
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="Default: $EDGEBERT_HOME, else .edgebert here.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as one JSON document.")]


def open_progress(quiet: bool) -> Progress:
    """Progress on standard error, which Ctrl-C can always interrupt."""
    from edgebert.core.progress import progress_for

    return interrupts.Interruptible(progress_for(quiet=quiet))


def open_store(folder: Path | None) -> ArtifactStore:
    """The store of finished stages at a folder, by default $EDGEBERT_HOME, else `.edgebert` here.

    Raises:
        EnvironmentFault: the current folder was deleted.
    """
    from edgebert.core.store import ArtifactStore
    from edgebert.core.store_folder import store_folder

    if fault := folder_fault():
        raise fault
    root = store_folder(folder)
    library_caches.keep_in(root)
    return ArtifactStore(root)


def visible(text: str) -> str:
    """The text with control characters escaped: somebody else, such as the maker of a bundle, chose parts of it."""
    return "".join(mark if mark.isprintable() or mark == "\n" else ascii(mark)[1:-1] for mark in text)


def table_width() -> int:
    """Characters for a table. A file or a pipe has no width, and a table that lost columns there could not be read again."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000


def print_json(value: Any) -> None:
    """Prints one JSON document on standard output."""
    import json

    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_result(as_json: bool, data: Callable[[], Any], lines: Callable[[], Iterable[str]]) -> None:
    """Prints a result, as JSON or as lines; a reader that is gone does not change the exit code.

    Args:
        data: makes the JSON document.
        lines: makes the lines for people.
    """
    with reader_may_leave():
        print_json(data()) if as_json else typer.echo("\n".join(lines()))


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Lets a verb end with its own exit code although its output is no longer read (`| head -1`)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
