"""`edgebert store`: looks after the store of finished stages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebert.cli.common import JsonOption, StoreOption, open_store, print_result
from edgebert.core.text_table import aligned
from edgebert.errors import EXIT_ENVIRONMENT, InputError

if TYPE_CHECKING:
    from edgebert.core.store import Artifact, ArtifactStore


store_app = typer.Typer(help="Looks after the store of finished stages.", no_args_is_help=True, rich_markup_mode=None)


@store_app.command("ls")
def store_ls(store: StoreOption = None, json_output: JsonOption = False) -> None:
    """Lists the artifacts, oldest first: when each was made, by what, its size, and the runs that use it."""
    found = _existing_store(store)
    runs = found.runs()
    made = [(artifact, when) for artifact in found.artifacts() if (when := _made(artifact))]
    rows = [
        [
            artifact.key[:12],
            when,
            artifact.manifest.made_by.name,
            artifact.format,
            f"{artifact.size / 1e6:.1f} MB",
            f"{artifact.manifest.made_by.seconds:.1f} s",
            ", ".join(map(_shown, runs.get(artifact.key, ["no run"]))),
        ]
        for artifact, when in made
    ]
    total = f"{len(made)} artifacts, {sum(artifact.size for artifact, _ in made) / 1e6:.1f} MB"
    print_result(
        json_output,
        lambda: [
            {
                **artifact.manifest.model_dump(mode="json"),
                "made": when,
                "size": artifact.size,
                "runs": runs.get(artifact.key, []),
            }
            for artifact, when in made
        ],
        lambda: [*(aligned(rows) if rows else []), total],
    )


def _made(artifact: Artifact) -> str | None:
    """When an artifact was made; None where a collection has removed it since."""
    try:
        return artifact.made
    except FileNotFoundError:
        return None


def _shown(folder: str) -> str:
    """The path of a run from here, where it is below."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@store_app.command("gc")
def store_gc(
    store: StoreOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what finished runs were made from.")] = False,
    altered: Annotated[bool, typer.Option("--altered", help="Only artifacts that fail their verification.")] = False,
) -> None:
    """Drops artifacts that no existing run folder was made from, and what killed runs left."""
    found = _existing_store(store)
    if altered:
        typer.echo(f"dropped {found.remove_altered()} altered artifacts")
        return
    count, freed = found.collect(everything=everything)
    typer.echo(f"dropped {count} artifacts, {freed / 1e6:.1f} MB")


@store_app.command("verify")
def store_verify(store: StoreOption = None) -> None:
    """Rehashes every artifact."""
    found = _existing_store(store)
    faults = found.verify()
    for fault in faults:
        typer.echo(fault)
    if faults:
        typer.echo("Drop them with: edgebert store gc --altered", err=True)
        raise typer.Exit(EXIT_ENVIRONMENT)
    typer.echo(f"{len(found.artifacts())} artifacts, all as written")


def _existing_store(folder: Path | None) -> ArtifactStore:
    store = open_store(folder)
    if not (store.root / "artifacts").is_dir():
        raise InputError(f"There is no store at {store.root}.", hint="Name it with --store or EDGEBERT_HOME.")
    return store
