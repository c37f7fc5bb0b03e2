"""entity_f1 counts entities as seqeval does in its default mode."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebert.tasks.metrics.entity_f1 import ENTITY_F1, TaggedEntity, entities_of
from edgebert.tasks.reductions import reduce_rows

TAGS = ("O", "B-person", "I-person", "E-person", "S-person", "B-group", "I-group", "E-group", "S-group")
sentences = st.lists(st.sampled_from(TAGS), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("O O", []),
        ("B-a I-a O B-a", [("a", 0, 1), ("a", 3, 3)]),
        ("B-a B-a", [("a", 0, 0), ("a", 1, 1)]),
        ("I-a I-a", [("a", 0, 1)]),
        ("B-a I-b", [("a", 0, 0), ("b", 1, 1)]),
        ("O I-a I-b I-b", [("a", 1, 1), ("b", 2, 3)]),
        ("B-a I-a E-a I-a", [("a", 0, 2), ("a", 3, 3)]),
        ("S-a S-a I-a", [("a", 0, 0), ("a", 1, 1), ("a", 2, 2)]),
        ("B-creative-work I-creative-work", [("creative-work", 0, 1)]),
    ],
)
def test_an_entity_goes_on_with_tags_of_its_type(tags: str, entities: list[Any]) -> None:
    assert entities_of(tags.split()) == [TaggedEntity(*entity) for entity in entities]


@given(sentences)
def test_entities_are_those_of_seqeval(tags: list[str]) -> None:
    from seqeval.metrics.sequence_labeling import get_entities

    assert [(item.type, item.first, item.last) for item in entities_of(tags)] == get_entities(tags)


@given(st.lists(st.tuples(sentences, st.randoms(use_true_random=False)), min_size=1, max_size=6))
def test_the_value_is_seqevals_f1(drawn: list[tuple[list[str], Any]]) -> None:
    from seqeval.metrics import f1_score

    references = [tags for tags, _ in drawn]
    predictions = [[random.choice((tag, random.choice(TAGS))) for tag in tags] for tags, random in drawn]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no entity at all, seqeval warns and says 0
        wanted = f1_score(references, predictions)
    assert reduce_rows(ENTITY_F1.reduction, ENTITY_F1.statistics(predictions, references)) == pytest.approx(wanted)
