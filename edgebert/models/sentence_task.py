"""The task `embedding` as a model folder describes it: what a recipe leaves open is filled in, what it contradicts refused."""

from __future__ import annotations

from dataclasses import replace

from edgebert.errors import SourceError
from edgebert.models.families import family_of_config
from edgebert.models.folder import ModelFolder
from edgebert.models.sentence_folder import MODULES, SentenceFolder, is_sentence_folder, read_sentence_folder
from edgebert.tasks.base import Task
from edgebert.tasks.embedding import Embedding


def with_task_files(model: ModelFolder, task: Task) -> ModelFolder:
    """The model with the files that a task reads beside its weights.

    Raises:
        SourceError: one of them cannot be used.
    """
    if not task.pools or not is_sentence_folder(model.path):
        return model
    return replace(model, more_files=read_sentence_folder(model.path).files)


def as_described(task: Task, model: ModelFolder) -> Task:
    """The task, with the options that its model's folder decides.

    Raises:
        SourceError: the folder cannot be used, or says something else than the recipe.
    """
    if not isinstance(task, Embedding):
        return task
    said = read_sentence_folder(model.path) if is_sentence_folder(model.path) else SentenceFolder("mean", True)
    own = task.options
    if model.more_files:
        for name, ours, theirs in (("pooling", own.pooling, said.pooling), ("normalize", own.normalize, said.normalize)):
            if ours not in (None, theirs):
                raise SourceError(
                    f"The task's {name} is {_shown(ours)}, and the model was made with {_shown(theirs)} "
                    f"({model.path / MODULES}).",
                    hint=f"Leave {name} out; a model answers only as it was trained.",
                )
    described = own.model_copy(
        update={
            "pooling": own.pooling or said.pooling,
            "normalize": said.normalize if own.normalize is None else own.normalize,
            "prompts": said.prompts if own.prompts is None else own.prompts,
            "prompt": said.prompt if own.prompt is None and own.prompts is None else own.prompt,
        }
    )
    if described.prompt is not None and described.prompt not in (described.prompts or {}):
        raise SourceError(
            f"The model has no prompt {described.prompt!r}; it has {', '.join(described.prompts or {}) or 'none'}.",
            hint="Write it out: task.prompts: {name: text}",
        )
    if described.vectors == "binary":
        _require_whole_bytes(min(width := _width(model, said), described.dimensions or width))
    return task.configured(described)


def _width(model: ModelFolder, said: SentenceFolder) -> int:
    """Numbers of a vector of the model."""
    return said.dense[-1].outputs if said.dense else int(family_of_config(model.config).with_sizes(model.config)["hidden_size"])


def _require_whole_bytes(width: int) -> None:
    """Raises SourceError where signs of so many numbers do not fill their last byte."""
    if width % 8:
        hint = f"Keep fewer: task.dimensions: {width // 8 * 8}" if width > 8 else "Take int8."
        raise SourceError(
            f"The model's vectors have {width} numbers; binary vectors are whole bytes of 8 numbers each.", hint=hint
        )


def longest_text(model: ModelFolder, task: Task) -> int:
    """Longest input in tokens that the model allows, and for vectors, that it was made for."""
    said = read_sentence_folder(model.path).max_length if task.pools and is_sentence_folder(model.path) else None
    return min(model.max_length(), said or model.max_length())


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
