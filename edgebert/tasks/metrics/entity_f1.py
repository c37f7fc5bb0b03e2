"""entity_f1: the F1 of named entities, as seqeval and CoNLL's conlleval count them.

An entity is a run of words: of tags `B-type I-type ...`, or with `E-` at the end and `S-` for one word alone (IOBES). As in
seqeval's default mode, an `I-` that follows no tag of its type begins an entity. A predicted entity is a hit if its type, its
first and its last word are those of a right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import Rows

OUTSIDE = "O"
INSIDE, GOES_ON = ("B", "I"), ("I", "E")
"""First letters of tags that an entity may go on after, and of tags with which it goes on."""


@dataclass(frozen=True)
class TaggedEntity:
    """The words `first` to `last`, counted from 0, are an entity of this type."""

    type: str
    first: int
    last: int


def entities_of(tags: Sequence[str]) -> list[TaggedEntity]:
    """The entities of a sentence, from the tag of each word."""
    entities: list[TaggedEntity] = []
    before = OUTSIDE
    for index, tag in enumerate(tags):
        if tag[0] in GOES_ON and before[0] in INSIDE and before[2:] == tag[2:]:
            entities[-1] = TaggedEntity(tag[2:], entities[-1].first, index)
        elif tag != OUTSIDE:
            entities.append(TaggedEntity(tag[2:], index, index))
        before = tag
    return entities


def entity_counts(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] = ()) -> Rows:
    """Hits, predicted entities and right entities of each sentence, of shape (sentences, 3). The labels do not matter.

    Raises:
        ValueError: a sentence has more or fewer predicted tags than right ones.
    """
    rows = []
    for prediction, reference in zip(predictions, references, strict=True):
        if len(prediction) != len(reference):
            raise ValueError(f"a sentence of {len(reference)} words has {len(prediction)} predicted tags")
        found, right = set(entities_of(prediction)), set(entities_of(reference))
        rows.append([len(found & right), len(found), len(right)])
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


ENTITY_F1 = AnswerMetric(
    name="entity_f1",
    title="entity_f1",
    meaning="F1 of entities over all eval sentences, type and both ends right, as seqeval counts in its default mode",
    of="tags",
    reduction="f1",
    statistics=entity_counts,
)
