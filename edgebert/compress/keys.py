"""Keys of what a run makes: everything that decides it, and nothing else. Equal keys mean that it was made already."""

from __future__ import annotations

from typing import Any

from edgebert.compress.layout import PlannedStep
from edgebert.compress.resolve import ResolvedRecipe, calibration_samples
from edgebert.core.store import Artifact, hash_json
from edgebert.data.prepared import source_hash
from edgebert.measure.machine.environment import read_environment
from edgebert.report.gates import answer_gates
from edgebert.stages.examples import ROLES


def step_key(
    step: PlannedStep, source: Artifact, inputs: ResolvedRecipe, labels: tuple[str, ...], teacher: Artifact | None = None
) -> str:
    """Everything that decides what a step makes."""
    stage, needed = step.stage, step.stage.needed()
    parts: dict[str, Any] = {
        "source": source.sha256,
        "stage": stage.stage_name(),
        "version": stage.version,
        "parameters": stage.parameters(),
        "task": inputs.task.name,
    }
    if source.format != "transformers":
        # A graph has no tokenizer of its own. Two models may share a graph, but each is served by its own tokenizer.
        parts["lineage"] = source.key
    if stage.keyed_by_packages:
        parts["packages"] = stage.package_versions()
    if teacher:
        parts |= {"teacher": teacher.sha256, "lineage": source.key}  # an earlier result may serve as the assistant
    if stage.models():
        parts["models"] = {name: inputs.models[name].contents() for name in stage.models()}
    if needed & {"train", "examples", "eval", "calibration"}:
        parts |= {"seed": inputs.file.recipe.seed, "max_length": inputs.max_length}
    read = [role for role in _roles(needed) if role in inputs.specs]
    if read:
        parts["labels"] = labels
        parts |= {role: source_hash(inputs.specs[role], inputs.file.base) for role in read}
    if "target" in needed:
        environment = read_environment()
        parts |= {"target": inputs.layout.target.identity(), "machine": [environment.cpu, *environment.isa]}
    if "machine" in needed:
        environment = read_environment()
        parts |= {"machine": [environment.cpu, *environment.isa], "cores": environment.cores}
    if "gates" in needed:
        asked = answer_gates(inputs.file.recipe.gates, inputs.task.metrics)
        parts["gates"] = [gate.model_dump(mode="json") for gate in asked]
    if "calibration" in needed:
        spec = inputs.specs.get("calibration") or inputs.specs["train"]
        samples = calibration_samples(inputs.file.recipe.data.calibration)
        parts |= {"calibration": source_hash(spec, inputs.file.base), "samples": samples}
    return hash_json(parts)


def _roles(needed: frozenset[str]) -> list[str]:
    """Data sets whose rows decide what a step makes, calibration apart."""
    roles = ["train"] if "train" in needed else []
    roles = [*ROLES] if "examples" in needed else roles
    return [*roles, "eval"] if "eval" in needed else roles
