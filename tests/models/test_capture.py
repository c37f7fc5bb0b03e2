"""Capture finds what passes through a model under the names that it promises, and leaves no hook behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_bert import KINDS, assert_same, batch_of, build, difference, inputs_of
from transformers import BertForSequenceClassification, BertModel

from edgebert.models.capture import captured, width_of
from edgebert.models.surgery import Units, encoder_of, layers_of, prune

BATCH = batch_of([3, 8, 5])
KEPT = {0: Units((0, 2, 3), (1, 5, 20)), 2: Units((3,), tuple(range(24)))}
NAMES = ("hidden-0", "hidden-1", "hidden-2", "query-1", "key-1", "value-1", "query-2", "key-2", "value-2")


def pruned_bert(kind: Any = BertForSequenceClassification) -> Any:
    """Two layers, of 3 heads and of 1."""
    return prune(build(kind, layers=3), KEPT)


def hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("pruned", [True, False])
def test_names_stand_for_what_they_say(kind: Any, pruned: bool) -> None:
    model = pruned_bert(kind) if pruned else build(kind)
    with torch.no_grad():
        wanted = dict(
            zip(("hidden-0", "hidden-1", "hidden-2"), model(**BATCH, output_hidden_states=True).hidden_states, strict=True)
        )
        for index, layer in enumerate(layers_of(model)):
            for name in ("query", "key", "value"):
                projection = getattr(layer.attention.self, name)
                wanted[f"{name}-{index + 1}"] = torch.nn.functional.linear(
                    wanted[f"hidden-{index}"], projection.weight, projection.bias
                )
        with captured(model, NAMES) as found:
            assert found == {}
            model(**BATCH)
    assert set(found) == set(NAMES) == set(wanted)
    for name in NAMES:
        assert_same([found[name]], [wanted[name]])
        assert found[name].shape == (3, 8, width_of(model, name))
    assert len({float(value.sum()) for value in found.values()}) == len(NAMES)


def test_widths_are_those_of_the_heads_that_are_left() -> None:
    model = pruned_bert()
    assert [width_of(model, name) for name in NAMES] == [32, 32, 32, 24, 24, 24, 8, 8, 8]


def test_only_what_is_asked_for_is_kept() -> None:
    model = build(BertModel)
    with captured(model, ["key-2"]) as found, torch.no_grad():
        model(**BATCH)
    assert list(found) == ["key-2"]
    with captured(model, []) as found, torch.no_grad():
        model(**BATCH)
    assert found == {}


def test_a_second_pass_takes_the_place_of_the_first() -> None:
    model, other = build(BertModel), batch_of([3, 8, 5], seed=7)
    with torch.no_grad():
        with captured(model, ["hidden-2"]) as alone:
            model(**other)
        with captured(model, ["hidden-2"]) as found:
            model(**BATCH)
            first = found["hidden-2"]
            model(**other)
    assert torch.equal(found["hidden-2"], alone["hidden-2"])
    assert difference([found["hidden-2"]], [first]) > 0.1


def test_gradients_flow_through_what_is_captured() -> None:
    model = pruned_bert()
    with captured(model, ["value-2", "hidden-1"]) as found:
        model(**inputs_of(BATCH))
    found["value-2"].sum().backward(retain_graph=True)
    assert layers_of(model)[1].attention.self.query.weight.grad is None
    for parameter in (layers_of(model)[0].output.dense.weight, encoder_of(model).embeddings.word_embeddings.weight):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0


def test_capturing_does_not_change_the_answer() -> None:
    model = pruned_bert()
    with torch.no_grad():
        before = model(**BATCH).logits
        with captured(model, NAMES):
            assert torch.equal(model(**BATCH).logits, before)


@pytest.mark.parametrize("failing", [True, False])
def test_hooks_are_gone_afterwards(failing: bool) -> None:
    model = pruned_bert()
    try:
        with captured(model, NAMES) as found:
            assert hooks(model) == len(NAMES)
            if failing:
                model(input_ids=torch.full((1, 2), 10**6))  # no such token
    except IndexError:
        assert failing
    assert hooks(model) == 0
    with torch.no_grad():
        model(**BATCH)
    assert found == {}


@pytest.mark.parametrize("name", ["query-0", "hidden-3", "value-3", "hidden--1", "dense-1", "dropout-1", "hidden", "key-x", ""])
def test_a_name_that_stands_for_nothing_is_refused_and_leaves_no_hook(name: str) -> None:
    model = pruned_bert()
    with (
        pytest.raises(ValueError, match="names nothing that can be captured in a model of 2 layers"),
        captured(model, ["hidden-1", name]),
    ):
        pass
    assert hooks(model) == 0
