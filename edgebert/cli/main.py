"""The command line: verbs, each one library call. Everything heavy is imported inside the verb that needs it.

Exit codes: 0 done and passed, 1 a gate failed, 2 the recipe or input has to change, 3 the environment has to change,
130 interrupted, 143 and 129 ended by SIGTERM and SIGHUP. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.cli.bench import bench
from edgebert.cli.common import BundleArgument, JsonOption, QuietOption, open_progress, print_json, reader_may_leave, visible
from edgebert.cli.compare import compare
from edgebert.cli.devices import app as devices_app
from edgebert.cli.doctor import doctor
from edgebert.cli.keys import app as keys_app
from edgebert.cli.report import report
from edgebert.cli.run import run_bundle
from edgebert.cli.ship import rollback, ship
from edgebert.core import interrupts
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_GATE_FAILED, EXIT_INPUT, EXIT_INTERRUPTED, EdgebertError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgebert.bundle.read import SelfTest
    from edgebert.bundle.trust.policy import Signer
    from edgebert.compress.run import Outcome
    from edgebert.core.store import ArtifactStore

app = typer.Typer(
    name="edgebert",
    help="Turns a fine-tuned BERT into the fastest INT8 model that still passes your accuracy gate, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
store_app = typer.Typer(help="Looks after the store of finished stages.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(store_app, name="store")
app.add_typer(keys_app, name="keys")
app.add_typer(devices_app, name="devices")
app.command("compare")(compare)
app.command("report")(report)
app.command("bench")(bench)
app.command("doctor")(doctor)
app.command("ship")(ship)
app.command("rollback")(rollback)
app.command("run")(run_bundle)

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override, e.g. stages.quantize.method=static. Repeatable."),
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="Default: $EDGEBERT_HOME, else .edgebert here.")
]


@app.command()
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


@app.command()
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


@app.command()
def validate(recipe: RecipeArgument, overrides: SetOption = None) -> None:
    """Checks a recipe, its model and the order of its stages; reads no data."""
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.resolve import check_inputs

    file = load_recipe(recipe, overrides or ())
    check_inputs(file)
    typer.echo(f"{recipe}: valid")


@app.command()
def schema() -> None:
    """Prints the JSON Schema of a recipe, for editors."""
    from edgebert.compress.recipe import json_schema

    print_json(json_schema())


@app.command()
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


@app.command()
def verify(bundle: BundleArgument, json_output: JsonOption = False) -> None:
    """Checks who signed a bundle, rehashes it and replays its goldens. Exits 1 when a variant answers differently."""
    from edgebert.bundle.predictor import choose_variant
    from edgebert.bundle.read import read_signed_bundle, replay_all
    from edgebert.runtimes import get_runtime

    manifest, signer = read_signed_bundle(bundle)
    tests = replay_all(bundle, manifest)
    with reader_may_leave():
        if json_output:
            print_json(_verified_json(signer, tests))
        else:
            typer.echo(f"{len(manifest.files)} files as the manifest says")
            typer.echo(_signer_line(signer))
            for test in tests:
                far = test.obstacle if test.difference is None else f"largest difference {test.difference:.2g}"
                typer.echo(f"{test.state:8} {test.variant.name}: {far} (allowed {test.variant.tolerance:g})")
    if any(test.state == "differs" for test in tests):
        raise typer.Exit(EXIT_GATE_FAILED)
    for test in tests:
        if test.state == "untested" and test.variant.name == manifest.selected:
            get_runtime(test.variant.target.runtime).require()  # what the bundle is for could not be tested
    choose_variant(manifest)  # says so where nothing can run here


def _signer_line(signer: Signer) -> str:
    if signer.identity == "unsigned":
        return "not signed: trust.toml here lets such bundles load"
    return visible(f"signed by {signer.identity} ({signer.name})")


def _verified_json(signer: Signer, tests: Sequence[SelfTest]) -> dict[str, Any]:
    variants = [
        {"variant": test.variant.name, "difference": test.difference, "state": test.state, "obstacle": test.obstacle}
        for test in tests
    ]
    return {"signer": {"name": signer.name, "identity": signer.identity}, "variants": variants}


@store_app.command("ls")
def store_ls(store: StoreOption = None, json_output: JsonOption = False) -> None:
    """Lists the artifacts."""
    artifacts = _existing_store(store).artifacts()
    if json_output:
        print_json([artifact.manifest.model_dump(mode="json") for artifact in artifacts])
        return
    for artifact in artifacts:
        made_by = artifact.manifest.made_by
        typer.echo(
            f"{artifact.key[:12]}  {made_by.name:10} {artifact.format:13} "
            f"{artifact.size / 1e6:9.1f} MB  {made_by.seconds:8.1f} s"
        )
    typer.echo(f"{len(artifacts)} artifacts, {sum(artifact.size for artifact in artifacts) / 1e6:.1f} MB")


@store_app.command("gc")
def store_gc(
    store: StoreOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what finished runs were made from.")] = False,
    altered: Annotated[bool, typer.Option("--altered", help="Only artifacts that fail their verification.")] = False,
) -> None:
    """Drops artifacts that no existing run folder was made from, and what killed runs left."""
    place = _existing_store(store)
    if altered:
        typer.echo(f"dropped {place.remove_altered()} altered artifacts")
        return
    count, freed = place.collect(everything=everything)
    typer.echo(f"dropped {count} artifacts, {freed / 1e6:.1f} MB")


@store_app.command("verify")
def store_verify(store: StoreOption = None) -> None:
    """Rehashes every artifact."""
    place = _existing_store(store)
    faults = place.verify()
    for fault in faults:
        typer.echo(fault)
    if faults:
        typer.echo("Drop them with: edgebert store gc --altered", err=True)
        raise typer.Exit(EXIT_ENVIRONMENT)
    typer.echo(f"{len(place.artifacts())} artifacts, all as written")


def _version(show: bool) -> None:
    if show:
        from edgebert import __version__

        typer.echo(f"edgebert {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Prints the version.")] = False,
) -> None:
    """Options before the verb."""


def _store(place: Path | None) -> ArtifactStore:
    from edgebert.core.store import ArtifactStore

    return ArtifactStore((place or Path(os.environ.get("EDGEBERT_HOME") or ".edgebert")).absolute())


def _existing_store(place: Path | None) -> ArtifactStore:
    store = _store(place)
    if not (store.root / "artifacts").is_dir():
        raise InputError(f"There is no store at {store.root}.", hint="Name it with --store or EDGEBERT_HOME.")
    return store


def _print_outcome(outcome: Outcome) -> None:
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


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    from edgebert.report.gates import METRICS

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
            judgement.entry.name: [
                {"gate": str(result.gate), "passed": result.passed, "reason": result.reason} for result in judgement.results
            ]
            for judgement in outcome.verdict.judgements
        },
    }


def main() -> None:
    """Entry point: maps every error to its message and exit code."""
    interrupts.listen()
    try:
        code = app(prog_name="edgebert", standalone_mode=False)
    except EdgebertError as error:
        if interrupts.asked():  # what a library made of it
            _interrupted()
        _fail(error)
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    except (BrokenPipeError, SystemExit):  # the reader of our output went away; newer versions of Typer exit by themselves
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if interrupts.asked():
            _interrupted()
        _fail_unexpected(error)
    else:
        if code == EXIT_INTERRUPTED:  # newer versions of Typer turn Ctrl-C into this
            _interrupted()
        sys.exit(code or 0)


def _interrupted() -> None:
    resumes = "compress" in sys.argv[1:2]
    usual = "Finished stages are kept; run the same command again to go on." if resumes else "Nothing was written."
    left, code = interrupts.left() or usual, interrupts.exit_code()
    with contextlib.suppress(OSError):  # a terminal that was closed
        sys.stderr.write(f"\nerror: {'Interrupted' if code == EXIT_INTERRUPTED else 'Ended'}.\n  {left}\n")
    sys.exit(code)


def _fail(error: EdgebertError) -> None:
    _show_trace(error)
    sys.stderr.write(f"error: {visible(str(error))}\n")
    sys.exit(error.exit_code)


def _show_trace(error: Exception) -> None:
    """For EDGEBERT_DEBUG=1; the exit code stays what it is without it."""
    if os.environ.get("EDGEBERT_DEBUG"):
        import traceback

        traceback.print_exception(error)


def _fail_unexpected(error: Exception) -> None:
    if error.__class__.__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_INPUT)
    if hasattr(error, "format_message"):  # a wrong option or argument; Typer's own class of it moved between versions
        command = getattr(getattr(error, "ctx", None), "command_path", "edgebert")
        sys.stderr.write(f"error: {error.format_message()}\n  {command} --help lists what can be asked.\n")
        sys.exit(EXIT_INPUT)
    _show_trace(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        sys.stderr.write(f"error: {error.filename or 'Standard output'} cannot be written: the disk is full.\n  Make room.\n")
        with contextlib.suppress(OSError):  # what is still to be written there
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ENVIRONMENT)
    first = (str(error).strip().splitlines() or [""])[0]
    sys.stderr.write(
        f"error: {error.__class__.__name__}: {first}\n  This is a fault in edgebert. EDGEBERT_DEBUG=1 shows where.\n"
    )
    sys.exit(EXIT_ENVIRONMENT)
