"""plan: the work that a recipe would do, with what the store already has and what is missing, before any work."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebert.compress.inputs import resolved_with_faults
from edgebert.compress.layout import BASE, Layout, PlannedStep, numbered
from edgebert.compress.recipe_file import RecipeFile
from edgebert.compress.resolve import ResolvedRecipe, resolve_labels
from edgebert.compress.selection import Choice, choice_of
from edgebert.compress.step_keys import step_key
from edgebert.core.store import Artifact, ArtifactStore
from edgebert.data.drift import EVAL_ROWS
from edgebert.data.prepared import PreparedData, data_key, data_path, is_labelled
from edgebert.data.second_texts import unread_second_text
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_INPUT, EXIT_OK, EdgebertError
from edgebert.measure.text_counts import count_texts
from edgebert.models.import_model import find_imported
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving


@dataclass(frozen=True)
class PlanLine:
    """One piece of work. State: `found` (in the store), `runs`, `left out`, or with a way out in `note`: `missing`, or
    `unusable` for a data set that cannot be read."""

    name: str
    state: str
    note: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code of compress for this line: a missing file is a fault of the input, a missing package of the machine."""
        if self.state not in ("missing", "unusable"):
            return EXIT_OK
        return EXIT_INPUT if self.name.startswith("data.") else EXIT_ENVIRONMENT


@dataclass(frozen=True)
class Plan:
    """Every piece of work of a recipe, in order."""

    lines: tuple[PlanLine, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of compress: that of the first line that has one."""
        return next((line.exit_code for line in self.lines if line.exit_code), EXIT_OK)

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return self.exit_code == EXIT_OK

    def __str__(self) -> str:
        width = max(len(line.name) for line in self.lines)
        return "\n".join(f"{line.name:{width}}  {line.state:8}  {line.note}".rstrip() for line in self.lines)


def make_plan(file: RecipeFile, store: ArtifactStore) -> Plan:
    """Every piece of work in order. Faults of the environment and of data become lines; faults of the recipe are raised.

    Raises:
        RecipeError: the recipe cannot work.
    """
    resolved, faults = resolved_with_faults(file)
    base = find_imported(resolved.model, store)
    lines = [PlanLine(f"model {resolved.model.origin['source']}", "found" if base else "runs", str(resolved.model.path))]
    data = _data_lines(resolved, faults, store, lines)
    lines += [PlanLine("data.eval", "found", concern) for concern in _concerns(resolved, store, base, data.get("eval"))]
    lines += _step_lines(resolved, store, base, data)
    lines += _target_lines(resolved)
    return Plan(tuple(lines))


def _data_lines(
    resolved: ResolvedRecipe, faults: Mapping[str, EdgebertError], store: ArtifactStore, lines: list[PlanLine]
) -> dict[str, Artifact | None]:
    artifacts: dict[str, Artifact | None] = {}
    for role, spec in resolved.specs.items():
        name = f"data.{role}"
        address = str(data_path(spec, resolved.file.base)) if spec.path else f"Hub: {spec.hub}"
        if fault := faults.get(name):
            state = "unusable" if spec.path and data_path(spec, resolved.file.base).exists() else "missing"
            lines.append(PlanLine(name, state, str(fault).replace("\n ", "")))
            continue
        key = data_key(spec, resolved.file.base, resolved.task, labelled=is_labelled(role), seed=resolved.file.recipe.seed)
        artifact = store.find(key)
        lines.append(PlanLine(name, "found" if artifact else "runs", address))
        artifacts[role] = artifact
        if unread := unread_second_text(spec, role, base=resolved.file.base, task=resolved.task):
            lines.append(PlanLine(name, "found" if artifact else "runs", unread))
    return artifacts


def _concerns(resolved: ResolvedRecipe, store: ArtifactStore, base: Artifact | None, evaluation: Artifact | None) -> list[str]:
    """What the model's tokenizer and the longest input make doubtful about the eval set, counted on some of its rows; empty
    where one of them is not in the store yet."""
    base, evaluation = (artifact and store.get(artifact.key) for artifact in (base, evaluation))
    if base is None or evaluation is None:  # or was altered: compress makes it anew
        return []
    serving = Serving(resolved.task, (), resolved.max_length, 0, base.path / "tokenizer.json")
    data = PreparedData(evaluation, "eval")
    rows = data.sample(min(EVAL_ROWS, len(data)), resolved.file.recipe.seed)
    return count_texts(serving, [rows]).concerns(resolved.max_length)


def _step_lines(
    resolved: ResolvedRecipe, store: ArtifactStore, base: Artifact | None, data: dict[str, Artifact | None]
) -> list[PlanLine]:
    train = data.get("train")
    known = not resolved.finetunes or train is not None or resolved.file.recipe.task.labels is not None
    labels = resolve_labels(resolved, PreparedData(train, "train") if train else None) if known else ()
    decided, choice = _choice(resolved, train)
    made: dict[int, Artifact | None] = {BASE: base}
    others = {name: find_imported(model, store) for name, model in resolved.models.items()}
    lines = []
    for index, step in enumerate(resolved.layout.steps):
        source = made.get(step.source)
        try:
            teacher = made.get(resolved.layout.teacher) if "teacher" in step.stage.needed() else None
            ready = source and known and decided and (teacher or "teacher" not in step.stage.needed())
            made[index] = (
                store.find(step_key(step, source, resolved, labels, teacher, others, choice=choice))
                if source and ready
                else None
            )
        except EdgebertError:  # the step's data is missing, which has its own line
            made[index] = None
        if not made[index] and (packages := step.stage.missing_packages()):
            lines.append(PlanLine(step.stage.label, "missing", _install(packages)))
        else:
            lines.append(PlanLine(step.stage.label, "found" if made[index] else "runs", _made_of(resolved.layout, step)))
    return lines


def _made_of(layout: Layout, step: PlannedStep) -> str:
    """The model that a step makes a graph of, because a recipe with several exports each; empty for other steps."""
    if step.stage.output_format() == "transformers":
        return ""
    index = step.source
    while index != BASE and layout.steps[index].stage.output_format() != "transformers":
        index = layout.steps[index].source
    trained = [number for number, one in enumerate(layout.steps) if one.stage.output_format() == "transformers"]
    names = dict(zip(trained, numbered([layout.steps[number].stage.label for number in trained]), strict=True))
    return f"of {names.get(index, 'the model')}{', the FP32 baseline' if _is_baseline(layout, step) else ''}"


def _is_baseline(layout: Layout, step: PlannedStep) -> bool:
    return layout.steps.index(step) in layout.baselines.values()


def _choice(resolved: ResolvedRecipe, train: Artifact | None) -> tuple[bool, Choice | None]:
    """Whether it is known which rows choose among models, and which do: that depends on the number of data.train's rows."""
    if not resolved.searches:
        return True, None
    if train is None and "train" in resolved.specs and "select" not in resolved.specs:
        return False, None
    try:
        return True, choice_of(resolved, int(train.facts["rows"]) if train else 0)
    except EdgebertError:  # a file is missing, which has its own line
        return False, None


def _target_lines(resolved: ResolvedRecipe) -> list[PlanLine]:
    lines = []
    intermediates = [point.name for point in resolved.layout.intermediates]
    also = f"; also after {', '.join(intermediates)}" if intermediates else ""
    for target in resolved.file.recipe.targets:
        runtime = get_runtime(target.runtime)
        if target in resolved.layout.idle_targets:
            lines.append(PlanLine(f"check on {target.name}", "left out", "no stage makes a candidate for it"))
        elif importlib.util.find_spec(runtime.package) is None:
            lines.append(PlanLine(f"check on {target.name}", "missing", _install([runtime.package])))
        else:
            names = [resolved.layout.steps[index].stage.label for index in resolved.layout.candidates[target.name]]
            lines.append(PlanLine(f"check on {target.name}", "runs", f"FP32 against {', '.join(names)}{also}"))
            also = ""
    return lines


def _install(packages: Sequence[str]) -> str:
    return f'needs {", ".join(packages)}: pip install "edgebert[compress]"'
