"""Loads and saves Transformers models for the stages: FP32, local files only, safetensors only, no code from the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.quiet import quiet_libraries
from edgebert.tasks.base import Task


def auto_class(task: Task) -> Any:
    """The Auto class of a task, by optimum's vocabulary of tasks."""
    from optimum.exporters.tasks import TasksManager

    return TasksManager.get_model_class_for_task(task.optimum_task)


def load_model(folder: Path, task: Task, labels: Sequence[str] | None = None) -> Any:
    """A Transformers folder as an FP32 torch module in evaluation mode.

    Args:
        labels: given when a new head is wanted; the head then has this many outputs.

    Raises:
        SourceError: the weights do not fit the config, or hold NaN.
    """
    import torch

    options: dict[str, Any] = {}
    if labels is not None:
        options = {"num_labels": len(labels), "ignore_mismatched_sizes": True}
    try:
        with quiet_libraries():
            # Eager attention: its graph exports without the NaN guards that SDPA's decomposition brings.
            model = auto_class(task).from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="eager",
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise SourceError(f"{folder} cannot be loaded as {task.name}: {str(error).splitlines()[0]}") from error
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise SourceError(
                f"The weights in {folder} hold NaN or infinity, first in {name}.",
                hint="The training that made them diverged; use an earlier checkpoint.",
            )
    if labels is not None:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: index for index, label in enumerate(labels)}
        model.config.problem_type = "single_label_classification"
    return model.eval()


def save_model(model: Any, folder: Path) -> None:
    """Writes config.json and model.safetensors."""
    with quiet_libraries():
        model.save_pretrained(folder)
