"""Equalising value channels and LayerNorms changes no output, and evens out the ranges that INT8 has to hold."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import BATCHES, BERTS, KINDS, Batch, assert_same, batch_of, build, kept_of, outputs

from edgebert.models.surgery import Units, layers_of, prune, shape_of
from edgebert.stages.export import REWRITE_TOLERANCE, REWRITES, export_model
from edgebert.stages.export.serving_form import serving_form
from edgebert.stages.quantize.equalize import Balance, context_ranges, equalize_values, readings, smooth_norms
from edgebert.tasks import get_task

CHANNELS = [1, 10, 31]
BATCH = batch_of([3, 9, 6], padding=2)


def with_outliers(model: Any, factor: float = 200.0) -> Any:
    """The model with some value channels much larger than the others, which compute the same."""
    with torch.no_grad():
        for layer in layers_of(model):
            channels = [channel for channel in CHANNELS if channel < layer.attention.self.value.out_features]
            layer.attention.self.value.weight[channels] *= factor
            layer.attention.self.value.bias[channels] *= factor
            layer.attention.output.dense.weight[:, channels] /= factor
    return model


def with_large_gammas(model: Any) -> Any:
    """Another function, with some channels of every LayerNorm much larger than the others."""
    with torch.no_grad():
        for reading in readings(model):
            reading.norm.weight[CHANNELS] *= 50
    return model


def even(balance: Balance, before: float = 50, after: float = 4) -> bool:
    return balance.before > before and 1 <= balance.after < after


@pytest.mark.parametrize("change", [equalize_values, smooth_norms])
@settings(max_examples=25)
@given(
    kind=st.sampled_from(list(KINDS)),
    options=BERTS,
    batch=BATCHES,
    alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    draw=st.data(),
)
def test_equalising_changes_no_output(
    change: Any, kind: Any, options: dict[str, Any], batch: Batch, alpha: float, draw: st.DataObject
) -> None:
    model = build(kind, **options)
    if draw.draw(st.booleans()):
        model = prune(model, draw.draw(kept_of(shape_of(model))))
    wanted = outputs(model, batch)
    change(model, [batch], alpha=alpha)
    assert_same(outputs(model, batch), wanted)


@pytest.mark.parametrize("pruned", [False, True])
def test_outlier_channels_become_like_the_others(pruned: bool) -> None:
    batches = [batch_of([3, 9, 6], seed=seed, padding=2) for seed in range(3)]
    model = build(seed=1)
    if pruned:
        model = prune(model, {0: Units((0, 1, 3), tuple(range(9))), 1: Units((0, 2, 3), (1, 4))})
    wanted = outputs(model, batches[0])
    with_outliers(model)
    assert_same(outputs(model, batches[0]), wanted)
    before = context_ranges(model, batches)
    found = equalize_values(model, batches)
    assert len(found) == 2 and all(even(balance) for balance in found), found
    assert_same(outputs(model, batches[0]), wanted)
    for ranges, balance, old in zip(context_ranges(model, batches), found, before, strict=True):
        assert float(ranges.max() / ranges.median()) == pytest.approx(balance.after, rel=1e-4)
        assert float(old.max() / old.median()) == pytest.approx(balance.before, rel=1e-4)


def test_half_and_half_gives_channels_and_columns_the_same_range() -> None:
    """With alpha 0.5, max|x_j| / s_j and max|W_j| * s_j are both the root of max|x_j| * max|W_j|."""
    model, batch = with_outliers(build()), batch_of([4, 8])
    equalize_values(model, [batch])
    for layer, ranges in zip(layers_of(model), context_ranges(model, [batch]), strict=True):
        torch.testing.assert_close(ranges, layer.attention.output.dense.weight.abs().amax(dim=0), rtol=1e-4, atol=1e-6)


def test_alpha_moves_all_of_the_range_to_one_side() -> None:
    batch = batch_of([4, 8])
    for alpha in (0, 1):
        model = with_outliers(build())
        equalize_values(model, [batch], alpha=alpha)
        for layer, ranges in zip(layers_of(model), context_ranges(model, [batch]), strict=True):
            even_side = ranges if alpha else layer.attention.output.dense.weight.abs().amax(dim=0)
            torch.testing.assert_close(even_side, torch.ones_like(even_side), rtol=1e-4, atol=1e-4)


def test_dead_channels_and_columns_leave_finite_weights_and_the_same_output() -> None:
    model, batch = build(), batch_of([4, 8])
    with torch.no_grad():
        first, second = layers_of(model)
        first.attention.self.value.weight[[2, 3]] = 0
        first.attention.self.value.bias[[2, 3]] = 0
        first.attention.output.dense.weight[:, [3, 4]] = 0
        second.attention.output.dense.weight.zero_()
    wanted = outputs(model, batch)
    for alpha in (0.0, 0.5, 1.0):
        other = copy.deepcopy(model)
        equalize_values(other, [batch], alpha=alpha)
        assert all(torch.isfinite(parameter).all() for parameter in other.parameters())
        values = [layer.attention.self.value.weight for layer in layers_of(other)]
        assert torch.equal(values[0][[2, 3]], torch.zeros_like(values[0][[2, 3]]))  # a scale was a number above 0
        assert values[0][4].abs().min() > 0 and values[1].abs().min() > 0
        assert_same(outputs(other, batch), wanted)


def test_padding_does_not_count() -> None:
    model = build()
    lone, padded = batch_of([5]), batch_of([5], padding=6)
    padded["input_ids"][0, 5:] = 7
    for one, other in zip(context_ranges(model, [lone]), context_ranges(model, [padded]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_nothing_but_values_and_output_matrices_changes_and_no_hook_or_mode_stays() -> None:
    model = with_outliers(build(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)).train()
    before = copy.deepcopy(model.state_dict())
    equalize_values(model, [batch_of([4, 8])])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {
        f"bert.encoder.layer.{index}.attention.{part}"
        for index in range(2)
        for part in ("self.value.weight", "self.value.bias", "output.dense.weight")
    }
    assert model.training and all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("change", [equalize_values, smooth_norms])
def test_no_batch_and_an_alpha_that_is_no_share_are_refused(change: Any) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        change(build(), [])
    with pytest.raises(ValueError, match="alpha is 1"):
        change(build(), [batch_of([3])], alpha=1.5)


# LayerNorms.


def test_large_channels_of_layernorms_become_like_the_others() -> None:
    model = with_large_gammas(build(seed=1))
    balances = smooth_norms(model, [BATCH])
    assert len(balances) == 4  # two layers
    assert all(balance.before > 15 and balance.after < balance.before / 3 for balance in balances)


def test_a_copy_a_rewritten_model_and_a_graph_answer_alike_with_smoothed_norms(tmp_path: Path) -> None:
    model = with_large_gammas(build(seed=1))
    wanted = model(**BATCH).logits.detach()
    smooth_norms(model, [BATCH])
    assert_same([copy.deepcopy(model)(**BATCH).logits, serving_form(model, REWRITES)(**BATCH)["logits"]], [wanted, wanted])
    facts = export_model(model, get_task("text-classification"), tmp_path / "model.onnx", name="it", rewrites=REWRITES)
    assert facts["export_difference"] <= REWRITE_TOLERANCE
