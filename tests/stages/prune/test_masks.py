"""Masks weigh units without surgery: zeros equal removal, each example may have its own, and no hook stays behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import BATCHES, BERTS, KINDS, Batch, assert_same, batch_of, build, difference, kept_of, outputs
from transformers import BertForSequenceClassification, BertModel

from edgebert.models.surgery import Kept, Units, everything, layers_of, prune, shape_of
from edgebert.stages.prune.importance import masked


def masks_of(model: Any, kept: Kept) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """For each layer, 1 for the heads (and neurons) that are kept and 0 for the others."""
    heads, neurons = [], []
    for index, sizes in enumerate(zip(shape_of(model).heads, shape_of(model).intermediate_sizes, strict=True)):
        for masks, size, units in zip((heads, neurons), sizes, (kept[index].heads, kept[index].neurons), strict=True):
            masks.append(torch.tensor([float(unit in units) for unit in range(size)]))
    return heads, neurons


def hooks(model: Any) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


@settings(max_examples=30)
@given(kind=st.sampled_from(list(KINDS)), options=BERTS, batch=BATCHES, draw=st.data())
def test_masking_equals_removing(kind: Any, options: dict[str, Any], batch: Batch, draw: st.DataObject) -> None:
    model = build(kind, **options)
    if draw.draw(st.booleans()):
        model = prune(model, draw.draw(kept_of(shape_of(model))))
    kept = draw.draw(kept_of(shape_of(model), every_layer=True))
    heads, neurons = masks_of(model, kept)
    with masked(model, heads, neurons):
        found = outputs(model, batch)
    assert_same(found, outputs(prune(model, kept), batch))


def test_masks_are_one_where_a_unit_is_kept() -> None:
    model = prune(build(BertModel), {0: Units((0, 3), (1, 2, 3)), 1: Units((1,), (0, 9))})
    heads, neurons = masks_of(model, {0: Units((1,), (0, 2)), 1: Units((0,), (1,))})
    assert [mask.tolist() for mask in heads] == [[0, 1], [1]]
    assert [mask.tolist() for mask in neurons] == [[1, 0, 1], [0, 1]]


def test_each_example_may_have_a_mask_of_its_own() -> None:
    model, batch = build(BertForSequenceClassification), batch_of([3, 7, 5])
    shape, generator = shape_of(model), torch.Generator().manual_seed(0)
    heads = [torch.rand(3, size, generator=generator) for size in shape.heads]
    neurons = [torch.rand(3, size, generator=generator) for size in shape.intermediate_sizes]
    with masked(model, heads, neurons):
        (found,) = outputs(model, batch)
    for row in range(3):
        with masked(model, [mask[row] for mask in heads], [mask[row] for mask in neurons]):
            (wanted,) = outputs(model, batch)
        assert_same([found[row]], [wanted[row]])
        assert difference([found[row]], [wanted[row - 1]]) > 1e-2


def test_a_mask_multiplies() -> None:
    """A factor on a unit is the same factor on the weights that read it."""
    model, batch = build(BertModel), batch_of([3, 7])
    other = build(BertModel)
    with torch.no_grad():
        layers_of(other)[1].attention.output.dense.weight[:, 8:16] *= 0.25
        layers_of(other)[0].output.dense.weight[:, 5] *= -3
    heads, neurons = masks_of(model, everything(model))
    heads[1][1], neurons[0][5] = 0.25, -3
    with masked(model, heads, neurons):
        found = outputs(model, batch)
    assert_same(found, outputs(other, batch))
    assert difference(found, outputs(model, batch)) > 1e-2


def test_gradients_reach_the_masks() -> None:
    model, batch = build(BertForSequenceClassification), batch_of([3, 7])
    heads, neurons = masks_of(model, everything(model))
    for mask in (*heads, *neurons):
        mask.requires_grad_()
    with masked(model, heads, neurons):
        model(**batch).logits.sum().backward()
    assert all(mask.grad is not None and mask.grad.abs().min() > 0 for mask in (*heads, *neurons))


@pytest.mark.parametrize("failing", [True, False])
def test_masks_are_gone_afterwards(failing: bool) -> None:
    model, batch = build(BertForSequenceClassification), batch_of([3, 7])
    before = outputs(model, batch)
    heads, neurons = masks_of(model, {0: Units((0,), (0,)), 1: Units((1,), (1,))})
    try:
        with masked(model, heads, neurons):
            assert hooks(model) == 4
            if failing:
                raise KeyError
    except KeyError:
        pass
    assert hooks(model) == 0
    assert_same(outputs(model, batch), before, 0)


def test_masks_for_another_number_of_layers_are_refused_and_leave_nothing() -> None:
    model = build(BertModel)
    heads, neurons = masks_of(model, everything(model))
    with pytest.raises(ValueError), masked(model, heads[:1], neurons):
        pass
    assert hooks(model) == 0
