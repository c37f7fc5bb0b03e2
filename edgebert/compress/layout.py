"""Layout: the steps of a recipe, each with its source, the baselines, candidates and intermediates of each target, and the
problems of an order of stages that cannot work. Pure: nothing runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.compress.gate_problems import metric_problems, speedup_problems
from edgebert.compress.recipe import Recipe
from edgebert.errors import Problem
from edgebert.runtimes import get_runtime, runtime_of_format
from edgebert.runtimes.isa import overflows
from edgebert.runtimes.target import Target
from edgebert.stages.base import Stage
from edgebert.stages.export import Export
from edgebert.stages.quantize import Quantize
from edgebert.stages.quantize.methods import usual_method

BASE = -1
"""Index of the model that the recipe starts from."""


@dataclass(frozen=True)
class PlannedStep:
    """One stage to run."""

    stage: Stage
    source: int
    """Index of the step whose artifact the stage takes, or BASE."""


@dataclass(frozen=True)
class Intermediate:
    """A model between the teacher and the candidates. It is exported in FP32 to be measured, and is no candidate."""

    name: str
    """The stage's name; `prune-2` for the second of that name."""
    step: int
    """Index of the step that changed the weights."""
    graph: int
    """Index of the step that exports the result."""


@dataclass(frozen=True)
class Layout:
    """All steps of a recipe, and the baselines and candidates of each target."""

    steps: tuple[PlannedStep, ...]
    teacher: int
    """Index of the step that makes the teacher, or BASE."""
    baselines: dict[str, int]
    """Target name -> index of the FP32 step."""
    candidates: dict[str, tuple[int, ...]]
    """Target name -> indices of the candidate steps."""
    idle_targets: tuple[Target, ...]
    """Targets for which no stage makes a candidate."""
    target: Target
    """The first target with a candidate: pruning to a speed-up is timed on it, and intermediates are measured on it."""
    intermediates: tuple[Intermediate, ...] = ()
    """Intermediates in order, all exported for `target`."""


class _LayoutBuilder:
    """Adds the stages one by one, and finds the source of each."""

    def __init__(self, has_head: bool, headless: str) -> None:
        self.headless = headless
        self.steps: list[PlannedStep] = []
        self.trunk: dict[str, int] = {"transformers": BASE}
        """Format -> index of the newest step that later stages may take."""
        self.teacher = BASE
        self.has_head = has_head
        self.problems: list[Problem] = []
        self.changed_by: str | None = None
        """Path of the last stage that changed the weights, until an export follows it."""

    def add(self, stage: Stage, path: str) -> None:
        if stage.input_format() not in self.trunk:
            self.export([Target.model_validate({"runtime": runtime_of_format(stage.input_format()).name})], path)
        source = self.trunk[stage.input_format()]
        if "head" in stage.needed() and not self.has_head:
            hint = "Put `- finetune` before it."
            self.problems.append(Problem(path, self.headless, suggestion=hint))
            self.has_head = True
        self._note(stage, self.index_of(stage, source), source)
        if stage.output_format() == "transformers":
            self.changed_by = path
        elif stage.input_format() == "transformers":
            self.changed_by = None

    def export(self, targets: Sequence[Target], path: str) -> None:
        """Adds the exports that a recipe may omit: a graph has to be exported before it can be quantised or run."""
        for stage in Export().expand(targets):
            self.add(stage, path)

    def index_of(self, stage: Stage, source: int) -> int:
        """Index of that step, which is added where it is new."""
        step = PlannedStep(stage, source)
        if step not in self.steps:
            self.steps.append(step)
        return self.steps.index(step)

    def _note(self, stage: Stage, index: int, source: int) -> None:
        if stage.final:
            return
        if stage.output_format() == "transformers":
            self.trunk = {"transformers": index}
            self.has_head = self.has_head or stage.makes_teacher
            if stage.makes_teacher and source == self.teacher:
                self.teacher = index
        else:
            self.trunk[stage.output_format()] = index


def lay_out(
    recipe: Recipe, *, has_head: bool, headless: str = "the model was not fine-tuned for the task yet."
) -> tuple[Layout | None, list[Problem]]:
    """Finds the source of every stage.

    Args:
        has_head: whether the recipe's model is already fine-tuned for the task.
        headless: what to say where it is not.

    Returns:
        The layout, or None and what is wrong with the order.
    """
    builder = _LayoutBuilder(has_head, headless)
    runtimes = [target.runtime for target in recipe.targets]
    for index, entry in enumerate(recipe.stages):
        path = f"stages.{index}.{entry.stage_name()}"
        for stage in entry.expand(recipe.targets):
            builder.add(stage, path)
    late = _late_problems(builder) + metric_problems(recipe)
    if builder.changed_by is not None:
        builder.export(recipe.targets, builder.changed_by)
    late += _width_problems(recipe) + _unsearched_problems(recipe)
    problems = builder.problems + late + _data_problems(recipe) + _unrun_problems(builder, runtimes)
    if problems:
        return None, problems
    baselines = {target.name: _baseline(builder, target) for target in recipe.targets}
    candidates = {target.name: _candidates(builder, target) for target in recipe.targets}
    if not any(candidates.values()):
        if problems := speedup_problems(recipe):
            return None, problems
        candidates = {name: (index,) for name, index in baselines.items()}
    idle = tuple(target for target in recipe.targets if not candidates[target.name])
    kept = {target.name for target in recipe.targets} - {target.name for target in idle}
    first = next(target for target in recipe.targets if target.name in kept)
    intermediates = _intermediates(builder, first, candidates[first.name])
    return (
        Layout(
            steps=tuple(builder.steps),
            teacher=builder.teacher,
            baselines={name: index for name, index in baselines.items() if name in kept},
            candidates={name: indices for name, indices in candidates.items() if name in kept},
            idle_targets=idle,
            target=first,
            intermediates=intermediates,
        ),
        [],
    )


def _baseline(builder: _LayoutBuilder, target: Target) -> int:
    """Index of the teacher's FP32 export; it is the recipe's own export where no stage comes between."""
    return _exported(builder, builder.teacher, target)


def _exported(builder: _LayoutBuilder, model: int, target: Target) -> int:
    """Index of a model's FP32 export for a target; it is the recipe's own export where it has one."""
    index = model
    for stage in Export().expand([target]):
        index = builder.index_of(stage, index)
    return index


def _intermediates(builder: _LayoutBuilder, target: Target, candidates: Sequence[int]) -> tuple[Intermediate, ...]:
    """Every step that changed the teacher's weights, except one whose export is a candidate of the target."""
    intermediates: list[Intermediate] = []
    names: list[str] = []
    for index, step in enumerate(tuple(builder.steps)):  # exporting adds steps
        if step.stage.output_format() == "transformers" and _comes_from(builder, step.source, builder.teacher):
            names.append(step.stage.stage_name())
            graph = _exported(builder, index, target)
            if graph not in candidates:
                intermediates.append(Intermediate(numbered(names)[-1], index, graph))
    return tuple(intermediates)


def _comes_from(builder: _LayoutBuilder, index: int, ancestor: int) -> bool:
    """Whether a step is the ancestor or was made from it."""
    while index not in (ancestor, BASE):
        index = builder.steps[index].source
    return index == ancestor


def numbered(names: Sequence[str]) -> list[str]:
    """The names, each unique: the second `prune` becomes `prune-2`."""
    counts = [list(names[:index]).count(name) + 1 for index, name in enumerate(names)]
    return [name if count == 1 else f"{name}-{count}" for name, count in zip(names, counts, strict=True)]


def _candidates(builder: _LayoutBuilder, target: Target) -> tuple[int, ...]:
    wanted = get_runtime(target.runtime).format
    stages = [step.stage for step in builder.steps]
    indices = [
        index
        for index, stage in enumerate(stages)
        if stage.final and stage.output_format() == wanted and stage.fits(target, stages)
    ]
    trunk = builder.trunk.get(wanted)
    if not indices and trunk is not None and _model_of(builder, trunk) != builder.teacher:
        indices = [trunk]
    return tuple(indices)


def _model_of(builder: _LayoutBuilder, index: int) -> int:
    """Index of the Transformers model that a graph was exported from."""
    while index != BASE and builder.steps[index].stage.output_format() != "transformers":
        index = builder.steps[index].source
    return index


def _late_problems(builder: _LayoutBuilder) -> list[Problem]:
    """Weights that change after the last candidate was made: no candidate would have them."""
    if builder.changed_by is None or not any(step.stage.final for step in builder.steps):
        return []
    hint = "Put it before them."
    return [Problem(builder.changed_by, "changes the model after the stages that quantise it.", suggestion=hint)]


def _width_problems(recipe: Recipe) -> list[Problem]:
    """Explicit quantisation settings with which INT8 sums overflow on a target's CPU."""
    return [
        Problem(
            f"stages.{index}.quantize.{step.only.overflow_fix[0]}",
            f"`{step.label}` overflows on the target {target.name}, or on this machine, which measures it.",
            suggestion=step.only.overflow_fix[1],
        )
        for index, stage in enumerate(recipe.stages)
        for target in recipe.targets
        if overflows(target)
        for step in stage.expand([target])
        if isinstance(step, Quantize) and step.output_format() == get_runtime(target.runtime).format and not step.any_cpu
    ]


def _unsearched_problems(recipe: Recipe) -> list[Problem]:
    """Targets for which `auto` has no method to begin with."""
    return [
        Problem(
            f"stages.{index}.quantize.method",
            f"auto knows no quantisation method for the target {target.name}.",
            suggestion=f"Drop the target, or the quantisation: {get_runtime(target.runtime).title} then runs FP32.",
        )
        for index, stage in enumerate(recipe.stages)
        for target in recipe.targets
        if isinstance(stage, Quantize) and stage.automatic and not usual_method(get_runtime(target.runtime).format)
    ]


def _data_problems(recipe: Recipe) -> list[Problem]:
    problems = []
    for index, stage in enumerate(recipe.stages):
        needed = {need for step in stage.expand([]) for need in step.needed()}
        path = f"stages.{index}.{stage.stage_name()}"
        if "train" in needed and recipe.data.train is None:
            problems.append(Problem(path, "needs training data.", suggestion="Give data.train."))
        elif "examples" in needed and recipe.data.train is None and recipe.data.transfer is None:
            hint = "Give data.train, or rows without labels: data.transfer."
            problems.append(Problem(path, "needs examples to learn from.", suggestion=hint))
        if "calibration" in needed and recipe.data.calibration is None and recipe.data.train is None:
            problems.append(
                Problem(path, "needs calibration data.", suggestion="Give data.calibration, or data.train to take it from.")
            )
    return problems


def _unrun_problems(builder: _LayoutBuilder, runtimes: Sequence[str]) -> list[Problem]:
    wanted = {get_runtime(name).format for name in runtimes}
    return [
        Problem(
            "targets",
            f"no target runs what `{step.stage.label}` makes.",
            suggestion=f"Add `- runtime: {runtime_of_format(step.stage.output_format()).name}`, or drop that method.",
        )
        for step in builder.steps
        if step.stage.final and step.stage.output_format() not in wanted
    ]
