"""`edgebert doctor`: what on this machine makes measurements unstable, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.cli.common import JsonOption, QuietOption, open_progress, print_result
from edgebert.errors import EXIT_GATE_FAILED

if TYPE_CHECKING:
    from edgebert.measure.doctor.facts import Diagnosis, Facts

ORDER = ("unstable", "note", "ok")
SHOWN_PROCESSES = (5, 10, 20, 40)


def doctor(
    seconds: Annotated[
        float, typer.Option(min=0.0, max=600.0, help="How long a fixed piece of work is timed; 0: not at all.")
    ] = 3.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a model: names as many cores to pin it to.")] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when something is unstable.")] = False,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Explains what on this machine makes measurements unstable and what would mend it; changes nothing."""
    from edgebert.measure.doctor.examine import collect, examine

    facts = collect(seconds, open_progress(quiet), threads=threads)
    findings = examine(facts)
    print_result(json_output, lambda: _as_json(facts, findings), lambda: _lines(findings))
    raise typer.Exit(EXIT_GATE_FAILED if strict and any(item.level == "unstable" for item in findings) else 0)


def _lines(findings: list[Diagnosis]) -> list[str]:
    """A line for each finding, the worst first, and below it why it matters and what mends it."""
    width = max(len(item.name) for item in findings)
    lines = []
    for item in sorted(findings, key=lambda item: ORDER.index(item.level)):
        lines.append(f"{item.level:8}  {item.name:{width}}  {item.seen}")
        if item.level != "ok":
            lines += [f"{'':{width + 12}}{mark} {text}" for mark, text in (("why:", item.why), ("do: ", item.mend)) if text]
    return [*lines, "", _summary(findings)]


def _summary(findings: list[Diagnosis]) -> str:
    counts = {level: sum(item.level == level for item in findings) for level in ORDER}
    notes = "1 note" if counts["note"] == 1 else f"{counts['note']} notes"
    return f"{counts['unstable']} unstable, {notes}, {counts['ok']} ok"


def _as_json(facts: Facts, findings: list[Diagnosis]) -> dict[str, Any]:
    trial = facts.trial
    return {
        "findings": [item.__dict__ for item in findings],
        "unstable": sum(item.level == "unstable" for item in findings),
        "trial": trial
        and {
            "median_ms": trial.median_ms,
            "tail": trial.tail,
            "largest_gap_ms": trial.largest_gap_ms,
            "scatter": trial.scatter,
            "detectable": {str(count): trial.detectable(count) for count in SHOWN_PROCESSES},
        },
        "environment": facts.environment.model_dump(mode="json"),
        "before": facts.before.model_dump(mode="json"),
        "after": facts.after.model_dump(mode="json"),
    }
