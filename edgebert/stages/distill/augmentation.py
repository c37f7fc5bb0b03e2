"""augmentation: the examples of a training, with those that are made up for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.core.store import Draft
from edgebert.data.augment import VERSION, joined
from edgebert.data.prepared import FILE, PreparedData, write_rows
from edgebert.stages.base import RunContext
from edgebert.stages.distill.settings import Objective
from edgebert.stages.examples import Examples


def augmented(examples: Examples, settings: Objective, context: RunContext) -> Examples:
    """The examples, then `settings.augment` made-up rows for each; made once and kept in the store."""
    if not settings.augment:
        return examples
    return Examples((*examples.sets, *(_made_up(data, settings, context) for data in examples.sets)), examples.serving)


def _made_up(data: PreparedData, settings: Objective, context: RunContext) -> PreparedData:
    def make(draft: Draft) -> Mapping[str, Any]:
        with context.progress.step(f"make up rows from data.{data.role}"):
            rows = joined(data, settings.augment, context.seed)
            return write_rows(rows, draft.out / FILE, context.task, f"data.{data.role}", labelled=False)

    identity = {"data": data.artifact.sha256, "copies": settings.augment, "seed": context.seed}
    return PreparedData(context.cached("made-up-rows", VERSION, identity, data.artifact.key, make), "transfer")
