"""Cells of the grid task x family x runtime: each goes through the whole chain, or is refused with its reason first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.compress.recipe import Recipe
from edgebert.errors import Problem
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.base import Runtime
from edgebert.tasks import TASKS
from edgebert.tasks.base import Task


@dataclass(frozen=True)
class Cell:
    """Models of a family, for a task, on a runtime."""

    task: Task
    family: Family
    runtime: Runtime

    @property
    def obstacle(self) -> str | None:
        """Why the cell is refused; None where it works."""
        family, ending = self.family, self.task.architecture
        missing = f"Transformers has no {family.class_name}{ending}" if ending in family.classless else None
        return family.refuses.get(self.task.name) or missing or self.runtime.refuses(self.task.name, family.model_type)


def cells() -> list[Cell]:
    """All cells, in the order of the tuples."""
    return [Cell(task, family, runtime) for task in TASKS for family in FAMILIES for runtime in RUNTIMES]


def cell_problems(recipe: Recipe, task: Task, family: Family) -> Sequence[Problem]:
    """The targets of a recipe whose cell is refused, each with its reason."""
    found = [(index, Cell(task, family, get_runtime(target.runtime))) for index, target in enumerate(recipe.targets)]
    return [
        Problem(
            f"targets.{index}.runtime", f"{family.title} for {task.name} does not go to {cell.runtime.title}: {cell.obstacle}"
        )
        for index, cell in found
        if cell.obstacle
    ]
