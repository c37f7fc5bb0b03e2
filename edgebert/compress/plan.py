"""plan: what a recipe would do, what is there already, and what is missing, before any work."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.compress.keys import step_key
from edgebert.compress.layout import BASE
from edgebert.compress.recipe_file import RecipeFile
from edgebert.compress.resolve import ResolvedRecipe, resolve_labels, resolve_recipe
from edgebert.core.store import Artifact, ArtifactStore
from edgebert.data.prepared import PreparedData, data_key, data_path, is_labelled
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_INPUT, EXIT_OK, DataError, EdgebertError
from edgebert.models.import_model import base_key
from edgebert.runtimes import get_runtime


@dataclass(frozen=True)
class PlanLine:
    """One piece of work. State: `found` (in the store), `runs`, or `missing` with what to do in `note`."""

    name: str
    state: str
    note: str = ""

    @property
    def exit_code(self) -> int:
        """What compress would end with for its sake: a missing file is the recipe's affair, a missing package is not."""
        if self.state != "missing":
            return EXIT_OK
        return EXIT_INPUT if self.name.startswith("data.") else EXIT_ENVIRONMENT


def make_plan(file: RecipeFile, store: ArtifactStore) -> list[PlanLine]:
    """Every piece of work in order. Faults of the environment become lines; faults of the recipe are raised.

    Raises:
        RecipeError: the recipe cannot work.
    """
    inputs = resolve_recipe(file)
    base = store.get(base_key(inputs.model))
    lines = [PlanLine(f"model {inputs.model.origin['source']}", "found" if base else "runs", str(inputs.model.path))]
    data = _data_lines(inputs, store, lines)
    lines += _step_lines(inputs, store, base, data)
    lines += _target_lines(inputs)
    return lines


def _data_lines(inputs: ResolvedRecipe, store: ArtifactStore, lines: list[PlanLine]) -> dict[str, Artifact | None]:
    found: dict[str, Artifact | None] = {}
    for role, spec in inputs.specs.items():
        place = str(data_path(spec, inputs.file.base)) if spec.path else f"Hub: {spec.hub}"
        try:
            artifact = store.get(data_key(spec, inputs.file.base, inputs.task, labelled=is_labelled(role)))
            lines.append(PlanLine(f"data.{role}", "found" if artifact else "runs", place))
            found[role] = artifact
        except DataError as error:
            lines.append(PlanLine(f"data.{role}", "missing", error.message))
    return found


def _step_lines(
    inputs: ResolvedRecipe, store: ArtifactStore, base: Artifact | None, data: dict[str, Artifact | None]
) -> list[PlanLine]:
    train = data.get("train")
    known = not inputs.finetunes or train is not None or inputs.file.recipe.task.labels is not None
    labels = resolve_labels(inputs, PreparedData(train, "train") if train else None) if known else ()
    made: dict[int, Artifact | None] = {BASE: base}
    lines = []
    for index, step in enumerate(inputs.layout.steps):
        source = made.get(step.source)
        try:
            teacher = made.get(inputs.layout.teacher) if "teacher" in step.stage.needed() else None
            ready = source and known and (teacher or "teacher" not in step.stage.needed())
            made[index] = store.get(step_key(step, source, inputs, labels, teacher)) if source and ready else None
        except EdgebertError:  # its data is missing, which has a line of its own
            made[index] = None
        if made[index]:
            lines.append(PlanLine(step.stage.label, "found"))
        elif packages := step.stage.missing_packages():
            lines.append(PlanLine(step.stage.label, "missing", _install(packages)))
        else:
            lines.append(PlanLine(step.stage.label, "runs"))
    return lines


def _target_lines(inputs: ResolvedRecipe) -> list[PlanLine]:
    lines = []
    points = [point.name for point in inputs.layout.intermediates]
    on_the_way = f"; also after {', '.join(points)}" if points else ""
    for target in inputs.file.recipe.targets:
        runtime = get_runtime(target.runtime)
        if target in inputs.layout.idle_targets:
            lines.append(PlanLine(f"check on {target.name}", "left out", "no stage makes a candidate for it"))
        elif importlib.util.find_spec(runtime.package) is None:
            lines.append(PlanLine(f"check on {target.name}", "missing", _install([runtime.package])))
        else:
            names = [inputs.layout.steps[place].stage.label for place in inputs.layout.candidates[target.name]]
            lines.append(PlanLine(f"check on {target.name}", "runs", f"FP32 against {', '.join(names)}{on_the_way}"))
            on_the_way = ""
    return lines


def _install(packages: Sequence[str]) -> str:
    return f'needs {", ".join(packages)}: pip install "edgebert[compress]"'
