"""`edgebert compress`, `plan`, `validate`, `schema` and `init`: what works on a recipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.cli.common import JsonOption, QuietOption, open_progress, print_json, reader_may_leave
from edgebert.errors import EXIT_GATE_FAILED

if TYPE_CHECKING:
    from edgebert.compress.run import Run
    from edgebert.core.store import ArtifactStore


RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")]


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override, e.g. stages.quantize.method=static. Repeatable."),
]


StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="Default: $EDGEBERT_HOME, else .edgebert here.")
]


def _store(place: Path | None) -> ArtifactStore:
    from edgebert.core.store import ArtifactStore

    return ArtifactStore((place or Path(os.environ.get("EDGEBERT_HOME") or ".edgebert")).absolute())


def compress(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: runs/<recipe>.")] = None,
    remeasure: Annotated[bool, typer.Option(help="Measure again what is stored, and choose again what it decided.")] = False,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Runs a recipe: fine-tune, export, quantise, check against FP32, bundle. Exits 1 when a gate fails."""
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.run import compress as run

    file = load_recipe(recipe, overrides or ())
    folder = out or Path("runs") / file.name
    outcome = run(file, store=_store(store), out=folder, progress=open_progress(quiet), remeasure=remeasure)
    with reader_may_leave():
        print_json(_outcome_json(outcome)) if json_output else _print_outcome(outcome)
    raise typer.Exit(0 if outcome.verdict.passed else EXIT_GATE_FAILED)


def plan(
    recipe: RecipeArgument, overrides: SetOption = None, store: StoreOption = None, json_output: JsonOption = False
) -> None:
    """Shows what compress would do, what is in the store already, and what is missing."""
    from edgebert.compress.plan import make_plan
    from edgebert.compress.recipe_file import load_recipe

    lines = make_plan(load_recipe(recipe, overrides or ()), _store(store))
    if json_output:
        print_json([line.__dict__ for line in lines])
    else:
        width = max(len(line.name) for line in lines)
        for line in lines:
            typer.echo(f"{line.name:{width}}  {line.state:8}  {line.note}".rstrip())
    raise typer.Exit(next((line.exit_code for line in lines if line.exit_code), 0))


def validate(recipe: RecipeArgument, overrides: SetOption = None) -> None:
    """Checks a recipe, its model and the order of its stages; reads no data."""
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.resolve import resolve_recipe

    file = load_recipe(recipe, overrides or ())
    resolve_recipe(file)
    typer.echo(f"{recipe}: valid")


def schema() -> None:
    """Prints the JSON Schema of a recipe, for editors."""
    from edgebert.compress.recipe import json_schema

    print_json(json_schema())


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
    typer.echo(
        f"Wrote {out}. Next: "
        + ("edgebert plan" if train and evaluation else "name your data in it, then: edgebert plan")
        + f" {out}"
    )


def _print_outcome(outcome: Run) -> None:
    import shutil

    from edgebert.report.text.removed import marks_for, removal_lines
    from edgebert.report.text.run_table import text_table, verdict_lines
    from edgebert.report.text.search import advice_lines, choice_lines

    # A file or a pipe has no width; a table that lost columns there could not be read again.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    lines, gone = text_table(outcome.report, outcome.verdict, width)
    typer.echo("\n".join(line.rstrip() for line in lines))
    if gone:
        typer.echo(f"(no room for {', '.join(gone)}: widen the terminal, or see the model card in the bundle)")
    typer.echo()
    best = outcome.verdict.best.entry
    if picture := removal_lines(outcome.report, best, marks_for(sys.stdout.encoding)):
        typer.echo("\n".join([f"What is left of the encoder in {best.name}:", *picture, ""]))
    if chosen := [line for entry in outcome.report.entries for line in choice_lines(entry)]:
        typer.echo("\n".join([*chosen, ""]))
    typer.echo("\n".join([*verdict_lines(outcome.verdict), *advice_lines(outcome.report, outcome.verdict)]))
    typer.echo(f"bundle: {outcome.bundle}")


def _outcome_json(outcome: Run) -> dict[str, Any]:
    from edgebert.report.metrics import METRICS

    report = outcome.report
    return {
        "verdict": outcome.verdict.status,
        "best": outcome.verdict.best.entry.name,
        "bundle": str(outcome.bundle),
        "models": [
            {"name": entry.name, "role": entry.role, **{metric: report.value(entry, metric) for metric in METRICS}}
            for entry in report.entries
        ],
        "gates": {
            judged.entry.name: [
                {"gate": str(result.gate), "passed": result.passed, "reason": result.reason} for result in judged.results
            ]
            for judged in outcome.verdict.judged_entries
        },
    }
