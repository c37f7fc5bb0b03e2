"""Settings of prune that cannot work with a model of a family are found before any work."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tiny_families import able

from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.sizes import with_sizes
from edgebert.stages.base import ModelFacts
from edgebert.stages.distill import Distill
from edgebert.stages.prune import Prune, faults

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)


def facts(family: Family, **config: Any) -> ModelFacts:
    """A model of 514 rows of positions, whose config leaves its sizes to the defaults."""
    fields = {"model_type": family.model_type, "pad_token_id": 1, "max_position_embeddings": 514, **config}
    return ModelFacts(with_sizes(fields), 32, None, {})


@pytest.mark.parametrize("family", able("positions"), ids=lambda family: family.model_type)
def test_positions_are_tokens_and_not_rows(family: Family) -> None:
    longest = 512 if family.skips_padding else 514
    assert Prune(positions=longest).faults(facts(family)) == []
    assert Prune(positions=longest + 1).faults(facts(family)) == [
        f"positions is {longest + 1}, but the model has {longest}",
    ]
    assert Prune(positions=31).faults(facts(family)) == [
        "positions is 31, but inputs have up to 32 tokens; give task.max_length, too",
    ]


@pytest.mark.parametrize("family", able("units"), ids=lambda family: family.model_type)
def test_sizes_are_read_under_the_names_of_the_family(family: Family) -> None:
    small = facts(family, **{family.names.num_hidden_layers: 2, family.names.intermediate_size: 16})
    assert Prune.model_validate({"sizes": {"layers": (2,)}}).faults(small) == [
        "sizes.layers names layer 2; the model has 0 to 1"
    ]
    assert Prune.model_validate({"to": {"macs": 0.5}}).faults(small) == ["block is 32, but the widest layer has 16 FFN neurons"]


@every_family
def test_what_a_family_has_to_keep_is_not_cut(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    stiff = dataclasses.replace(family, lacks={"units": "its layers are one", "tokens": "its words are few"})
    monkeypatch.setattr(faults, "family_of_config", lambda config: stiff)
    stage = Prune.model_validate({"to": {"macs": 0.5}, "vocabulary": {}, "positions": 64})
    assert stage.faults(facts(family)) == [
        f"the heads, neurons and layers of {family.title} cannot be cut, because its layers are one; drop what asks for it",
        f"the vocabulary of {family.title} cannot be cut, because its words are few; drop what asks for it",
    ]


@every_family
def test_what_a_family_lacks_is_not_learned_from_it_nor_by_it(family: Family) -> None:
    student = with_sizes({"model_type": "bert", "hidden_size": 768, "num_attention_heads": 12})
    teacher = facts(family).config
    for part in ("hidden", "relations"):
        stage = Distill.model_validate({"teachers": "t", "hidden": 0, "soft": 1, part: 1})
        both = [
            ModelFacts(student, 32, None, {"t": teacher}),
            dataclasses.replace(facts(family), others={"t": student}),
        ]
        wanted = []
        if why := family.lacks.get(part):  # type: ignore[call-overload]
            wanted = [f"`{part}` cannot be learned with {family.title}, because {why}; write `{part}: 0`"]
        assert [[line for line in stage.faults(one) if "because" in line] for one in both] == [wanted, wanted]
