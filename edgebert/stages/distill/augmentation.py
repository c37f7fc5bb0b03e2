"""augmentation: more rows for a teacher to label, made up from the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgebert.core.store import Draft
from edgebert.data.prepared import BLOCK_ROWS, FILE, PreparedData, write_rows
from edgebert.stages.base import RunContext
from edgebert.stages.distill.settings import Objective
from edgebert.stages.examples import Examples

VERSION = 1
DROPPED = 0.1
"""Share of the words that is left out."""


def augmented(examples: Examples, settings: Objective, context: RunContext) -> Examples:
    """The examples, followed by `settings.augment` made-up rows for each; they are made once and kept in the store."""
    if not settings.augment:
        return examples
    return Examples((*examples.sets, *(_made_up(data, settings, context) for data in examples.sets)), examples.serving)


def _made_up(data: PreparedData, settings: Objective, context: RunContext) -> PreparedData:
    def make(draft: Draft) -> Mapping[str, Any]:
        with context.progress.step(f"make up rows from data.{data.role}"):
            columns = [name for name in context.task.input_names if name in data.columns]
            rows = joined(data, columns, settings.augment, context.seed)
            return write_rows(rows, draft.out / FILE, context.task, f"data.{data.role}", labelled=False)

    identity = {"data": data.artifact.sha256, "copies": settings.augment, "seed": context.seed}
    return PreparedData(context.cached("made-up-rows", VERSION, identity, data.artifact.key, make), "transfer")


def joined(data: PreparedData, columns: Sequence[str], copies: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields each row joined with another one, column by column, without a tenth of the words; `copies` times over.

    A teacher has seen its training rows and is surer of them than of any other text, so a student that learns from its
    answers there alone learns too little about other texts. A joined and thinned text is new to the teacher. (Masked
    words and sampled n-grams for distillation: Tang et al. 2019, arXiv 1903.12136, section 3.3.)

    Args:
        data: any data set.
        columns: names of the columns of texts, or of lists of words, that go into the model.
        copies: number of rows made from each row.

    Returns:
        len(data) * copies rows of these columns; the data is read in blocks.
    """
    for copy in range(copies):
        generator = np.random.default_rng([seed, copy])
        partners = generator.permutation(len(data))
        for start in range(0, len(data), BLOCK_ROWS):
            indices = range(start, min(start + BLOCK_ROWS, len(data)))
            others = data.rows([int(partners[index]) for index in indices])
            for row, other in zip(data.rows(indices), others, strict=True):
                yield {column: _thinned(row, other, column, generator) for column in columns}


def _thinned(row: Mapping[str, Any], other: Mapping[str, Any], column: str, generator: np.random.Generator) -> Any:
    """A column of both rows joined, without some of its words; a text or list that would lose every word keeps all."""
    values = [value for value in (row[column], other[column]) if value is not None]
    if not values:
        return None
    are_lists = isinstance(values[0], list)
    words = [word for value in values for word in (value if are_lists else str(value).split())]
    kept = [word for word, drawn in zip(words, generator.random(len(words)), strict=True) if drawn >= DROPPED] or words
    return kept if are_lists else " ".join(kept)
