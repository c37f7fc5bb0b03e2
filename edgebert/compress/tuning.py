"""tuned_task: the task with the options, as thresholds, that FP32 answers best with on the rows that choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgebert.bundle.parts import PlannedEntry
from edgebert.compress.check import Check
from edgebert.compress.compression import Compression
from edgebert.data.labels import right_answers
from edgebert.tasks.base import Task


def tuned_task(run: Compression, check: Check, planned_entries: Sequence[PlannedEntry]) -> Task:
    """The run's task as it is served. What is tuned is tuned once, on FP32, so that all models are compared alike."""
    task = run.inputs.task
    if not task.tunes:
        return task
    if run.choice is None or run.choice.source == "data.eval":
        run.progress.note(f"nothing of {task.name} is tuned: there are no rows to choose on but data.eval (give data.select)")
        return task
    fp32 = next(planned for planned in planned_entries if planned.role == "baseline")
    chosen = run.data["select"]
    predictions, _ = replace(check, data=chosen).predict(fp32)
    tuned = task.tuned(predictions, right_answers(chosen, task, run.labels))
    found = ", ".join(f"{name} {_shown(value)}" for name, value in tuned.options.changed().items())
    run.progress.note(f"tuned on {len(chosen)} rows of {run.choice.source}: {found or 'as before'}")
    return tuned


def _shown(value: object) -> str:
    return " ".join(f"{one:.3g}" for one in value) if isinstance(value, list) else f"{value}"
