"""Students: what of a described student cannot work with its teacher, and the student itself, loaded, cut and given a head."""

from __future__ import annotations

from typing import Any

from edgebert.core.store import Artifact
from edgebert.errors import StageError
from edgebert.models.families import family_of_config
from edgebert.stages.base import ModelFacts, RunContext
from edgebert.stages.distill.pooled import same_pieces
from edgebert.stages.distill.student import Student, build
from edgebert.tasks.base import Task

OF_WORDS = "tags"
"""Kind of prediction of a task whose tokens belong to words, by which two tokenizers' tokens correspond."""


def student_faults(student: Student, relations: float, model: ModelFacts) -> list[str]:
    """Messages about a student that cannot be built, or that cannot learn from the recipe's model.

    Args:
        relations: weight of the relations among tokens.
        model: the facts of the recipe's model, as the stages before left it.
    """
    theirs = model.config
    if student.folder is not None and student.folder not in model.others:
        return []  # it was not found, which is a problem of its own
    ours = model.others.get(student.folder or "", theirs)
    kinds = family_of_config(ours).vocabulary, family_of_config(theirs).vocabulary
    apart = _apart(model.task, relations) if kinds[0] != kinds[1] else None
    return student.faults(ours) + ([f"{apart}: the student's is {kinds[0]}, the teacher's {kinds[1]}"] if apart else [])


def _apart(task: Task | None, relations: float) -> str | None:
    """What cannot be learned between two tokenizers; None where all can."""
    if task is not None and task.of_tokens and task.prediction != OF_WORDS:
        return f"a student for {task.name} needs its teacher's tokens, for its outputs are those of tokens"
    return "`relations` compares tokens, and needs student and teacher to have the same" if relations else None


def differ(start: Artifact, teacher: Artifact, relations: float, context: RunContext) -> bool:
    """Whether a student with a tokenizer of its own has other tokens than its first teacher.

    Args:
        start: the model that the student is built from.
        relations: weight of the relations among tokens.

    Raises:
        StageError: it has, and what it is to learn compares tokens.
    """
    if same_pieces(context.serving(start).tokenizer, context.serving(teacher).tokenizer):
        return False
    if reason := _apart(context.task, relations):
        hint = "Write `relations: 0`, or name a student with the teacher's tokenizer."
        raise StageError(f"distill: {reason}; the student's tokenizer is another.", hint=hint)
    return True


def built(student: Student, start: Artifact, source: Artifact, context: RunContext) -> Any:
    """The student before its first step, with a head for the task: the model's own, or a new one that the seed draws.

    Args:
        start: the model whose weights it has.
        source: the model as the stages before left it.
    """
    from accelerate.utils import set_seed

    from edgebert.models.folder import inspect_model
    from edgebert.models.load import load_model

    folder = inspect_model(start.path)
    known = folder.labels == context.labels or not context.task.has_labels
    headed = start is source or (folder.has_head(context.task) and known)
    set_seed(context.seed)  # draws the weights of a new head
    return build(student, load_model(start.path, context.task, None if headed else context.labels))
