"""Reads a recipe from YAML, with overrides of the command line. All problems are reported together, each with its path, its
line and the nearest valid name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgebert.compress.recipe import Recipe, normalise
from edgebert.core.files import local_path, shipped_folder
from edgebert.core.yaml_file import (
    Kind,
    Path_,
    YamlDocument,
    line_of,
    model_of,
    nearest,
    parse_yaml,
    problems_of,
    read_text,
    without_repeats,
)
from edgebert.errors import InputError, Problem, RecipeError
from edgebert.stages import STAGES
from edgebert.stages.distill.settings import OWN_TEACHERS

RECIPE = Kind("a recipe", RecipeError, "compress")
FILE_KEYS = ("path", "source", "model", "train", "transfer", "eval", "select", "calibration")
"""Keys below `model` and `data` whose value is a file or folder."""
STAGE_NAMES = tuple(stage.stage_name() for stage in STAGES)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe and the file that it was read from."""

    recipe: Recipe
    path: Path
    lines: Mapping[Path_, int] = field(default_factory=dict)
    """Path of each part of the recipe -> its line."""

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def base(self) -> Path:
        """The folder that paths in the recipe are relative to."""
        return self.path.parent

    def placed(self, problem: Problem) -> Problem:
        """The problem with the line of its path."""
        path: Path_ = tuple(int(part) if part.isdecimal() else part for part in problem.path.split("."))
        return replace(problem, line=line_of(self.lines, path))


def find_recipe(name: str) -> Path:
    """The file of that name, or the recipe of that name that ships with edgebert.

    Raises:
        InputError: neither exists.
    """
    path = Path(name)
    local_path(name, Path.cwd())  # raises where the system does not allow such a name
    if path.exists() and not path.is_dir():
        return path.absolute()
    shipped = {file.stem: file for file in sorted(shipped_folder("recipes").glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    if name and path.is_dir():
        raise InputError(f"{name} is a folder, not a recipe.", hint=f"Write a recipe for it with: edgebert init {name}")
    known = ", ".join(sorted(shipped)) or "none"
    raise InputError(f"No recipe {name or repr(name)}.", hint=f"Name a YAML file, or one of the shipped recipes: {known}.")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> RecipeFile:
    """Reads, overrides and validates a recipe.

    Args:
        name: a YAML file, or the name of a shipped recipe.
        overrides: `path=value` entries of `--set`, which replace values of the file.

    Raises:
        RecipeError: the recipe has problems; the error contains all of them.
        InputError: there is no such file.
    """
    path = find_recipe(name)
    return _overridden(parse_yaml(read_text(path, RECIPE), name, RECIPE), name, path, overrides)


def load_content(content: dict[str, Any], overrides: Sequence[str] = ()) -> RecipeFile:
    """Overrides and validates a recipe that is no file; its name is `recipe`, and its paths count from the working folder.

    Raises:
        RecipeError: the recipe has problems; the error contains all of them.
    """
    return _overridden(YamlDocument(content), "the recipe", Path.cwd() / "recipe.yaml", overrides)


def _overridden(document: YamlDocument, name: str, path: Path, overrides: Sequence[str]) -> RecipeFile:
    if not isinstance(document.value, dict):
        hint = "Start from one with: edgebert init MODEL_DIR"
        raise RecipeError(name, [Problem("", "a recipe is a mapping with model, task, data and stages.", 1, hint)])
    problems = [problem for text in overrides if (problem := apply_override(document, text))]
    if problems:
        raise RecipeError("--set", problems)
    return RecipeFile(validate(document, name), path, document.lines)


def apply_override(document: YamlDocument, text: str) -> Problem | None:
    """Sets one `path=value` in the document, and returns the problem where it cannot.

    The value is YAML. A path contains a stage by its name, or by its index where the recipe has it twice.
    """
    path_text, separator, value_text = text.partition("=")
    if not separator or not path_text.strip():
        return Problem(text, "an override is path=value, for example stages.quantize.method=static")
    try:
        value = parse_yaml(value_text, f"--set {text}", RECIPE).value
    except RecipeError as error:
        return Problem(path_text, error.problems[0].message)
    keys = path_text.strip().split(".")
    try:
        _assign(document.value, keys, _from_here(keys, value))
    except LookupError as error:
        return Problem(path_text, str(error.args[0]))
    return None


def _from_here(keys: Sequence[str], value: Any) -> Any:
    """The value with its paths made absolute: on the command line they are relative to the working directory."""
    if isinstance(value, dict):
        return {key: _from_here([*keys, key], inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_from_here([*keys, str(index)], inner) for index, inner in enumerate(value)]
    if isinstance(value, str) and "://" not in value and _may_name_a_file(keys, value):
        here = local_path(value, Path.cwd())
        if here.exists() or keys[0] == "data" or value.startswith((".", "~")):
            return str(here)
    return value


def _may_name_a_file(keys: Sequence[str], value: str) -> bool:
    if keys[0] == "stages":
        return "teachers" in keys[-2:] and value not in OWN_TEACHERS  # one teacher, or one of a list
    return keys[0] in ("model", "data") and keys[-1] in FILE_KEYS


def _assign(node: Any, keys: Sequence[str], value: Any) -> None:
    """Sets a value deep in the document. `stages.quantize.x`, `stages.2.quantize.x` and `stages.2.x` mean the same."""
    key, *rest = keys
    if isinstance(node, list):
        index = _index_of(node, key)
        if key.isdecimal() and not rest:
            node[index] = value
            return
        entry = node[index] = _written_out(node[index])
        inner = rest if key.isdecimal() else keys
        if _is_stage(entry) and inner[0] not in entry:
            inner = [next(iter(entry)), *inner]
        _assign(entry, inner, value)
        return
    if not isinstance(node, dict):
        raise LookupError(f"nothing below it can be set: {key} stands under a plain value")
    if not rest:
        node[key] = value
        return
    if isinstance(node.get(key), str) and key in ("model", "task", "train", "eval", "select", "calibration"):
        node[key] = {{"model": "source", "task": "name"}.get(key, "path"): node[key]}
    if node.get(key) is None:
        node[key] = {}
    _assign(node[key], rest, value)


def _is_stage(entry: Any) -> bool:
    return isinstance(entry, dict) and len(entry) == 1 and next(iter(entry)) in STAGE_NAMES


def _written_out(entry: Any) -> Any:
    """A stage given as its name alone, as a mapping to which parameters can be added."""
    if isinstance(entry, str):
        return {entry: {}}
    return {name: {} if value is None else value for name, value in entry.items()} if _is_stage(entry) else entry


def _index_of(entries: list[Any], key: str) -> int:
    if key.lstrip("-").isdecimal():
        if 0 <= int(key) < len(entries):
            return int(key)
        raise LookupError(f"there is no entry {key}; the list has {len(entries)}, counted from 0")
    indices = [index for index, entry in enumerate(entries) if entry == key or (isinstance(entry, dict) and key in entry)]
    if len(indices) == 1:
        return indices[0]
    if indices:
        listed = ", ".join(map(str, indices))
        raise LookupError(f"{key} stands in the list {len(indices)} times; say which by its place: {listed}")
    raise LookupError(f"the recipe has no {key} in this list")


def validate(document: YamlDocument, source: str) -> Recipe:
    """Validates plain values as a Recipe.

    Raises:
        RecipeError: the recipe has problems; the error contains all of them.
    """
    misshapen = list(_stage_problems(document))
    problems = [problem for _, problem in misshapen]
    normal = normalise(document.value)
    for index in {index for index, _ in misshapen}:  # pydantic would report these stages a second time
        normal["stages"][index] = {"stage": "export"}
    try:
        # JSON, because strict Python mode would refuse a list where a tuple is declared.
        recipe = Recipe.model_validate_json(json.dumps(normal))
    except ValidationError as error:
        problems += problems_of(document, error, _fields_at)
    if problems:
        raise RecipeError(source, without_repeats(problems))
    return recipe


def _stage_problems(document: YamlDocument) -> Iterator[tuple[int, Problem]]:
    """Index and problem of each stage whose form is wrong, with a clearer message than that of a failed union."""
    stages = document.value.get("stages") if isinstance(document.value, dict) else None
    for index, entry in enumerate(stages if isinstance(stages, list) else []):
        path = f"stages.{index}"
        line = document.line(("stages", index))
        if isinstance(entry, str):
            names = [entry]
        elif isinstance(entry, dict) and entry:
            names = list(entry)
        else:
            yield index, Problem(path, "a stage is its name, or `name: {parameters}`", line)
            continue
        if len(names) > 1:
            listed = ", ".join(names)
            hint = f"Indent its parameters below `{names[0]}:`, or start a new list entry with `-`."
            yield index, Problem(path, f"one entry holds one stage, this one has {listed}.", line, hint)
        elif names[0] not in STAGE_NAMES:
            yield index, Problem(path, f"there is no stage `{names[0]}`.", line, nearest(names[0], STAGE_NAMES))
        elif isinstance(entry, dict) and not isinstance(entry[names[0]], dict | None):
            yield index, Problem(f"{path}.{names[0]}", "its parameters are a mapping, such as {method: static}", line)


def _fields_at(path: Path_) -> list[str]:
    """Names of the fields that may stand at a path of the recipe."""
    model: Any = Recipe
    for key in path:
        if isinstance(key, int):
            continue
        stage = next((stage for stage in STAGES if stage.stage_name() == key), None)
        model = stage or model_of(model.model_fields[key].annotation if key in model.model_fields else None)
        if model is None:
            return []
    names = model.field_names() if hasattr(model, "field_names") else model.model_fields
    return [name for name in names if name != "stage"]
