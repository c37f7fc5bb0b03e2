"""Importance: Fisher information equals a slow count example by example; masks equal removal; the model stays as it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import (
    BATCHES,
    BERTS,
    KINDS,
    Batch,
    assert_same,
    batch_of,
    build,
    difference,
    kept_of,
    outputs,
    silenced,
    summed_loss,
)
from torch.func import functional_call
from transformers import BertForSequenceClassification, BertModel

from edgebert.models.surgery import Kept, Units, everything, layers_of, prune, shape_of
from edgebert.stages.prune.importance import Importance, fisher, layer_losses, magnitude, masked, mean_loss, random

UNEQUAL = {0: Units((0, 1, 3), (0, 4, 7, 9)), 1: Units((2,), (3, 5))}


def slow_fisher(model: Any, batches: list[Batch]) -> tuple[list[Any], list[Any]]:
    """Each example alone and without padding; a mask is a factor on the weights that read the unit."""
    shape = shape_of(model)
    weights = dict(model.named_parameters())
    heads = [np.zeros((size, size)) for size in shape.heads]
    neurons = [np.zeros((size, size)) for size in shape.intermediate_sizes]
    examples = 0
    for batch in batches:
        for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
            alone = {name: value[row : row + 1, :length] for name, value in batch.items() if name != "labels"}
            masks = [torch.ones(size, requires_grad=True) for size in (*shape.heads, *shape.intermediate_sizes)]
            changed = dict(weights)
            for index in range(shape.layers):
                for name, mask in (
                    ("attention.output.dense", masks[index].repeat_interleave(shape.head_size)),
                    ("output.dense", masks[shape.layers + index]),
                ):
                    name = f"bert.encoder.layer.{index}.{name}.weight"
                    changed[name] = weights[name] * mask
            logits = functional_call(model, changed, kwargs=alone).logits
            loss = -logits.log_softmax(dim=-1)[0, batch["labels"][row]]
            for total, gradient in zip([*heads, *neurons], torch.autograd.grad(loss, masks), strict=True):
                total += np.outer(gradient.numpy(), gradient.numpy())
            examples += 1
    return [total / examples for total in heads], [total / examples for total in neurons]


@settings(max_examples=8)
@given(options=BERTS, draw=st.data())
def test_fisher_is_the_mean_over_examples_of_their_gradients_products(options: dict[str, Any], draw: st.DataObject) -> None:
    model = build(BertForSequenceClassification, **options)
    if draw.draw(st.booleans()):
        model = prune(model, draw.draw(kept_of(shape_of(model))))
    batches = [batch_of([3, 7, 5], seed=1, padding=2, labels=3), batch_of([1], seed=2, labels=3)]
    found = fisher(model, batches, summed_loss)
    heads, neurons = slow_fisher(model, batches)
    for ours, theirs in ((found.head_fisher, heads), (found.neuron_fisher, neurons)):
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == np.float64
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4 * max(1e-3, np.abs(other).max()))
    for ours, theirs in ((found.heads, heads), (found.neurons, neurons)):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, np.diag(other) / 2, rtol=2e-3, atol=1e-4 * max(1e-3, np.abs(other).max()))
    assert found.layers == ()


def test_fisher_does_not_depend_on_how_examples_are_batched() -> None:
    model = build()
    whole = batch_of([6, 6, 6, 6], labels=3)
    single = [{name: value[row : row + 1] for name, value in whole.items()} for row in range(4)]
    one, other = fisher(model, [whole], summed_loss), fisher(model, iter(single), summed_loss)
    for left, right in zip([*one.head_fisher, *one.neuron_fisher], [*other.head_fisher, *other.neuron_fisher], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4 * np.abs(right).max())
    assert min(values.max() for values in (*one.heads, *one.neurons)) > 0


def test_fisher_ticks_with_each_batchs_examples() -> None:
    ticks: list[int] = []
    batches = [batch_of([3, 4, 5], labels=3), batch_of([2], labels=3)]
    fisher(build(), batches, summed_loss, tick=ticks.append)
    assert ticks == [3, 1]


def state_of(model: Any) -> tuple[dict[str, bool], int, bool]:
    asked = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return asked, hooks(model), model.training


def test_fisher_without_a_batch_is_refused_and_leaves_the_model_as_it_was() -> None:
    model = build()
    before = state_of(model)
    with pytest.raises(ValueError, match="one batch or more"):
        fisher(model, [], summed_loss)
    assert state_of(model) == before


@pytest.mark.parametrize("fault", [None, "loss", "batches", "tick"])
def test_fisher_leaves_the_model_as_it_was(fault: str | None) -> None:
    model = build()
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    weights, before = copy.deepcopy(model.state_dict()), state_of(model)
    calls = 0

    def loss_of(model: Any, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        assert not any(parameter.requires_grad for parameter in model.parameters())  # which would cost time and memory
        if fault == "loss" and calls == 2:
            raise KeyError
        return summed_loss(model, batch)

    def batches() -> Iterator[Batch]:
        yield batch_of([3, 4], labels=3)
        if fault == "batches":
            raise KeyError
        yield batch_of([5], labels=3)

    def tick(count: int) -> None:
        if fault == "tick":
            raise KeyError

    if fault is None:
        fisher(model, batches(), loss_of, tick=tick)
    else:
        with pytest.raises(KeyError):
            fisher(model, batches(), loss_of, tick=tick)
    assert state_of(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {"classifier.weight"}
    assert torch.equal(model.classifier.weight.grad, torch.ones_like(model.classifier.weight))


def test_fisher_foretells_what_a_small_weight_costs() -> None:
    """A unit that hardly speaks has hardly any importance; one that does not speak has none."""
    model = build()
    with torch.no_grad():
        layers_of(model)[0].attention.output.dense.weight[:, 8:16] = 0
        layers_of(model)[1].output.dense.weight[:, 3] *= 1e-3
    found = fisher(model, [batch_of([3, 9, 5], labels=3)], summed_loss)
    assert found.heads[0][1] == 0 < found.heads[0][[0, 2, 3]].min()
    assert found.neurons[1][3] < 1e-3 * np.median(found.neurons[1])


def test_magnitude_is_the_squared_norm_of_what_a_unit_writes() -> None:
    model = prune(build(), UNEQUAL)
    found = magnitude(model)
    for index, layer in enumerate(layers_of(model)):
        heads = layer.attention.output.dense.weight.detach().numpy().astype(np.float64)
        neurons = layer.output.dense.weight.detach().numpy().astype(np.float64)
        assert len(found.heads[index]) == heads.shape[1] // 8
        for head, value in enumerate(found.heads[index]):
            assert math.isclose(value, (heads[:, head * 8 : head * 8 + 8] ** 2).sum(), rel_tol=1e-6)
        for neuron, value in enumerate(found.neurons[index]):
            assert math.isclose(value, (neurons[:, neuron] ** 2).sum(), rel_tol=1e-6)
        assert len(found.neurons[index]) == neurons.shape[1]
    assert (found.head_fisher, found.neuron_fisher, found.layers) == ((), (), ())


def flat(found: Importance) -> list[float]:
    return [float(value) for values in (*found.heads, *found.neurons) for value in values]


def test_random_importance_follows_from_the_seed_alone() -> None:
    model = prune(build(), UNEQUAL)
    torch.manual_seed(0)
    one = random(model, 7)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    other = random(model, 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert flat(one) == flat(other)
    assert flat(one) != flat(random(model, 8))
    assert [len(values) for values in (*one.heads, *one.neurons)] == [3, 1, 4, 2]
    assert len(set(flat(one))) == 10 and min(flat(one)) > 0 and max(flat(one)) < 1


@pytest.mark.parametrize("layers", [2, 3])
def test_layer_losses_are_what_each_removal_alone_costs(layers: int) -> None:
    model = build(layers=layers, seed=3)
    batches = [batch_of([3, 7, 5]), batch_of([8], seed=1)]
    with torch.no_grad():
        for batch in batches:
            batch["labels"] = model(**batch).logits.argmax(dim=-1)
        base = sum(float(summed_loss(model, batch)) for batch in batches) / 4
        wanted = []
        for gone in range(layers):
            other = silenced(model, {index: units for index, units in everything(model).items() if index != gone})
            wanted.append(sum(float(summed_loss(other, batch)) for batch in batches) / 4 - base)
    found = layer_losses(model, iter(batches), summed_loss)
    assert found == pytest.approx([max(0.0, value) for value in wanted], abs=1e-4)
    assert any(value > 0 for value in wanted)


def test_a_layer_whose_removal_helps_costs_nothing() -> None:
    """The labels are the answers of a model without layer 1, so that removing it can only help."""
    model, batch = build(), batch_of([3, 7, 5, 9])
    with torch.no_grad():
        batch["labels"] = silenced(model, {0: everything(model)[0]})(**batch).logits.argmax(dim=-1)
        model.classifier.weight *= 5
        model.classifier.bias *= 5
    found = layer_losses(model, [batch], summed_loss)
    assert mean_loss(model, [batch], summed_loss) > 0.01
    assert found[1] == 0.0


def test_the_only_layer_cannot_be_removed() -> None:
    assert layer_losses(build(layers=1), [batch_of([3], labels=3)], summed_loss) == (math.inf,)


def test_mean_loss_is_of_one_example() -> None:
    model = build()
    batches = [batch_of([3, 7, 5], labels=3), batch_of([8], seed=1, labels=3)]
    single = [
        {name: value[row : row + 1] for name, value in batch.items()}
        for batch in batches
        for row in range(len(batch["labels"]))
    ]
    with torch.no_grad():
        wanted = sum(float(summed_loss(model, row)) for row in single) / 4
    assert mean_loss(model, batches, summed_loss) == pytest.approx(wanted, rel=1e-5)


# Masks.


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
