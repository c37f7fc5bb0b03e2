"""Steps: a recipe's stages laid out, each with its source, before anything runs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.compress.recipe import Recipe
from edgebert.errors import Problem
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.isa import overflows
from edgebert.runtimes.target import Target
from edgebert.stages.base import Stage
from edgebert.stages.export import Export
from edgebert.stages.prune import Prune
from edgebert.stages.quantize import Quantize
from edgebert.tasks import get_task

BASE = -1
"""Place of the model that the recipe starts from."""


@dataclass(frozen=True)
class PlannedStep:
    """One stage to run. `source` is the place of the step whose artifact it takes, or BASE."""

    stage: Stage
    source: int


@dataclass(frozen=True)
class Intermediate:
    """A model between the teacher and the candidates. It is exported in FP32 to be measured, and is no candidate."""

    name: str
    """The stage's name; `prune-2` where it is the second of that stage."""
    step: int
    """Place of the step that changed the weights."""
    graph: int
    """Place of the export of what it made."""


@dataclass(frozen=True)
class Layout:
    """All steps, and which of them are FP32 baselines and candidates of each target."""

    steps: tuple[PlannedStep, ...]
    teacher: int
    baselines: dict[str, int]
    """Target name -> place of the FP32 step."""
    candidates: dict[str, tuple[int, ...]]
    """Target name -> places of the candidate steps."""
    idle_targets: tuple[Target, ...]
    """Targets for which no stage makes a candidate."""
    target: Target
    """The first that has one: what pruning to a speed-up is timed on, and where every step is measured."""
    intermediates: tuple[Intermediate, ...] = ()
    """In order, all for `target`."""


def _runtime_of(graph_format: str) -> str:
    """The runtime that reads a format of graphs."""
    return next(runtime.name for runtime in RUNTIMES if runtime.format == graph_format)


class _LayoutBuilder:
    """Walks the stages in order. `trunk` is the newest artifact of each format that a later stage may build on."""

    def __init__(self, has_head: bool) -> None:
        self.steps: list[PlannedStep] = []
        self.trunk: dict[str, int] = {"transformers": BASE}
        self.teacher = BASE
        self.has_head = has_head
        self.problems: list[Problem] = []
        self.changed_by: str | None = None
        """Path of the last stage that changed the weights, until an export follows it."""

    def add(self, stage: Stage, path: str) -> None:
        if stage.input_format() not in self.trunk:
            self.export([Target.model_validate({"runtime": _runtime_of(stage.input_format())})], path)
        source = self.trunk[stage.input_format()]
        if "head" in stage.needed() and not self.has_head:
            hint = "Put `- finetune` before it."
            self.problems.append(Problem(path, "the model was not fine-tuned for the task yet.", suggestion=hint))
            self.has_head = True
        place = self.place_of(stage, source)
        self._note(stage, place, source)
        if stage.output_format() == "transformers":
            self.changed_by = path
        elif stage.input_format() == "transformers":
            self.changed_by = None

    def export(self, targets: Sequence[Target], path: str) -> None:
        """What a recipe leaves unsaid: a graph has to be exported before it can be quantised or run."""
        for stage in Export().expand(targets):
            self.add(stage, path)

    def place_of(self, stage: Stage, source: int) -> int:
        """Place of that step; added when it is new."""
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


def lay_out(recipe: Recipe, *, has_head: bool) -> tuple[Layout | None, list[Problem]]:
    """Finds the source of every stage.

    Args:
        has_head: whether the recipe's model is already fine-tuned for the task.

    Returns:
        The layout, or None and what is wrong with the order.
    """
    builder = _LayoutBuilder(has_head)
    runtimes = [target.runtime for target in recipe.targets]
    for place, entry in enumerate(recipe.stages):
        path = f"stages.{place}.{entry.stage_name()}"
        for stage in entry.expand(recipe.targets):
            builder.add(stage, path)
    late = _late_problems(builder) + _metric_problems(recipe)
    if builder.changed_by is not None:
        builder.export(recipe.targets, builder.changed_by)
    late += _width_problems(recipe)
    problems = builder.problems + late + _data_problems(recipe) + _unrun_problems(builder, runtimes)
    if problems:
        return None, problems
    baselines = {target.name: _baseline(builder, target) for target in recipe.targets}
    candidates = {target.name: _candidates(builder, target) for target in recipe.targets}
    if not any(candidates.values()):
        candidates = {name: (place,) for name, place in baselines.items()}
    idle = tuple(target for target in recipe.targets if not candidates[target.name])
    kept = {target.name for target in recipe.targets} - {target.name for target in idle}
    first = next(target for target in recipe.targets if target.name in kept)
    intermediates = _intermediates(builder, first, candidates[first.name])
    return (
        Layout(
            steps=tuple(builder.steps),
            teacher=builder.teacher,
            baselines={name: place for name, place in baselines.items() if name in kept},
            candidates={name: places for name, places in candidates.items() if name in kept},
            idle_targets=idle,
            target=first,
            intermediates=intermediates,
        ),
        [],
    )


def _baseline(builder: _LayoutBuilder, target: Target) -> int:
    """The teacher's own FP32 export; it is the recipe's export when no stage came between."""
    return _exported(builder, builder.teacher, target)


def _exported(builder: _LayoutBuilder, model: int, target: Target) -> int:
    """The FP32 export of a model for a target; the recipe's own, where it has one."""
    place = model
    for stage in Export().expand([target]):
        place = builder.place_of(stage, place)
    return place


def _intermediates(builder: _LayoutBuilder, target: Target, candidates: Sequence[int]) -> tuple[Intermediate, ...]:
    """Every step that changed the teacher's weights, but for one whose export is a candidate of the target anyway."""
    found: list[Intermediate] = []
    names: list[str] = []
    for index, step in enumerate(tuple(builder.steps)):  # exporting adds steps
        if step.stage.output_format() == "transformers" and _comes_from(builder, step.source, builder.teacher):
            names.append(step.stage.stage_name())
            graph = _exported(builder, index, target)
            if graph not in candidates:
                found.append(Intermediate(numbered(names)[-1], index, graph))
    return tuple(found)


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
    found = [
        index
        for index, stage in enumerate(stages)
        if stage.final and stage.output_format() == wanted and stage.fits(target, stages)
    ]
    trunk = builder.trunk.get(wanted)
    if not found and trunk is not None and _model_of(builder, trunk) != builder.teacher:
        found = [trunk]
    return tuple(found)


def _model_of(builder: _LayoutBuilder, index: int) -> int:
    """Place of the Transformers model that a graph was exported from."""
    while index != BASE and builder.steps[index].stage.output_format() != "transformers":
        index = builder.steps[index].source
    return index


def _late_problems(builder: _LayoutBuilder) -> list[Problem]:
    """Weights that change after the only candidates were made: the user would be shown another model than the one meant."""
    if builder.changed_by is None or not any(step.stage.final for step in builder.steps):
        return []
    hint = "Put it before them."
    return [Problem(builder.changed_by, "changes the model after the stages that quantise it.", suggestion=hint)]


def _metric_problems(recipe: Recipe) -> list[Problem]:
    """Metrics that a prune stage would keep and the task does not have."""
    known = get_task(recipe.task.name).metrics
    return [
        Problem(
            f"stages.{index}.prune.to.metric",
            f"{recipe.task.name} has no metric `{stage.to.metric}`.",
            suggestion=f"Take one of {', '.join(known)}.",
        )
        for index, stage in enumerate(recipe.stages)
        if isinstance(stage, Prune) and stage.to and stage.to.metric not in (None, *known)
    ]


def _width_problems(recipe: Recipe) -> list[Problem]:
    """What a recipe insists on although a target's CPU sums it up wrongly."""
    return [
        Problem(
            f"stages.{index}.quantize.{'reduce_range' if step.reduce_range is False else 'accuracy_level'}",
            f"`{step.label}` overflows on the target {target.name}, or on this machine, which measures it.",
            suggestion="Drop reduce_range." if step.reduce_range is False else "Take `accuracy_level: 1`.",
        )
        for index, stage in enumerate(recipe.stages)
        for target in recipe.targets
        if overflows(target)
        for step in stage.expand([target])
        if isinstance(step, Quantize) and step.output_format() == get_runtime(target.runtime).format and not step.any_cpu
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
            suggestion=f"Add `- runtime: {_runtime_of(step.stage.output_format())}`, or drop that method.",
        )
        for step in builder.steps
        if step.stage.final and step.stage.output_format() not in wanted
    ]
