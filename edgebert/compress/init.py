"""init: writes a recipe for a model folder, with the task, labels and lengths of the model's own files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from edgebert.core.files import write_whole
from edgebert.errors import InputError, SourceError
from edgebert.models.folder import ModelFolder, inspect_model
from edgebert.tasks import TASKS
from edgebert.tasks.base import Task

DEFAULT_LENGTH = 128


def recipe_text(model: Path, *, out: Path, train: Path | None = None, evaluation: Path | None = None) -> str:
    """A commented recipe for the model, valid as soon as the data files exist.

    Raises:
        SourceError: the folder is not a model that edgebert can use.
    """
    folder = inspect_model(model)
    task = task_of(folder)
    tuned = folder.has_head(task)
    base = out.absolute().parent
    lines = [
        f"# edgebert compress {out.name}",
        "# yaml-language-server: $schema=recipe.schema.json   (write it with: edgebert schema > recipe.schema.json)",
        f"model: {_quoted(_relative(model, base))}",
        *_task_lines(folder, task, tuned),
        "data:",
        *_data_lines(
            task,
            "train",
            train,
            base,
            "the search chooses on a tenth of it, and calibrates on 128 rows"
            if tuned
            else "finetune trains on it, the search chooses on a tenth",
        ),
        *_data_lines(task, "eval", evaluation, base, "decides the gates, once; never trained or calibrated on"),
        "stages:",
        *([] if tuned else ["  - finetune: {epochs: 3, learning_rate: 5.0e-5}"]),
        "  - export",
        "  - quantize: {method: auto}   # searches for minutes; [dynamic, static, nncf] makes those candidates alone",
        "targets:",
        "  - {runtime: onnxruntime, threads: 1}",
        "  - {runtime: openvino, threads: 1}",
        "gates:",
        f"  - {{metric: {task.metrics[0].name}, min_ratio: 0.99}}   # of FP32 on the same runtime",
        "  - {metric: speedup, min: 1.5}",
        "seed: 0",
    ]
    return "\n".join(lines) + "\n"


def task_of(folder: ModelFolder) -> Task:
    """The task that the model was fine-tuned for, by its architecture; the first task for a plain encoder.

    Raises:
        SourceError: the model was fine-tuned for a task that edgebert does not have.
    """
    names = folder.config.get("architectures") or [""]
    for task in TASKS:
        if str(names[0]).endswith(task.architecture):
            if (other := folder.task_fault(task)) is not None:
                raise SourceError(
                    f"{folder.path}: {other}", hint="Name a model with two labels or more, one of which is right."
                )
            return task
    if "For" in str(names[0]) and not str(names[0]).endswith(("ForMaskedLM", "ForPreTraining")):
        known = ", ".join(task.name for task in TASKS)
        raise SourceError(f"{folder.path} is a {names[0]}; the tasks so far are {known}.")
    return TASKS[0]


def write_recipe(text: str, out: Path, *, force: bool) -> None:
    """Writes the recipe, whole or not at all.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    if out.exists() and not force:
        raise InputError(f"{out} exists.", hint="Name another file with --out, or overwrite it with --force.")
    if not out.parent.is_dir():  # a misspelt folder is not made into one
        raise InputError(
            f"{out} cannot be written: there is no folder {out.parent}.", hint="Make it, or name another with --out."
        )
    write_whole(out, text)


def _task_lines(folder: ModelFolder, task: Task, tuned: bool) -> Sequence[str]:
    length = min(folder.max_length(), DEFAULT_LENGTH)
    lines = ["task:", f"  name: {task.name}"]
    if tuned:
        lines.append(f"  labels: {json.dumps(list(folder.labels), ensure_ascii=False)}   # in the order of the model's outputs")
    return [*lines, f"  max_length: {length}   # tokens; the model allows {folder.max_positions}"]


def _data_lines(task: Task, role: str, path: Path | None, base: Path, comment: str) -> list[str]:
    shown = _quoted(_relative(path, base)) if path else f"{role}.csv"
    todo = "" if path else f"   # EDIT: your file ({FILES[task.columns[0].kind]})"
    named = ", ".join(f"{column.name}: {column.name}" for column in task.columns if column.required or column.is_label)
    extra = [column.name for column in task.columns if column.kind == "text" and not column.required]
    more = f"; there may be {' and '.join(extra)}, too" if extra else ""
    return [
        f"  {role}:   # {comment}",
        f"    path: {shown}{todo}",
        f"    columns: {{{named}}}   # left the task's, right the file's{more}",
    ]


FILES = {"text": "csv, tsv, jsonl, parquet", "words": "conll, jsonl, parquet"}
"""Kind of a task's first column -> formats of files that hold it."""


def _relative(path: Path, base: Path) -> str:
    relative = os.path.relpath(path.absolute(), base)
    return relative if relative.startswith(".") else f"./{relative}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in " #:'\"{}[]&*!|>%@`") else text
