"""augmentation: more rows for a teacher to label, made up from the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
            rows = joined(data, settings.augment, context.seed)
            return write_rows(rows, draft.out / FILE, context.task, f"data.{data.role}", labelled=False)

    identity = {"data": data.artifact.sha256, "copies": settings.augment, "seed": context.seed}
    return PreparedData(context.cached("made-up-rows", VERSION, identity, data.artifact.key, make), "transfer")


def joined(data: PreparedData, copies: int, seed: int) -> Iterator[dict[str, str | None]]:
    """Yields each row joined with another one, column by column, without a tenth of the words; `copies` times over.

    A teacher has seen its training rows and is surer of them than of any other text, so a student that learns from its
    answers there alone learns too little about other texts. A joined and thinned text is new to the teacher. (Masked
    words and sampled n-grams for distillation: Tang et al. 2019, arXiv 1903.12136, section 3.3.)

    Args:
        data: any data set; its labels are ignored.
        copies: number of rows made from each row.

    Returns:
        len(data) * copies rows of the text columns; the data is read in blocks.
    """
    columns = [column for column in data.columns if column != "label"]
    for copy in range(copies):
        generator = np.random.default_rng([seed, copy])
        partners = generator.permutation(len(data))
        for start in range(0, len(data), BLOCK_ROWS):
            indices = range(start, min(start + BLOCK_ROWS, len(data)))
            others = data.rows([int(partners[index]) for index in indices])
            for row, other in zip(data.rows(indices), others, strict=True):
                yield {column: _thinned(row, other, column, generator) for column in columns}


def _thinned(row: Mapping[str, Any], other: Mapping[str, Any], column: str, generator: np.random.Generator) -> str | None:
    """A column of both rows joined, without some of its words; a text that would lose every word keeps all."""
    texts = [str(text) for text in (row[column], other[column]) if text is not None]
    words = " ".join(texts).split()
    kept = [word for word, drawn in zip(words, generator.random(len(words)), strict=True) if drawn >= DROPPED]
    return " ".join(kept or words) if texts else None
