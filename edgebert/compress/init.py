"""init: writes a recipe for a model, with the task of its own files, and with columns, labels and lengths of the data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgebert.compress.proposal import SHARE, Proposal, propose, proposed_labels, proposed_length
from edgebert.core.files import write_whole
from edgebert.errors import DataError, EdgebertError, InputError, SourceError
from edgebert.models.folder import ModelFolder
from edgebert.models.sentence_folder import is_sentence_folder
from edgebert.models.source import ModelSource, find_model, is_local
from edgebert.tasks import TASKS
from edgebert.tasks.base import Task

DEFAULT_LENGTH = 128
MULTILINGUAL = 100_000
"""Tokens from which on a vocabulary is one of many languages; those of one language have 20,000 to 60,000."""
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")
YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
HINT = "Name a folder that save_pretrained() wrote, package://module/path, or a model on the Hub."
PURPOSE = {
    "eval": "decides the gates, once; never trained or calibrated on",
    "tuned": "the search chooses on a tenth of it, and calibrates on 128 rows",
    "train": "finetune trains on it, the search chooses on a tenth",
}
"""Role of a data set, `tuned` for train of a model with a head -> what it is for."""


def recipe_text(model: str | Path, *, out: Path, train: Path | None = None, evaluation: Path | None = None) -> str:
    """A commented recipe for the model, valid as soon as the data files exist.

    Args:
        model: a folder, `package://module/path`, or a name on the Hub.
        out: the recipe's file, from which its paths count.
        train: training data, which propose columns, labels and the longest input.
        evaluation: labelled data that decide the gates.

    Raises:
        SourceError, EnvironmentFault: the model cannot be found, or is none that edgebert can use.
        DataError: a data file does not exist, or its rows cannot be used.
    """
    given = {role: path for role, path in (("train", train), ("eval", evaluation)) if path}
    _require_files(given)
    folder = _find(str(model))
    task = task_of(folder)
    tuned = folder.has_head(task)
    base = out.absolute().parent
    data = {role: propose(path.absolute(), role, task) for role, path in given.items()}
    purpose = {**PURPOSE, "train": PURPOSE["tuned" if tuned else "train"]}
    lines = [
        f"# edgebert compress {out.name}",
        "# yaml-language-server: $schema=recipe.schema.json   (write it with: edgebert schema > recipe.schema.json)",
        f"model: {_model_value(str(model), folder, base)}{_origin(folder)}",
        *_task_lines(folder, task, tuned, data, given),
        "data:",
        *(
            line
            for role in ("train", "eval")
            for line in _data_lines(task, role, given.get(role), data.get(role), base, purpose[role])
        ),
        "stages:",
        *([] if tuned else ["  - finetune: {epochs: 3, learning_rate: 5.0e-5}"]),
        *_languages_lines(folder),
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


def _languages_lines(folder: ModelFolder) -> list[str]:
    """How to cut the vocabulary of a model of many languages to a few, as a comment."""
    rows = folder.config.get("vocab_size")
    if not isinstance(rows, int) or rows < MULTILINGUAL or "tokens" not in folder.family.prunes:
        return []
    cut = "# - prune: {vocabulary: {languages: [en, de]}}"
    return [f"  {cut}   # {rows:,} tokens are those of many languages; this keeps yours, and what your texts use"]


def _find(model: str) -> ModelFolder:
    try:
        return find_model(ModelSource(source=model), Path.cwd())
    except EdgebertError as error:
        error.hint = HINT if "--set" in (error.hint or "") else error.hint  # there is no recipe yet
        raise


def _require_files(given: Mapping[str, Path]) -> None:
    """Raises DataError where data files do not exist, or are one and the same."""
    if absent := [str(path) for path in given.values() if not path.exists()]:
        hint = "Name files with rows after --train and --eval, or leave the options out and write the paths into the recipe."
        raise DataError(f"There is no data file {' and no '.join(absent)}.", hint=hint)
    if len(given) == 2 and given["train"].resolve() == given["eval"].resolve():
        raise DataError("--train and --eval name the same file.", hint="A model is judged on rows that it was not trained on.")


def _model_value(model: str, folder: ModelFolder, base: Path) -> str:
    """The recipe's `model`: a path from the recipe, an address in a package, or a Hub name with the commit that was found."""
    if model.startswith("package://"):
        return model
    if is_local(model, Path.cwd()):
        return _quoted(_relative(folder.path, base))
    revision = folder.origin.get("revision")
    return f"{{source: {model}, revision: {revision}}}" if revision else model


def _origin(folder: ModelFolder) -> str:
    """A comment on weights that are no safetensors."""
    return f"   # {folder.tensorflow.title}, read without TensorFlow" if folder.tensorflow else ""


def task_of(folder: ModelFolder) -> Task:
    """The task that the model was fine-tuned for, by its architecture; the first task for a plain encoder.

    Raises:
        SourceError: the model was fine-tuned for a task that edgebert does not have.
    """
    names = folder.config.get("architectures") or [""]
    for task in TASKS:
        if (task.pools and not is_sentence_folder(folder.path)) or task.architecture == "ForMaskedLM":
            continue  # a plain encoder may become anything, and a masked language model is one
        if str(names[0]).endswith(task.architecture) and folder.task_fault(task) is None:
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


def _task_lines(
    folder: ModelFolder, task: Task, tuned: bool, data: Mapping[str, Proposal], given: Mapping[str, Path]
) -> Sequence[str]:
    role = next((role for role in ("train", "eval") if role in data and data[role].found), None)
    found = data[role].found if role else None
    labels = folder.labels if tuned else proposed_labels(found) if found and role == "train" else ()
    lines = ["task:", f"  name: {task.name}"]
    if labels:
        whose = "in the order of the model's outputs" if tuned else f"of {given['train'].name}; finetune gives each an output"
        lines.append(f"  labels: {json.dumps(list(labels), ensure_ascii=False)}   # {whose}")
    length = proposed_length(found, folder, task, labels) if found else None
    allowed = f"the model allows {folder.max_positions}"
    if length and role:
        return [*lines, f"  max_length: {length}   # tokens: {SHARE:.0%} of {given[role].name} have no more; {allowed}"]
    return [*lines, f"  max_length: {min(folder.max_length(), DEFAULT_LENGTH)}   # tokens; {allowed}"]


def _data_lines(task: Task, role: str, path: Path | None, proposal: Proposal | None, base: Path, comment: str) -> list[str]:
    shown = _quoted(_relative(path, base)) if path else f"{role}.csv"
    todo = "" if path else f"   # EDIT: your file ({FILES[task.columns[0].kind]})"
    columns = proposal.columns if proposal else {}
    wanted = {column.name: column.name for column in task.columns if column.required or column.is_label}
    alternatives = {column.or_else for column in task.columns if column.name in wanted and column.name not in columns}
    named = {**wanted, **columns} if not alternatives & {*columns} else columns
    listed = ", ".join(f"{name}: {_quoted(source)}" for name, source in named.items())
    return [
        f"  {role}:   # {comment}",
        f"    path: {shown}{todo}",
        f"    columns: {{{listed}}}   # {_remark(task, proposal)}",
    ]


def _remark(task: Task, proposal: Proposal | None) -> str:
    """What to know of the columns: which have to be named, which were guessed, which there may be."""
    if proposal and proposal.absent:
        return f"EDIT: {' and '.join(proposal.absent)}; the file has {', '.join(proposal.present)}"
    if proposal and proposal.guessed:
        return f"left the task's, right the file's; guessed from the rows: {' and '.join(proposal.guessed)}"
    extra = [] if proposal else [column.name for column in task.columns if column.kind == "text" and not column.required]
    return "left the task's, right the file's" + (f"; there may be {' and '.join(extra)}, too" if extra else "")


FILES = {"text": "csv, tsv, jsonl, parquet", "words": "conll, jsonl, parquet"}
"""Kind of a task's first column -> formats of files that hold it."""


def _relative(path: Path, base: Path) -> str:
    relative = os.path.relpath(path.absolute(), base)
    return relative if relative.startswith(".") else f"./{relative}"


def _quoted(text: str) -> str:
    """The text as YAML reads it back: as it is, or in quotes where it would be a number, a truth value or a mark."""
    plain = PLAIN.fullmatch(text) and text.lower() not in YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
