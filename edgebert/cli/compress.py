"""`edgebert compress`: runs a recipe and prints its outcome."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.cli.common import (
    JsonOption,
    QuietOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    open_progress,
    open_store,
    print_result,
    table_width,
)
from edgebert.errors import EXIT_GATE_FAILED

if TYPE_CHECKING:
    from edgebert.compress.run import Run


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
    outcome = run(file, store=open_store(store), out=folder, progress=open_progress(quiet), remeasure=remeasure)
    print_result(json_output, lambda: _outcome_json(outcome), lambda: _outcome_lines(outcome))
    raise typer.Exit(0 if outcome.verdict.passed else EXIT_GATE_FAILED)


def _outcome_lines(outcome: Run) -> list[str]:
    from edgebert.report.text.disturbances import disturbance_lines
    from edgebert.report.text.removed import marks_for, removal_lines
    from edgebert.report.text.run_table import text_table, unsure_line, verdict_lines
    from edgebert.report.text.search import advice_lines, choice_lines
    from edgebert.report.text.selection import selection_lines

    table, gone = text_table(outcome.report, outcome.verdict, table_width())
    lines = [line.rstrip() for line in table]
    if gone:
        lines.append(f"(no room for {', '.join(gone)}: widen the terminal, or see the model card in the bundle)")
    lines += [line for line in (unsure_line(outcome.verdict), *disturbance_lines(outcome.report)) if line]
    lines.append("")
    best = outcome.verdict.best.entry
    if picture := removal_lines(outcome.report, best, marks_for(sys.stdout.encoding)):
        lines += [f"What is left of the encoder in {best.name}:", *picture, ""]
    if chosen := [line for entry in outcome.report.entries for line in choice_lines(entry)]:
        lines += [*chosen, ""]
    lines += [*verdict_lines(outcome.verdict), *(f"  {line}" for line in selection_lines(outcome.report))]
    lines += advice_lines(outcome.report, outcome.verdict)
    return [*lines, f"bundle: {outcome.bundle}"]


def _outcome_json(outcome: Run) -> dict[str, Any]:
    from edgebert.report.metric_table import GATED
    from edgebert.report.text.disturbances import disturbance_lines

    report, speedups = outcome.report, outcome.verdict.speedups
    return {
        "verdict": outcome.verdict.status,
        "best": outcome.verdict.best.entry.name,
        "bundle": str(outcome.bundle),
        "models": [
            {"name": entry.name, "role": entry.role, **{metric: report.value(entry, metric) for metric in GATED}}
            | ({"speedup_interval": known.interval, "speedup_sure": known.sure} if (known := speedups.get(entry.name)) else {})
            for entry in report.entries
        ],
        "disturbances": disturbance_lines(report),
        "selection": report.selection.model_dump(mode="json") if report.selection else None,
        "gates": {
            judged.entry.name: [
                {"gate": str(result.gate), "passed": result.passed, "reason": result.reason} for result in judged.results
            ]
            for judged in outcome.verdict.judged_entries
        },
    }
