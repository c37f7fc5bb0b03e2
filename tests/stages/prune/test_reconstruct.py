"""Repair is a least-squares fit: it restores what the remaining units can express, and padding has no part in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import BERTS, Batch, assert_same, batch_of, build, difference, inputs_of, kept_of, outputs
from transformers import BertForSequenceClassification, BertModel

from edgebert.models.surgery import Units, everything, layers_of, prune, shape_of
from edgebert.stages.prune.reconstruct import reconstruct

BATCHES = [batch_of([3, 9, 5], seed=1, padding=2), batch_of([8, 1], seed=2), batch_of([6, 7, 9, 9, 4], seed=3)]
HALVES = ("attention", "ffn")


def output_of(layer: Any, half: str) -> Any:
    """The module whose matrix is fitted."""
    return layer.attention.output if half == "attention" else layer.output


def seen(model: Any, layer: int, half: str, batches: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, Any]:
    """What passes there in whole forward passes, tokens that count: into the matrix, out of it, and into LayerNorm."""
    module = output_of(layers_of(model)[layer], half)
    parts: dict[str, list[Any]] = {"inputs": [], "outputs": [], "sums": []}
    for batch in batches:
        found: dict[str, torch.Tensor] = {}
        handles = [
            module.dense.register_forward_hook(lambda _, given, out, found=found: found.update(inputs=given[0], outputs=out)),
            module.LayerNorm.register_forward_pre_hook(lambda _, given, found=found: found.update(sums=given[0])),
        ]
        with torch.no_grad():
            model(**inputs_of(batch))
        for handle in handles:
            handle.remove()
        for name, values in parts.items():
            values.append(found[name][batch["attention_mask"].bool()].double().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def slow_fit(here: Any, wanted: Any, weight: Any, bias: Any, ridge: float) -> tuple[Any, Any]:
    """The fit by NumPy's least squares: the ridge as rows that ask for no change, the bias as a column of ones."""
    x, residual = here["inputs"], here["sums"] - here["outputs"]
    centred = x - x.mean(axis=0)
    strength = np.sqrt(ridge * max((centred**2).sum(axis=0).mean(), 1e-12))
    width = x.shape[1]
    left = np.block([[x, np.ones((len(x), 1))], [strength * np.eye(width), np.zeros((width, 1))]])
    right = np.vstack([wanted - residual - (x @ weight.T + bias), np.zeros((width, weight.shape[0]))])
    change = np.linalg.lstsq(left, right, rcond=None)[0]
    return weight + change[:-1].T, bias + change[-1]


def assert_fitted(teacher: Any, kept: Mapping[int, Units], ridge: float) -> None:
    """The order of the fits is what makes this so: what comes before a matrix is repaired already, what comes after is not."""
    pruned = prune(teacher, kept)
    student = copy.deepcopy(pruned)
    reconstruct(student, teacher, kept, BATCHES, ridge=ridge)
    for layer, source in enumerate(sorted(kept)):
        for half in HALVES:
            here, wanted = seen(student, layer, half, BATCHES), seen(teacher, source, half, BATCHES)["sums"]
            old, new = (output_of(layers_of(model)[layer], half).dense for model in (pruned, student))
            weight, bias = old.weight.detach().numpy(), old.bias.detach().numpy()
            fitted = slow_fit(here, wanted, weight, bias, ridge)
            np.testing.assert_allclose(new.weight.detach().numpy(), fitted[0], atol=1e-6)
            np.testing.assert_allclose(new.bias.detach().numpy(), fitted[1], atol=1e-6)
            # So the remaining error is never larger than without the repair of this matrix.
            without = here["inputs"] @ weight.T + bias + here["sums"] - here["outputs"] - wanted
            assert ((here["sums"] - wanted) ** 2).sum() <= (without**2).sum() * (1 + 1e-9) + 1e-12


@settings(max_examples=10)
@given(options=BERTS, ridge=st.sampled_from([1e-4, 1e-2, 1.0]), again=st.booleans(), draw=st.data())
def test_every_matrix_is_the_least_squares_fit_to_the_teacher(
    options: dict[str, Any], ridge: float, again: bool, draw: st.DataObject
) -> None:
    teacher = build(BertForSequenceClassification, **options).double()
    if again:
        teacher = prune(teacher, draw.draw(kept_of(shape_of(teacher))))
    assert_fitted(teacher, draw.draw(kept_of(shape_of(teacher))), ridge)


@pytest.mark.parametrize("layers", [(1,), (3,), (0, 2), (1, 3), (0, 3), (0, 1)], ids=str)
def test_layers_that_were_removed_are_made_up_for(layers: tuple[int, ...]) -> None:
    """The layer behind a gap is fitted to the teacher's output behind all of its layers up to there."""
    assert_fitted(build(layers=4).double(), {layer: Units((0, 3), tuple(range(0, 24, 2))) for layer in layers}, 1e-2)


def redundant() -> Any:
    """A BERT with redundant units: heads 1 to 3 attend as head 0 does, head 1 has twice its values, and head 3 a combination
    of the values of 0 and 2; neurons 2 and 5 are multiples of neuron 0, and neuron 7 is constant."""
    model = build(BertForSequenceClassification, layers=2, hidden_act="relu").double()
    with torch.no_grad():
        for layer in layers_of(model):
            attention = layer.attention.self
            for module in (attention.query, attention.key):
                for parameter in (module.weight, module.bias):
                    for head in (1, 2, 3):
                        parameter[8 * head : 8 * head + 8] = parameter[:8]
            for parameter in (attention.value.weight, attention.value.bias):
                parameter[8:16] = 2 * parameter[:8]
                parameter[24:] = parameter[:8] - 0.5 * parameter[16:24]
            for parameter in (layer.intermediate.dense.weight, layer.intermediate.dense.bias):
                parameter[2], parameter[5] = 2 * parameter[0], 0.5 * parameter[0]
            layer.intermediate.dense.weight[7] = 0
            layer.intermediate.dense.bias[7] = 1.5
    return model


REST = Units((0, 2), tuple(neuron for neuron in range(24) if neuron not in (2, 5, 7)))


def test_what_the_remaining_units_can_express_is_restored() -> None:
    """On texts that the fit has not seen, too."""
    teacher, fresh = redundant(), batch_of([4, 12, 7], seed=9, padding=1)
    kept = {0: REST, 1: REST}
    student = prune(teacher, kept)
    assert difference(outputs(student, fresh), outputs(teacher, fresh)) > 0.1
    many = [*BATCHES, *(batch_of([9, 10, 11, 12], seed=seed) for seed in range(10, 20))]
    reconstruct(student, teacher, kept, many, ridge=1e-12)
    assert_same(outputs(student, fresh), outputs(teacher, fresh), 1e-6)


def test_the_usual_ridge_restores_nearly_all_of_it() -> None:
    teacher, fresh = redundant(), batch_of([4, 12, 7], seed=9)
    kept = {0: REST, 1: REST}
    unrepaired, student = prune(teacher, kept), prune(teacher, kept)
    reconstruct(student, teacher, kept, [batch_of([9, 10, 11, 12], seed=seed) for seed in range(10, 20)])
    wanted = outputs(teacher, fresh)
    assert difference(outputs(student, fresh), wanted) < 0.25 * difference(outputs(unrepaired, fresh), wanted)


def test_single_precision_gives_the_same() -> None:
    found = []
    for teacher in (redundant().float(), redundant()):
        student = prune(teacher, {0: REST, 1: REST})
        reconstruct(student, teacher, {0: REST, 1: REST}, BATCHES)
        found.append([value.double() for value in outputs(student, BATCHES[0])])
    assert_same(*found, 1e-3)


def repaired(kept: Mapping[int, Units], batches: Sequence[Batch], **options: Any) -> dict[str, torch.Tensor]:
    teacher = build(BertModel, layers=3, **options).double()
    student = prune(teacher, kept)
    reconstruct(student, teacher, kept, batches)
    weights: dict[str, torch.Tensor] = student.state_dict()
    return weights


KEPT = {0: Units((0, 2), (1, 5, 20)), 2: Units((3,), tuple(range(12)))}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_has_no_influence(attention: str) -> None:
    changed = []
    for batch in BATCHES:
        padding = batch["attention_mask"] == 0
        other = {
            "input_ids": torch.where(padding, 17, batch["input_ids"]),
            "attention_mask": batch["attention_mask"],
            "token_type_ids": torch.where(padding, 1, batch["token_type_ids"]),
        }
        changed.append({name: torch.nn.functional.pad(value, (0, 3)) for name, value in other.items()})
    assert any(
        not torch.equal(one["input_ids"], other["input_ids"][:, :-3]) for one, other in zip(BATCHES, changed, strict=True)
    )
    one, other = (repaired(KEPT, batches, attn_implementation=attention) for batches in (BATCHES, changed))
    assert all(torch.allclose(value, other[name], atol=1e-9, rtol=0) for name, value in one.items())


def test_tokens_that_count_have_influence() -> None:
    changed = [{**BATCHES[0], "input_ids": BATCHES[0]["input_ids"].clone()}, *BATCHES[1:]]
    changed[0]["input_ids"][1, 4] = 1 + changed[0]["input_ids"][1, 4] % 5
    one, other = repaired(KEPT, BATCHES), repaired(KEPT, changed)
    assert max(float((value - other[name]).abs().max()) for name, value in one.items()) > 1e-6


def test_segments_are_the_first_where_none_are_given() -> None:
    bare = [{name: value for name, value in batch.items() if name != "token_type_ids"} for batch in BATCHES]
    zeros = [{**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])} for batch in BATCHES]
    one, other, given = repaired(KEPT, bare), repaired(KEPT, zeros), repaired(KEPT, BATCHES)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not all(torch.equal(value, given[name]) for name, value in one.items())


def test_only_the_output_matrices_of_the_student_change() -> None:
    teacher = build(BertForSequenceClassification, layers=3).double()
    before, student = copy.deepcopy(teacher.state_dict()), prune(teacher, KEPT)
    unrepaired, ticks = copy.deepcopy(student.state_dict()), []
    reconstruct(student, teacher, KEPT, BATCHES, tick=lambda: ticks.append(1))
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, unrepaired[name])}
    ends = ("attention.output.dense.weight", "attention.output.dense.bias", "output.dense.weight", "output.dense.bias")
    assert changed == {f"bert.encoder.layer.{layer}.{end}" for layer in (0, 1) for end in ends}
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in student.parameters())
    assert len(ticks) == 2


def test_a_whole_model_needs_no_repair() -> None:
    teacher = build(BertForSequenceClassification).double()
    student = prune(teacher, everything(teacher))
    reconstruct(student, teacher, everything(teacher), BATCHES)
    assert all(torch.allclose(value, teacher.state_dict()[name], atol=1e-9) for name, value in student.state_dict().items())


def test_a_strong_ridge_leaves_the_matrix_and_moves_the_bias() -> None:
    teacher = build(BertForSequenceClassification).double()
    kept = {0: Units((0, 1), (1, 5, 20)), 1: Units((3,), (0,))}
    pruned = prune(teacher, kept)
    student = copy.deepcopy(pruned)
    reconstruct(student, teacher, kept, BATCHES, ridge=1e9)
    old, new = (layers_of(model)[0].attention.output.dense for model in (pruned, student))
    assert torch.allclose(old.weight, new.weight, atol=1e-6)
    assert float((old.bias - new.bias).detach().abs().max()) > 1e-2
    # The bias alone makes the mean right.
    found, wanted = seen(student, 0, "attention", BATCHES)["sums"], seen(teacher, 0, "attention", BATCHES)["sums"]
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=1e-6)


def test_more_layers_than_are_kept_are_refused() -> None:
    teacher = build(BertModel)
    with pytest.raises(ValueError):
        reconstruct(prune(teacher, everything(teacher)), teacher, {0: everything(teacher)[0]}, BATCHES)
