"""Bias correction takes the mean error of rounded weights away, layer by layer and at the output."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny_bert import KINDS, batch_of, build, outputs
from torch.nn import functional
from transformers import BertForSequenceClassification

from edgebert.models.capture import observe
from edgebert.models.fake_quant import rounded_weight_of
from edgebert.models.surgery import Units, prune
from edgebert.stages.quantize.bias_correction import correct_biases, mean_inputs

BATCHES = [batch_of([3, 9, 6], seed=seed, padding=2) for seed in range(3)]


def linears_of(model: Any) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}


def mean_errors(model: Any, changed: Any, bits: int) -> dict[str, torch.Tensor]:
    """Absolute mean error, over all tokens, of each Linear's outputs when `changed` has rounded weights and `model` has not."""
    ours, theirs = linears_of(model), linears_of(changed)
    errors: dict[str, list[torch.Tensor]] = {name: [] for name in ours}

    def see(name: str, rows: torch.Tensor) -> None:
        rounded = functional.linear(rows, rounded_weight_of(theirs[name].weight, bits=bits), theirs[name].bias)
        errors[name].append(rounded - functional.linear(rows, ours[name].weight, ours[name].bias))

    observe(model, ours, BATCHES, see)
    return {name: torch.cat(found).mean(dim=0).abs() for name, found in errors.items() if found}


@pytest.mark.parametrize("bits", [8, 7])
@pytest.mark.parametrize("kind", [*KINDS, "pruned"])
def test_the_mean_error_of_every_output_goes_away(kind: Any, bits: int) -> None:
    model = prune(build(), {1: Units((0, 3), (1, 4, 5))}) if kind == "pruned" else build(kind)
    changed = copy.deepcopy(model)
    changes = correct_biases(changed, BATCHES, bits=bits)
    before, after = mean_errors(model, model, bits), mean_errors(model, changed, bits)
    assert changes.keys() == before.keys() == linears_of(model).keys()
    for name in changes:
        assert before[name].max() > 1e-4
        assert after[name].max() < 1e-2 * before[name].max()
        assert changes[name] == pytest.approx(float(before[name].max()), rel=1e-2)


def test_only_biases_change_and_the_bits_are_the_ones_that_are_asked_for() -> None:
    model = build()
    eight, seven = copy.deepcopy(model), copy.deepcopy(model)
    larger = correct_biases(seven, BATCHES, bits=7)
    smaller = correct_biases(eight, BATCHES)
    for name, value in model.state_dict().items():
        biased = name.removesuffix(".bias") in linears_of(model)
        assert torch.equal(value, eight.state_dict()[name]) == (not (name.endswith(".bias") and biased)), name
    assert sum(larger.values()) > 1.3 * sum(smaller.values())
    after_eight = mean_errors(model, eight, 7)  # what was right for 8 bits is not for 7
    assert any(after_eight[name].max() > 1e-3 for name in after_eight)


def test_a_mean_is_over_tokens_without_padding_and_over_all_batches() -> None:
    model = build()
    linears = linears_of(model)
    parts = [batch_of([9, 3]), batch_of([5], seed=1)]
    padded = [{name: functional.pad(value, (0, 4)) for name, value in batch.items()} for batch in parts]
    whole = mean_inputs(model, linears, padded)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in linears}
    observe(model, linears, parts, lambda name, found: rows[name].append(found))
    for name in linears:
        found = torch.cat(rows[name])
        assert len(found) == (3 if name in ("bert.pooler.dense", "classifier") else 17)
        torch.testing.assert_close(whole[name].float(), found.mean(dim=0), atol=1e-4, rtol=1e-4)


def test_a_linear_without_a_bias_is_left_alone() -> None:
    model = build()
    model.classifier = torch.nn.Linear(32, 3, bias=False)
    before = copy.deepcopy(model.classifier.weight)
    assert "classifier" not in correct_biases(model, BATCHES)
    assert torch.equal(model.classifier.weight, before)


def test_the_answer_of_a_model_with_rounded_weights_is_less_biased() -> None:
    """Errors that all texts share come from the mean; where weights round coarsely, the answers' mean comes back."""
    model = build(BertForSequenceClassification, layers=1, seed=3)
    batches = [batch_of([3, 9, 6, 5], seed=seed) for seed in range(8)]
    wanted = torch.cat([outputs(model, batch)[0] for batch in batches]).mean(dim=0)
    errors = []
    for correct in (False, True):
        other = copy.deepcopy(model)
        if correct:
            correct_biases(other, batches, bits=7)
        with torch.no_grad():
            for linear in linears_of(other).values():
                linear.weight.copy_(rounded_weight_of(linear.weight, bits=7))
        found = torch.cat([outputs(other, batch)[0] for batch in batches]).mean(dim=0)
        errors.append(float((found - wanted).abs().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_a_model_that_trains_goes_on_to_train() -> None:
    model = build().train()
    correct_biases(model, BATCHES)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_bias_correction_needs_batches() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        correct_biases(build(), [])
