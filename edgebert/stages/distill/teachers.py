"""Teachers: resolves the names in a recipe to models, loads them, and computes their outputs once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebert.core.store import Artifact, Draft
from edgebert.errors import StageError
from edgebert.models.load import load_model
from edgebert.stages.base import RunContext
from edgebert.stages.distill.losses import pairing
from edgebert.stages.distill.settings import ASSISTANT, TEACHER, Objective
from edgebert.stages.distill.teacher_outputs import RequestedOutputs, Teacher, identity, write_outputs
from edgebert.stages.examples import Examples

VERSION = 1


def find(name: str, source: Artifact, context: RunContext) -> Artifact:
    """The artifact of a teacher.

    Args:
        name: `teacher` (the FP32 model that candidates are judged against), `assistant` (the model made by an earlier
            distill stage), or a model as recipes name one.

    Raises:
        StageError: there is no assistant.
    """
    if name == TEACHER:
        assert context.teacher is not None
        return context.teacher
    if name != ASSISTANT:
        return context.models[name]
    assistant = next((entry for entry in context.lineage(source)[1:] if entry.manifest.made_by.name == "distill"), None)
    if assistant is None:
        raise StageError(
            "distill: teachers names `assistant`, but no earlier stage distilled one.",
            hint="Put `- distill` before the prune stage whose result this one trains.",
        )
    return assistant


def open_teachers(
    names: Sequence[str],
    student: Any,
    source: Artifact,
    context: RunContext,
    examples: Examples,
    settings: Objective,
    *,
    pooled: bool = False,
) -> list[Teacher]:
    """Loads each teacher, with its outputs from the store or computed now. Only the first gives more than logits.

    Args:
        pooled: as in `edgebert.stages.distill.losses.pairing`.
    """
    opened = []
    for index, name in enumerate(names):
        artifact = find(name, source, context)
        model = load_model(artifact.path, context.task)
        names_inside = pairing(settings, student, model, pooled=pooled).teacher if index == 0 else ()
        requested = RequestedOutputs(names_inside, int(settings.cache_gb * 1e9), settings.precision)
        own_examples = Examples(examples.sets, context.serving(artifact))
        examples.require_same_windows(own_examples, f"the teacher {name}")
        opened.append(
            Teacher(model, own_examples, requested, _outputs(name, artifact, model, own_examples, requested, context).path)
        )
    return opened


def _outputs(
    name: str, artifact: Artifact, model: Any, examples: Examples, requested: RequestedOutputs, context: RunContext
) -> Artifact:
    def make(draft: Draft) -> dict[str, Any]:
        return write_outputs(model, examples, requested, draft, context.progress, f"run the {name}")

    return context.cached("teacher-outputs", VERSION, identity(artifact, examples, requested), artifact.key, make)
