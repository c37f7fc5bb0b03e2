"""Loads and saves Transformers models: FP32, local files only, safetensors only, no code from the folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.core.packages import quiet_libraries
from edgebert.errors import SourceError
from edgebert.models.families import TOKENIZER_FILES, find_family
from edgebert.models.parts import family_of
from edgebert.tasks.base import Task

TOGETHER = "Use the config.json and the weights that save_pretrained() wrote together."


def auto_class(task: Task) -> Any:
    """The Transformers Auto class for a task, as optimum names it. It also reads pruned folders."""
    from optimum.exporters.tasks import TasksManager

    import edgebert.models.pruned  # noqa: F401 - registers the pruned classes

    return TasksManager.get_model_class_for_task(task.optimum_task)


def load_model(folder: Path, task: Task, labels: Sequence[str] | None = None) -> Any:
    """Loads a Transformers folder as an FP32 torch module in evaluation mode.

    Args:
        labels: labels of a new head, one output each; None for the head in the folder.

    Raises:
        SourceError: the weights do not fit the config, or hold NaN.
    """
    import torch

    options: dict[str, Any] = {} if labels is None else {"num_labels": len(labels)}
    try:
        with quiet_libraries():
            # Eager attention: its graph exports without the NaN guards that SDPA's decomposition brings.
            model, loading = auto_class(task).from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="eager",
                ignore_mismatched_sizes=True,  # reported below, with the name of the tensor
                output_loading_info=True,
                **options,
            )
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # transformers, safetensors and the Hub client have error classes of their own
        first = (str(error).strip().splitlines() or [error.__class__.__name__])[0]
        raise SourceError(f"{folder} cannot be loaded as {task.name}: {first}", hint=TOGETHER) from error
    _require_weights(folder, loading, body=None if labels is None else _body(model))
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise SourceError(
                f"The weights in {folder} hold NaN or infinity, first in {name}.",
                hint="The training that made them diverged; use an earlier checkpoint.",
            )
    if labels is not None:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: index for index, label in enumerate(labels)}
        if type(model).__name__.endswith("ForSequenceClassification"):
            model.config.problem_type = "single_label_classification"
    return model.eval()


def run_model(model: Any, batch: Mapping[str, Any]) -> Any:
    """Outputs of a Transformers model for a batch; it is given those inputs that its family takes.

    Args:
        batch: tensors of shape (batch, length), named as `edgebert.tasks.base.collate` names them; `labels` and others are left
            out. A module of no family is given everything but `labels`.
    """
    family = find_family(getattr(getattr(model, "config", None), "model_type", None))
    taken = family.inputs if family else [name for name in batch if name != "labels"]
    return model(**{name: batch[name] for name in taken if name in batch})


def _body(model: Any) -> tuple[str, str]:
    """What the names of an encoder's embeddings and layers start with; the rest of a model is its pooler and its head."""
    family = family_of(model)
    return f"{family.prefix}.embeddings.", f"{family.prefix}.{family.layers}."


def _require_weights(folder: Path, loading: Mapping[str, Any], *, body: tuple[str, str] | None) -> None:
    """Raises SourceError for weights that Transformers initialised at random.

    Args:
        body: starts of the encoder's tensors if a new head is wanted: the head and the pooler may be missing then.
    """
    faults = {name: f"{name} is missing" for name in loading["missing_keys"]}
    for name, shape, wanted in loading["mismatched_keys"]:
        faults[name] = f"{name} has the shape {tuple(shape)}, but config.json asks for {tuple(wanted)}"
    needed = [name for name in sorted(faults) if body is None or name.startswith(body)]
    if needed:
        raise SourceError(
            f"The weights in {folder} do not fit its config.json: {faults[needed[0]]}.",
            hint=TOGETHER,
        )


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer's files from one model folder to another."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def save_model(model: Any, folder: Path) -> None:
    """Writes config.json and model.safetensors."""
    with quiet_libraries():
        model.save_pretrained(folder)
