"""Fake quantisation computes what onnxruntime's dynamic INT8 computes, lets gradients through, and leaves nothing behind."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.quantization.quant_utils import quantize_data
from tiny_bert import BATCHES, KINDS, Batch, assert_same, batch_of, build, difference, outputs, summed_loss
from transformers import BertForSequenceClassification

from edgebert.models.fake_quant import fake_quantized, rounded_inputs_of, rounded_weight_of
from edgebert.models.surgery import Units, layers_of, prune
from edgebert.stages.export import export_onnx
from edgebert.stages.quantize.dynamic import Dynamic
from edgebert.stages.quantize.settings import Settings
from edgebert.tasks import get_task


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    """With a long tail, as activations have."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) ** 3


def pruned() -> Any:
    return prune(build(), {0: Units((0, 3), tuple(range(9))), 1: Units((1,), (0, 5))})


@pytest.mark.parametrize("bits", [8, 7])
def test_weights_round_as_onnxruntime_rounds_them(bits: int) -> None:
    weight = values(6, 50)
    weight[3] = 0
    weight[4] = weight[4].abs()
    wanted = []
    for row in weight.numpy():
        zero, scale, codes = quantize_data(row, TensorProto.INT8, True, reduce_range=bits == 7)
        wanted.append((codes.astype(np.float32) - zero) * scale)
    np.testing.assert_array_equal(rounded_weight_of(weight, bits=bits).numpy(), np.stack(wanted))


def dynamically_quantized(tensor: torch.Tensor) -> Any:
    """By onnxruntime's own operator, and back."""
    codes = ("codes", "scale", "zero")
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], codes), helper.make_node("DequantizeLinear", codes, ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    graph.ir_version = 9
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": tensor.numpy()})[0]


def test_inputs_round_as_onnxruntime_rounds_them_one_example_at_a_time() -> None:
    inputs = torch.stack([values(5, 16), values(5, 16, seed=1) * 100, values(5, 16).abs() + 3, -values(5, 16).abs() - 3])
    inputs = torch.cat([inputs, torch.zeros(1, 5, 16)])
    found = rounded_inputs_of(inputs)
    for row, one in zip(found, inputs, strict=True):
        np.testing.assert_allclose(row.numpy(), dynamically_quantized(one), rtol=1e-6, atol=0)
    texts = rounded_inputs_of(inputs[:, 0])  # one vector for each text
    for row, vector in zip(texts, inputs[:, 0], strict=True):
        np.testing.assert_allclose(row.numpy(), dynamically_quantized(vector), rtol=1e-6, atol=0)


def test_padding_has_no_say_in_a_range() -> None:
    inputs, tokens = values(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    tokens[0, 4:] = False
    inputs[0, 4:] *= 1000
    found = rounded_inputs_of(inputs, tokens)
    torch.testing.assert_close(found[0, :4], rounded_inputs_of(inputs[:1, :4])[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1], rounded_inputs_of(inputs[1:])[0], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: build(layers=2), pruned], ids=["bert", "pruned"])
def test_a_model_answers_as_onnxruntime_makes_it_answer(make: Any, tmp_path: Path) -> None:
    """Not to the last bit: a value between two codes may fall to either, by another order of additions."""
    model, task = make(), get_task("text-classification")
    model.save_pretrained(tmp_path / "model")
    export_onnx(tmp_path / "model", task, tmp_path / "model.onnx")
    (tmp_path / "int8").mkdir()
    Dynamic().quantize(tmp_path / "model.onnx", tmp_path / "int8", Settings(embeddings=False))
    session = onnxruntime.InferenceSession(tmp_path / "int8" / "model.onnx", providers=["CPUExecutionProvider"])
    ours, theirs, whole = [], [], []
    for seed, length in enumerate([3, 5, 8, 11, 4, 9]):
        batch = batch_of([length], seed=seed)
        theirs.append(session.run(["logits"], {name: value.numpy() for name, value in batch.items()})[0])
        with fake_quantized(model), torch.no_grad():
            ours.append(model(**batch).logits.numpy())
        with torch.no_grad():
            whole.append(model(**batch).logits.numpy())
    error = np.concatenate(theirs) - np.concatenate(whole)
    left = np.concatenate(theirs) - np.concatenate(ours)
    assert np.abs(error).max() > 1e-3
    assert np.sqrt((left**2).mean()) < 0.2 * np.sqrt((error**2).mean())


@settings(max_examples=20)
@given(kind=st.sampled_from(list(KINDS)), batch=BATCHES, bits=st.sampled_from([8, 7]))
def test_texts_answer_in_a_batch_as_alone_and_the_model_is_itself_afterwards(kind: Any, batch: Batch, bits: int) -> None:
    model = build(kind)
    before, names = outputs(model, batch), list(model.state_dict())
    with fake_quantized(model, bits=bits):
        together = outputs(model, batch)
        assert list(model.state_dict()) == names
        if kind is BertForSequenceClassification:
            apart = [
                float(
                    (
                        outputs(model, {name: value[row : row + 1, :length] for name, value in batch.items()})[0][0]
                        - together[0][row]
                    )
                    .abs()
                    .max()
                )
                for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist())
            ]
            # A product of another shape adds up in another order: a value at the border of two steps may go to the other one.
            assert sum(value > 1e-3 for value in apart) <= 1 and max(apart) < difference(together, before)
    assert difference(together, before) > 1e-4
    assert_same(outputs(model, batch), before, 0)
    assert not any("forward" in vars(module) or module._forward_pre_hooks for module in model.modules())


def test_fewer_bits_err_more() -> None:
    model, batch = build(), batch_of([5, 9])
    wanted, errors = outputs(model, batch), []
    for bits in (8, 7):
        with fake_quantized(model, bits=bits):
            errors.append(difference(outputs(model, batch), wanted))
    assert 0 < errors[0] < errors[1]


def test_an_error_inside_leaves_nothing_behind() -> None:
    model = build()
    with pytest.raises(KeyError), fake_quantized(model):
        raise KeyError
    assert not any("forward" in vars(module) or module._forward_pre_hooks for module in model.modules())


def test_gradients_pass_straight_through_the_rounding() -> None:
    linear = torch.nn.Linear(16, 4)
    inputs = values(3, 5, 16).requires_grad_()
    with fake_quantized(linear):
        found = linear(inputs)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    rounded = rounded_inputs_of(inputs.detach())
    assert linear.weight.grad is not None and linear.bias.grad is not None and inputs.grad is not None
    wanted = [torch.einsum("bto,bti->oi", weight, rounded), weight @ rounded_weight_of(linear.weight.detach())]
    assert_same([linear.weight.grad, inputs.grad, linear.bias.grad], [*wanted, weight.sum(dim=(0, 1))])


@pytest.mark.parametrize("lower", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("make", [build, pruned], ids=["bert", "pruned"])
def test_gradients_reach_every_weight_that_reaches_the_answer(make: Any, lower: bool) -> None:
    model, batch = make(), batch_of([3, 7], padding=2, labels=3)
    plain = copy.deepcopy(model)
    summed_loss(plain, batch).backward()
    with fake_quantized(model), torch.autocast("cpu", torch.bfloat16, enabled=lower):
        summed_loss(model, batch).backward()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None and ours.grad.dtype == torch.float32, name
        assert torch.isfinite(ours.grad).all(), name
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])  # type: ignore[union-attr]
    wanted = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()])  # type: ignore[union-attr]
    assert float(torch.cosine_similarity(found, wanted, dim=0)) > 0.95


def test_training_through_the_rounding_makes_a_model_that_stands_it() -> None:
    """The same weights, trained to answer as they did before: after rounding they come closer."""
    model, batch = build(layers=1), batch_of([5, 9, 7, 6])
    with torch.no_grad():
        for layer in layers_of(model):  # one weight in each row takes most of the range
            layer.intermediate.dense.weight[:, 0] += 8
            layer.output.dense.weight[:, 1] += 8
    wanted = outputs(model, batch)[0]
    optimizer, errors = torch.optim.Adam(model.parameters(), lr=1e-3), []
    with fake_quantized(model):
        for _ in range(60):
            error = torch.nn.functional.mse_loss(model(**batch).logits, wanted)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            errors.append(error.item())
    assert min(errors[-10:]) < 0.3 * errors[0]
