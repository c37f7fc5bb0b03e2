"""The inputs of a recipe, checked together before any work: its model, its stages, and the first rows of every data file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgebert.compress.recipe_file import RecipeFile
from edgebert.compress.resolve import ResolvedRecipe, resolve_recipe
from edgebert.data.first_rows import check_first_rows
from edgebert.data.spec import DataSpec
from edgebert.errors import EdgebertError, MissingPackage, Problem, ProblemsError, RecipeError


def checked_recipe(file: RecipeFile) -> ResolvedRecipe:
    """The resolved recipe, whose data files can be used as far as their first rows say.

    Raises:
        RecipeError: several things are wrong; the error contains all of them.
        EdgebertError: one thing is wrong.
    """
    resolved, faults = resolved_with_faults(file)
    if faults:
        raise _together(file, dict(faults))
    return resolved


def resolved_with_faults(file: RecipeFile) -> tuple[ResolvedRecipe, Mapping[str, EdgebertError]]:
    """The resolved recipe, and for each data set that cannot be used, its fault.

    Raises:
        RecipeError: the recipe cannot be resolved, and something else is wrong; the error contains all of it.
        EdgebertError: the recipe cannot be resolved.
    """
    try:
        resolved = resolve_recipe(file)
    except EdgebertError as error:
        raise _together(file, {"model": error, **_data_faults(file, _all_specs(file), ())}) from error
    return resolved, _data_faults(file, resolved.specs, _known_labels(resolved))


def _all_specs(file: RecipeFile) -> dict[str, DataSpec]:
    """Role -> data set, for all that the recipe has."""
    data = file.recipe.data
    return {role: spec for role in type(data).model_fields if (spec := getattr(data, role)) is not None}


def _known_labels(resolved: ResolvedRecipe) -> Sequence[str]:
    """The labels of the model's outputs; empty where training data name them."""
    unknown = resolved.finetunes or not resolved.task.has_labels
    return resolved.file.recipe.task.labels or (() if unknown else resolved.model.labels)


def _data_faults(file: RecipeFile, specs: Mapping[str, DataSpec], labels: Sequence[str]) -> dict[str, EdgebertError]:
    faults: dict[str, EdgebertError] = {}
    task = file.recipe.task.task
    for role, spec in specs.items():
        if spec.path is None:
            continue  # asking the Hub is work
        try:
            check_first_rows(spec, role, base=file.base, task=task, labels=labels)
        except MissingPackage:
            continue  # which a plan has lines for
        except EdgebertError as error:
            path = f"data.{role}"
            error.hint = error.hint and error.hint.replace("data.eval=", f"{path}=")  # a reader knows no role
            faults[path] = error
    return faults


def _together(file: RecipeFile, faults: Mapping[str, EdgebertError]) -> EdgebertError:
    """One error of all faults; a single one as it is."""
    if len(faults) == 1:
        return next(iter(faults.values()))
    problems = [problem for path, error in faults.items() for problem in _problems(file, path, error)]
    return RecipeError(str(file.path), problems)


def _problems(file: RecipeFile, path: str, error: EdgebertError) -> Sequence[Problem]:
    if isinstance(error, ProblemsError):
        return error.problems
    problem = file.placed(Problem(path, error.message, suggestion=error.hint))
    return [replace(problem, path="") if error.message.startswith(path) else problem]
