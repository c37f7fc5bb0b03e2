"""Resolves a recipe before any work: finds its models, lays out its stages, and refuses combinations that cannot work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgebert.compress.cells import cell_problems
from edgebert.compress.gate_problems import error_problems
from edgebert.compress.labels import SAME_LABELS, label_fault, label_problems, learned_labels
from edgebert.compress.layout import Layout, lay_out
from edgebert.compress.recipe import Recipe
from edgebert.compress.recipe_file import RecipeFile
from edgebert.core.files import local_path
from edgebert.data.prepared import PreparedData, with_split
from edgebert.data.spec import CalibrationSpec, DataSpec
from edgebert.errors import EnvironmentFault, InputError, Problem, RecipeError, SourceError
from edgebert.models.families import family_of_config
from edgebert.models.folder import ModelFolder
from edgebert.models.sentence_task import as_described, longest_text, with_task_files
from edgebert.models.sizes import with_sizes
from edgebert.models.source import ModelSource, find_model
from edgebert.report.gates import OTHER_WAY
from edgebert.stages.base import ModelFacts
from edgebert.tasks.base import Task
from edgebert.tasks.metrics.own import own_metric

WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Environment variables in which launchers (torchrun, several kinds of MPI) set the number of processes."""


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe whose model was found and whose stages have a valid order."""

    file: RecipeFile
    task: Task
    model: ModelFolder
    layout: Layout
    max_length: int
    models: Mapping[str, ModelFolder]
    """The other models that stages name, by that name."""

    @property
    def finetunes(self) -> bool:
        """Whether a stage trains the head."""
        return any(step.stage.makes_teacher for step in self.layout.steps)

    @property
    def searches(self) -> bool:
        """Whether a stage chooses among models by their scores, or the run tunes the task's options by them."""
        return self.task.tunes or self.stages_search

    @property
    def stages_search(self) -> bool:
        """Whether a stage chooses among models by their scores."""
        return any("select" in step.stage.needed() for step in self.layout.steps)

    @property
    def specs(self) -> dict[str, DataSpec]:
        """Role -> data set, for the data sets that the run needs."""
        data = self.file.recipe.data
        needs = {need for step in self.layout.steps for need in step.stage.needed()} | (
            {"select"} if self.task.tunes else set()
        )
        specs: dict[str, DataSpec] = {"eval": data.eval}
        if "calibration" in needs and data.calibration:
            specs["calibration"] = data.calibration
        if "select" in needs and data.select:
            specs["select"] = data.select
        held_out = "select" in needs and not data.select
        if data.train and (held_out or needs & {"train", "examples"} or ("calibration" in needs and not data.calibration)):
            specs["train"] = data.train
        if data.transfer and "examples" in needs:
            specs["transfer"] = data.transfer
        return {role: with_split(spec, role) for role, spec in specs.items()}


def resolve_recipe(file: RecipeFile) -> ResolvedRecipe:
    """Finds the model and lays the stages out.

    Raises:
        SourceError, EnvironmentFault: the model cannot be found or downloaded.
        EnvironmentFault: a launcher started edgebert as several processes.
        RecipeError: the stages, labels or lengths cannot work.
    """
    require_one_process()
    recipe = file.recipe
    model = with_task_files(find_model(recipe.model, file.base), recipe.task.task)
    described = as_described(recipe.task.task.of_model(model.config), model)
    task, problems_of_metrics = _with_own_metrics(described, recipe, file.base)
    trains = any(stage.makes_teacher for stage in recipe.stages)
    layout, problems = _laid_out(recipe, model, task, trains=trains)
    problems += problems_of_metrics
    problems += cell_problems(recipe, task, family_of_config(model.config))
    max_length = _longest(recipe, task, model)
    if max_length > model.max_positions:
        problems.append(
            Problem("task.max_length", f"{max_length} tokens do not fit the model's {model.max_positions} positions")
        )
    models, faults = _other_models(file, task, model)
    problems += faults
    problems += label_problems(recipe.task.labels, model, task, trains=trains)
    if problems or layout is None:
        raise RecipeError(str(file.path), [file.placed(problem) for problem in problems])
    return ResolvedRecipe(file, task, model, layout, max_length, models)


def _longest(recipe: Recipe, task: Task, model: ModelFolder) -> int:
    """Longest input in tokens: the recipe's, else the task's usual one, else what the model allows."""
    allowed = longest_text(model, task)
    return recipe.task.max_length or min(allowed, task.usual_length or allowed)


def _with_own_metrics(task: Task, recipe: Recipe, base: Path) -> tuple[Task, list[Problem]]:
    """The task with the recipe's own metrics, and the problems of those that cannot be loaded or do not suit their gates."""
    own, problems = [], []
    for index, name in enumerate(recipe.metrics):
        try:
            own.append(own_metric(name, base))
        except InputError as error:
            problems.append(Problem(f"metrics.{index}", error.message, suggestion=error.hint))
    better_small = {metric.name for metric in own if metric.less_is_better}
    problems += [
        Problem(f"gates.{index}", f"less {gate.metric} is better", suggestion=f"Use {OTHER_WAY[gate.bound[0]]}.")
        for index, gate in enumerate(recipe.gates)
        if gate.metric in better_small and gate.bound[0] in OTHER_WAY
    ]
    problems += error_problems(recipe, own)
    return (task.with_metrics(tuple(own)) if own else task), problems


def _laid_out(recipe: Recipe, model: ModelFolder, task: Task, *, trains: bool) -> tuple[Layout | None, list[Problem]]:
    """The layout. A model of a task that edgebert does not have is one problem of its own: no stage mends it."""
    other = None if trains and not task.no_new_head else model.task_fault(task)
    fault = model.head_fault(task) if other is None else None
    if trains and fault and task.no_new_head:
        other = f"{fault} finetune makes no head for {task.name}: {task.no_new_head}."
    layout, problems = lay_out(recipe, has_head=fault is None, headless=fault or "")
    return layout, [*([Problem("model", other)] if other else []), *problems]


def require_one_process() -> None:
    """Checks that no launcher started several processes: each would wait for a lock that another one holds.

    Raises:
        EnvironmentFault: a launcher did.
    """
    for name in WORLD_SIZES:
        if (count := os.environ.get(name, "")).isdecimal() and int(count) > 1:
            raise EnvironmentFault(
                f"edgebert was started as {int(count)} processes ({name}={count}); it works in one, on one device.",
                hint=f"Start it without accelerate launch, torchrun or mpirun; where none was meant, unset {name}.",
            )


def _other_models(file: RecipeFile, task: Task, model: ModelFolder) -> tuple[dict[str, ModelFolder], list[Problem]]:
    """The models that stages name, and the problems of these models and of the stages' settings."""
    models: dict[str, ModelFolder] = {}
    problems: list[Problem] = []
    tokenizer = model.path / "tokenizer.json"
    known = ModelFacts(with_sizes(model.config), 0, tokenizer if tokenizer.is_file() else None, {}, task=task)
    max_length = _longest(file.recipe, task, model)
    known_labels = file.recipe.task.labels or (model.labels if task.has_labels and model.has_head(task) else ())
    for index, stage in enumerate(file.recipe.stages):
        path = f"stages.{index}.{stage.stage_name()}"
        for name in stage.models():
            try:
                models[name] = with_task_files(find_model(ModelSource(source=name), file.base), task)
            except SourceError as error:
                there = local_path(name, file.base).is_dir()
                problems.append(Problem(path, error.message, suggestion=error.hint if there else f"Correct the name {name}."))
                continue
            positions = models[name].max_positions
            if positions < max_length:
                short = f"{name} has {positions} positions, fewer than the {max_length} tokens that inputs may have."
                hint = f"Set task.max_length to {positions}, or name a teacher with more positions."
                problems.append(Problem(path, short, suggestion=hint))
            if name in stage.starts():
                problems += cell_problems(file.recipe, task, models[name].family)
                continue
            if not models[name].has_head(task):
                hint = "Fine-tune it first, with a recipe of its own, or leave it out."
                why = f"{name} was not fine-tuned for {task.name}: {models[name].head_fault(task)}"
                problems.append(Problem(path, why, suggestion=hint))
            elif known_labels and (fault := label_fault(name, models[name], known_labels)):
                problems.append(Problem(path, fault, suggestion=SAME_LABELS))
        others = {name: with_sizes(models[name].config) for name in stage.models() if name in models}
        before = tuple(earlier.stage_name() for earlier in file.recipe.stages[:index] if earlier.produces == "transformers")
        known = replace(known, max_length=max_length, others=others, before=before)
        found = stage.faults(known)
        problems += [Problem(path, fault) for fault in found]
        known = known if found else stage.after(known)
    return models, problems


def resolve_labels(resolved: ResolvedRecipe, train: PreparedData | None) -> tuple[str, ...]:
    """The recipe's labels, else a fine-tuned model's, else those that a head learns from the training data; none for a task
    whose outputs are no labels."""
    if not resolved.task.has_labels:
        return ()
    if declared := resolved.file.recipe.task.labels:
        return declared
    if resolved.model.has_head(resolved.task) or train is None:
        return resolved.model.labels
    return learned_labels(train)


def calibration_samples(spec: CalibrationSpec | None) -> int:
    """Number of rows for calibration."""
    return int(spec.samples if spec else CalibrationSpec.model_fields["samples"].default)
