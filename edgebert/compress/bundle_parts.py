"""bundle_parts: which of a run's models go into its bundle, and what a bundle says about where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.bundle.parts import BundleEntry, BundleParts, GoldenOutputs, PlannedEntry
from edgebert.compress.compression import Compression
from edgebert.core.store import Artifact, hash_json
from edgebert.report.report import Report
from edgebert.report.verdict import Verdict


def bundle_parts(
    run: Compression,
    planned_entries: Sequence[PlannedEntry],
    report: Report,
    verdict: Verdict,
    outputs: Mapping[str, GoldenOutputs],
    goldens: Callable[[PlannedEntry], GoldenOutputs],
) -> BundleParts:
    """The bundle of the best entry: with every other that passed, and FP32, as far as its tokenizer serves them.

    Args:
        outputs: name of each planned entry -> its goldens.
        goldens: makes those of an entry that was not planned.
    """
    kept = {judged.entry.name for judged in verdict.judged_entries if judged.passed} | {verdict.best.entry.name}
    judged_entries = {judged.entry.name: judged for judged in verdict.judged_entries}
    best = next(planned for planned in planned_entries if planned.name == verdict.best.entry.name)
    chosen = [
        planned
        for planned in planned_entries
        if (planned.role == "baseline" or planned.name in kept) and planned.serving.equals(best.serving)
    ]
    chosen = [*_own_fp32(run, best, chosen), *chosen]
    return BundleParts(
        name=run.inputs.file.name,
        model=run.transformers_of(best.artifact),
        serving=best.serving,
        variants=[
            BundleEntry(planned, judged_entries.get(planned.name), outputs.get(planned.name) or goldens(planned))
            for planned in chosen
        ],
        report=report,
        verdict=verdict,
        lineage=[_lineage_entry(artifact) for artifact in run.store.lineage(best.artifact)],
        recipe=recipe_hash(run),
    )


def _own_fp32(run: Compression, best: PlannedEntry, chosen: Sequence[PlannedEntry]) -> list[PlannedEntry]:
    """The best entry's model in FP32, for each runtime of which the bundle would have no FP32 graph.

    FP32 itself has another tokenizer where the vocabulary was cut. Clients of the Hub look for an FP32 graph by its name,
    and where INT8 sums saturate nothing else can answer.
    """
    served = {planned.target.runtime for planned in chosen if planned.precision == "fp32"}
    found: dict[str, PlannedEntry] = {}
    for planned in run.intermediates_everywhere():
        runtime = planned.target.runtime
        if runtime not in served and planned.model.key == best.model.key:
            found.setdefault(runtime, planned)
    return [found[runtime] for runtime in dict.fromkeys(planned.target.runtime for planned in chosen) if runtime in found]


def recipe_hash(run: Compression) -> str:
    """sha256 of the recipe with everything that it leaves to defaults, as canonical JSON."""
    return hash_json(run.inputs.file.recipe.model_dump(mode="json"))


def _lineage_entry(artifact: Artifact) -> dict[str, Any]:
    made_by = artifact.manifest.made_by
    parameters = dict(made_by.parameters)
    if made_by.name == "model":
        parameters["source"] = _without_folders(str(parameters["source"]))
    if "teachers" in parameters:
        parameters["teachers"] = [_without_folders(name) for name in parameters["teachers"]]
    if (student := parameters.get("student")) and student["folder"]:
        parameters["student"] = {**student, "folder": _without_folders(student["folder"])}
    return {"stage": made_by.name, "parameters": parameters, "sha256": artifact.sha256, "packages": made_by.packages}


def _without_folders(name: str) -> str:
    """The name of a model without the folders of this machine, which a bundle must not reveal."""
    return Path(name).name if Path(name).is_absolute() else name
