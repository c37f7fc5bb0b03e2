"""Keys of steps: a hash of everything that decides a step's result, and of nothing else. Equal keys give equal results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from edgebert.compress.layout import PlannedStep
from edgebert.compress.resolve import ResolvedRecipe, calibration_samples
from edgebert.compress.selection import Choice
from edgebert.core.store import Artifact, hash_json
from edgebert.data.prepared import source_hash
from edgebert.measure.machine.environment import read_environment
from edgebert.models.cut_side import side_key
from edgebert.models.import_model import imported_contents
from edgebert.report.gates import answer_gates
from edgebert.stages.examples import ROLES


def step_key(
    step: PlannedStep,
    source: Artifact,
    resolved: ResolvedRecipe,
    labels: tuple[str, ...],
    teacher: Artifact | None = None,
    models: Mapping[str, Artifact | None] = MappingProxyType({}),
    choice: Choice | None = None,
) -> str:
    """The hash of everything that decides a step's result.

    Args:
        models: name of each model that the stage names -> the store's copy.
        choice: the rows on which the run chooses.
    """
    stage, needed = step.stage, step.stage.needed()
    parts: dict[str, Any] = {
        "source": source.sha256,
        "stage": stage.stage_name(),
        "version": stage.version,
        "parameters": stage.parameters(),
        "task": resolved.task.key,
    }
    if source.format != "transformers":
        # A graph has no tokenizer of its own. Two models may share a graph, but each is served by its own tokenizer.
        parts["lineage"] = source.key
    parts |= side_key(source.path / "tokenizer.json")
    if stage.keyed_by_packages:
        parts["packages"] = stage.package_versions()
    if teacher:
        parts |= {"teacher": teacher.sha256, "lineage": source.key}  # an earlier result may be the assistant
        parts |= side_key(teacher.path / "tokenizer.json", "teacher_truncation_side")
    if stage.models():
        parts["models"] = {name: imported_contents(resolved.models[name], models.get(name)) for name in stage.models()}
    if needed & {"train", "examples", "eval", "select", "calibration"}:
        parts |= {"seed": resolved.file.recipe.seed, "max_length": resolved.max_length}
    read = [role for role in _roles(needed) if role in resolved.specs]
    if read or "select" in needed:
        parts["labels"] = labels
        parts |= {role: source_hash(resolved.specs[role], resolved.file.base, resolved.file.recipe.seed) for role in read}
    if "select" in needed and choice:
        parts |= choice.key_parts(resolved)
    if choice and choice.held_out and _reads_train(needed, resolved):
        parts["held_out"] = choice.held_out
    if "target" in needed:
        environment = read_environment()
        parts |= {"target": resolved.layout.target.identity(), "machine": [environment.cpu, *environment.isa]}
    if "machine" in needed:
        environment = read_environment()
        parts |= {"machine": [environment.cpu, *environment.isa], "cores": environment.cores}
    if "gates" in needed:
        asked = answer_gates(resolved.file.recipe.gates, [metric.name for metric in resolved.task.metrics])
        parts["gates"] = [gate.model_dump(mode="json") for gate in asked]
    if "calibration" in needed:
        spec = resolved.specs.get("calibration") or resolved.specs["train"]
        samples = calibration_samples(resolved.file.recipe.data.calibration)
        parts |= {"calibration": source_hash(spec, resolved.file.base, resolved.file.recipe.seed), "samples": samples}
    if own := _own_metrics(parts, resolved):
        parts["metrics"] = own
    return hash_json(parts)


def _own_metrics(parts: Mapping[str, Any], resolved: ResolvedRecipe) -> dict[str, str]:
    """Name -> source of the recipe's own metrics that the gates of a step or its parameters name: a function may change."""
    named = json.dumps([parts["parameters"], parts.get("gates")], default=str)
    return {metric.name: metric.source for metric in resolved.task.own_metrics if json.dumps(metric.name) in named}


def _reads_train(needed: frozenset[str], resolved: ResolvedRecipe) -> bool:
    """Whether a step learns from data.train, or is calibrated on it."""
    return bool({"train", "examples"} & needed) or ("calibration" in needed and "calibration" not in resolved.specs)


def _roles(needed: frozenset[str]) -> list[str]:
    """Roles of the data sets whose rows decide a step's result, without calibration."""
    roles = ["train"] if "train" in needed else []
    roles = [*ROLES] if "examples" in needed else roles
    return [*roles, "eval"] if "eval" in needed else roles
