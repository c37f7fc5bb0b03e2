"""Loads and saves Transformers models: FP32, local files only, safetensors only, no code from the folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.core.packages import quiet_libraries
from edgebert.errors import SourceError
from edgebert.models.architecture import architecture_config
from edgebert.models.families import TOKENIZER_FILES, find_family
from edgebert.models.families.base import Family
from edgebert.models.parts import family_of, inputs_of
from edgebert.models.tensors import TOGETHER, misfit, plain_name, unexpected, unread
from edgebert.tasks.base import Task


def auto_class(task: Task) -> Any:
    """The Transformers Auto class for a task, as optimum names it. It also reads pruned folders."""
    from optimum.exporters.tasks import TasksManager

    import edgebert.models.pruned  # noqa: F401 - registers the pruned classes

    return TasksManager.get_model_class_for_task(task.optimum_task)


def load_model(folder: Path, task: Task, labels: Sequence[str] | None = None) -> Any:
    """Loads a Transformers folder as an FP32 torch module in evaluation mode, whatever config.json says of calls.

    Args:
        labels: labels of a new head, one output each; None for the head in the folder.

    Raises:
        SourceError: the weights do not fit the config, or hold NaN.
    """
    if labels is not None and not task.has_labels:
        labels = tuple(f"LABEL_{index}" for index in range(task.head_rows)) or None
    try:
        # Eager attention: its graph exports without the NaN guards that SDPA's decomposition brings.
        model = open_folder(folder, auto_class(task), labels, attention="eager", pooler=not task.pools)
        model = _pooled(model, folder, task) if task.pools else model
    except (ImportError, MemoryError, SourceError):
        raise
    except Exception as error:  # transformers, safetensors and the Hub client have error classes of their own
        raise SourceError(f"{folder} cannot be loaded as {task.name}: {_reason(error)}", hint=TOGETHER) from error
    _require_finite(folder, model)
    if task.problem_type and labels is not None:
        model.config.problem_type = task.problem_type
    return model.eval()


def open_folder(
    folder: Path, auto: Any, labels: Sequence[str] | None = None, *, attention: str | None = None, pooler: bool = True
) -> Any:
    """Opens a Transformers folder in FP32 with an Auto class, with every weight that its config asks for, and no other.

    Args:
        labels: as in `load_model`.
        attention: Transformers' name of the way in which attention is computed; None for its own choice.
        pooler: whether an encoder without a head gets the pooler that its family has, drawn at random where there is none.

    Raises:
        SourceError: a weight is missing, left over or of another shape.
        Exception: the folder cannot be opened; several libraries have several classes for that.
    """
    import torch

    config = architecture_config(folder, labels)
    options = {} if pooler else _without_pooler(config)
    with quiet_libraries():
        model, loading = auto.from_pretrained(
            folder,
            config=config,
            **options,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention,
            ignore_mismatched_sizes=True,  # reported below, with the name of the tensor
            output_loading_info=True,
        )
    headless = labels is not None or model is getattr(model, "base_model", None)
    _require_weights(folder, loading, family_of(model), body=_body(model) if headless else None)
    return model


def _pooled(model: Any, folder: Path, task: Task) -> Any:
    from edgebert.models.sentence_model import pooled_model

    return pooled_model(model, folder, task)


def _without_pooler(config: Any) -> Mapping[str, Any]:
    from edgebert.models.sentence_model import without_pooler

    return without_pooler(config)


def _reason(error: Exception) -> str:
    """The first lines of an error; a config's say in the second what is wrong with the value that the first names."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [error.__class__.__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _require_finite(folder: Path, model: Any) -> None:
    import torch

    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise SourceError(
                f"The weights in {folder} hold NaN or infinity, first in {name}.",
                hint="The training that made them diverged; use an earlier checkpoint.",
            )


def run_model(model: Any, batch: Mapping[str, Any]) -> Any:
    """Outputs of a Transformers model for a batch; it is given those inputs that its family takes.

    Args:
        batch: tensors of shape (batch, length), named as `edgebert.tasks.base.collate` names them; `labels` and others are left
            out. A module of no family is given everything but `labels`.
    """
    family = find_family(getattr(getattr(model, "config", None), "model_type", None))
    taken = inputs_of(model) if family else [name for name in batch if name != "labels"]
    return model(**{name: batch[name] for name in taken if name in batch})


def _body(model: Any) -> tuple[str, str]:
    """What the plain names of an encoder's embeddings and layers start with; the rest of a model is its pooler and its head."""
    return "embeddings.", f"{family_of(model).layers}."


def _require_weights(folder: Path, loading: Mapping[str, Any], family: Family, *, body: tuple[str, str] | None) -> None:
    """Raises SourceError for weights that Transformers initialised at random or left out.

    Args:
        body: starts of the encoder's tensors if a new head is wanted, or none: the head and the pooler may be missing then.
    """
    faults = {name: f"{name} is missing" for name in loading["missing_keys"]}
    for name, shape, wanted in loading["mismatched_keys"]:
        faults[name] = f"{name} has the shape {tuple(shape)}, but config.json asks for {tuple(wanted)}"
    needed = [name for name in sorted(faults) if body is None or plain_name(name, family).startswith(body)]
    if needed:
        raise misfit(folder, faults[needed[0]])
    left = [name for name in sorted(loading["unexpected_keys"]) if not _may_be_left(plain_name(name, family), family, body)]
    if left:
        raise unexpected(folder, left[0])


def _may_be_left(name: str, family: Family, body: tuple[str, str] | None) -> bool:
    """Whether a tensor may stay unread: of another head, or of any head where there is to be a new one, or none."""
    return unread(name, family) or (body is not None and not name.startswith(body))


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer's files from one model folder to another."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def save_model(model: Any, folder: Path) -> None:
    """Writes config.json and model.safetensors."""
    with quiet_libraries():
        model.save_pretrained(folder)
