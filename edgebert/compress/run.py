"""compress: runs a recipe, from its steps and their measurement to the verdict, the bundle and the record of the run.

Whatever the store has is not made again, so a run that was killed continues where it stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.bundle.write import write_bundle
from edgebert.compress.bundle_parts import bundle_parts, recipe_hash
from edgebert.compress.check import Check
from edgebert.compress.compression import Compression
from edgebert.compress.inputs import checked_recipe
from edgebert.compress.recipe_file import RecipeFile
from edgebert.compress.run_folder import output_folder
from edgebert.compress.tuning import tuned_task
from edgebert.core import library_caches
from edgebert.core.progress import Progress
from edgebert.core.store import ArtifactStore
from edgebert.measure.machine.environment import read_environment
from edgebert.report.file import write_report
from edgebert.report.report import Report
from edgebert.report.verdict import Verdict, judge


@dataclass(frozen=True)
class Run:
    """The results of a run: its verdict and report, its folder, and the bundle in it."""

    verdict: Verdict
    report: Report
    folder: Path
    bundle: Path


def compress(file: RecipeFile, *, store: ArtifactStore, out: Path, progress: Progress, remeasure: bool = False) -> Run:
    """Runs a recipe.

    Args:
        out: the run's folder; it is replaced as a whole, at the end.
        remeasure: measure again even where the store has the measurement, and repeat choices that were based on one.

    Raises:
        EdgebertError: the input, the environment or a stage prevents the run from finishing.
    """
    started = time.time()
    library_caches.keep_in(store.root)
    resolved = checked_recipe(file)
    for target in resolved.layout.idle_targets:
        progress.note(f"{target.name}: no stage makes a candidate for it; left out")
    store.prepare()
    store.note = progress.note
    with store.lease(out) as hand_over, output_folder(out, hand_over) as folder:
        run = Compression(resolved, store, progress, remeasure=remeasure)
        run.run_stages()
        planned_entries = run.planned_entries()
        check = Check(file, run.data["eval"], store, progress, read_environment(), remeasure, run.selection)
        if (tuned := tuned_task(run, check, planned_entries)) != resolved.task:
            run.tuned_task = tuned
            planned_entries = run.planned_entries()
        report, outputs = check.run(planned_entries)
        verdict = judge(report)
        with progress.step("write the bundle"):
            parts = bundle_parts(run, planned_entries, report, verdict, outputs, check.goldens)
            write_bundle(folder / "bundle", parts, note=progress.note)
        write_report(folder / "report.json", report)
        (folder / "run.json").write_text(json.dumps(run_record(run, verdict, started), indent=1))
    return Run(verdict, report, out, out / "bundle")


def run_record(run: Compression, verdict: Verdict, started: float) -> dict[str, Any]:
    """The content of run.json: recipe, versions, hashes, lineage and times."""
    steps = []
    for index, step in enumerate(run.inputs.layout.steps):
        artifact = run.artifact(index)
        steps.append(
            {
                "step": step.stage.label,
                "key": artifact.key,
                "sha256": artifact.sha256,
                "parent": artifact.parent,
                "found_in_store": index in run.reused,
                "seconds": artifact.manifest.made_by.seconds,
                "facts": dict(artifact.facts),
            }
        )
    return {
        "recipe": run.inputs.file.recipe.model_dump(mode="json"),
        "recipe_sha256": recipe_hash(run),
        "model": {"origin": dict(run.inputs.model.origin), "sha256": run.base.sha256},
        "data": {role: {"rows": len(data), "sha256": data.artifact.sha256} for role, data in run.data.items()},
        "labels": list(run.labels),
        "environment": read_environment().model_dump(mode="json"),
        "steps": steps,
        "left_out": [target.name for target in run.inputs.layout.idle_targets],
        "verdict": verdict.status,
        "best": verdict.best.entry.name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
    }
