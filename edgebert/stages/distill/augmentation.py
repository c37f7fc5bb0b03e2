"""augmentation: the examples of a training, with those that are made up for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgebert.core.store import Draft
from edgebert.data.prepared import BLOCK_ROWS, FILE, PreparedData, write_rows
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


VERSION = 1


DROPPED = 0.1
"""Share of the words that is left out."""


def joined(data: PreparedData, copies: int, seed: int) -> Iterator[dict[str, str | None]]:
    """Each row with another one behind it, column by column, and a tenth of the words left out, `copies` times over.

    A teacher has seen its training rows and is surer of them than of any other text, so that a student which learns from its
    answers there alone learns too little about the rest. A joined and thinned text is new to the teacher. (Words masked
    and n-grams put together for distillation: Tang et al. 2019, arXiv 1903.12136, section 3.3.)

    Args:
        data: any data set; its label is left out.
        copies: rows made of each row.

    Returns:
        len(data) * copies rows of the text columns, in blocks read as they are needed.
    """
    columns = [column for column in data.columns if column != "label"]
    for copy in range(copies):
        generator = np.random.default_rng([seed, copy])
        partners = generator.permutation(len(data))
        for start in range(0, len(data), BLOCK_ROWS):
            places = range(start, min(start + BLOCK_ROWS, len(data)))
            others = data.rows([int(partners[index]) for index in places])
            for row, other in zip(data.rows(places), others, strict=True):
                yield {column: _thinned(row, other, column, generator) for column in columns}


def _thinned(row: Mapping[str, Any], other: Mapping[str, Any], column: str, generator: np.random.Generator) -> str | None:
    """A column of both rows, without some of its words; what would have none left stays whole."""
    texts = [str(text) for text in (row[column], other[column]) if text is not None]
    words = " ".join(texts).split()
    kept = [word for word, drawn in zip(words, generator.random(len(words)), strict=True) if drawn >= DROPPED]
    return " ".join(kept or words) if texts else None
