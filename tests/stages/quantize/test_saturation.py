"""Sums of 8-bit products: where a CPU adds pairs of them in 16 bits, weights of 8 bits overflow and those of 7 bits do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgebert.bundle.opened import serving_of
from edgebert.bundle.read import read_bundle
from edgebert.runtimes import runtime_of_format
from edgebert.runtimes.isa import host_cpu, saturates
from edgebert.stages.quantize.methods import get_method
from edgebert.stages.quantize.settings import Settings

Weights = npt.NDArray[np.int8]
Activations = npt.NDArray[np.uint8]
WIDTHS = {"8 bits": False, "7 bits": True}
ALL_METHODS = ("dynamic", "static", "nncf")


def summed_exactly(activations: Activations, weights: Weights) -> npt.NDArray[np.int64]:
    """(length, k) by (k, n), in integers that cannot overflow."""
    return activations.astype(np.int64) @ weights.astype(np.int64)


def summed_in_pairs(activations: Activations, weights: Weights) -> npt.NDArray[np.int64]:
    """The product by AVX2: vpmaddubsw adds pairs of products in 16 bits, with saturation; the pairs are added in 32 bits."""
    if weights.shape[0] % 2:
        activations, weights = np.pad(activations, ((0, 0), (0, 1))), np.pad(weights, ((0, 1), (0, 0)))
    products = activations.astype(np.int64)[:, :, None] * weights.astype(np.int64)[None]
    pairs = products[:, 0::2] + products[:, 1::2]
    limits = np.iinfo(np.int16)
    return np.asarray(pairs.clip(limits.min, limits.max).sum(axis=1))


@pytest.fixture(scope="module")
def bundle(finished: Path) -> Path:
    return finished / "runs" / "recipe" / "bundle"


@pytest.fixture(scope="module")
def quantized(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """(method, width) -> what it makes of the fine-tuned model's graph."""
    manifest = read_bundle(bundle)
    serving = serving_of(bundle, manifest)
    calibration = tuple(serving.encode(serving.open_tokenizer(), manifest.goldens.rows))
    made = {}
    for name in ALL_METHODS:
        method = get_method(name)
        runtime = runtime_of_format(method.format)
        for width, reduced in WIDTHS.items():
            out = tmp_path_factory.mktemp("quantized")
            source = bundle / runtime.hub.folder / runtime.model_file
            method(reduce_range=reduced).quantize(source, out, Settings(calibration if method.calibrated else ()))
            made[name, width] = out / runtime.model_file
    return made


def multiplied_weights(file: Path) -> list[Weights]:
    """The INT8 matrices of a graph's matrix products, each of shape (k, n). Embedding tables are not multiplied."""
    return _onnx_weights(file) if file.suffix == ".onnx" else _openvino_weights(file)


def _onnx_weights(file: Path) -> list[Weights]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    restored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    found = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm", "MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul"):
            turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            for name in (restored.get(name, name) for name in node.input):
                if name in tensors and tensors[name].data_type == onnx.TensorProto.INT8 and len(tensors[name].dims) == 2:
                    weights = numpy_helper.to_array(tensors[name])
                    found.append(weights.T if turned else weights)
    return found


def _openvino_weights(file: Path) -> list[Weights]:
    import openvino as ov

    found = []
    for node in ov.Core().read_model(str(file)).get_ops():
        if node.get_type_name() == "MatMul":
            source = node.input_value(1).get_node()
            while source.get_type_name() in ("Multiply", "Subtract", "Convert", "Reshape"):
                source = source.input_value(0).get_node()
            if source.get_type_name() == "Constant" and source.get_element_type() == ov.Type.i8:
                weights = np.array(source.get_data())
                found.append(weights.T if node.get_attributes()["transpose_b"] else weights)
    return found


def worst_for(column: Weights) -> Activations:
    """The activations that make a column's sum largest, and those that make it smallest: shape (2, k)."""
    return np.stack([np.where(column > 0, 255, 0), np.where(column < 0, 255, 0)]).astype(np.uint8)


@pytest.mark.parametrize("method", ALL_METHODS)
def test_weights_of_8_bits_overflow_where_products_are_added_in_16(method: str, quantized: dict[tuple[str, str], Path]) -> None:
    for weights in multiplied_weights(quantized[method, "8 bits"]):
        assert np.abs(weights.astype(int)).max() > 64
    wrong = 0
    for weights in multiplied_weights(quantized[method, "8 bits"]):
        for column in weights.T:
            inputs = worst_for(column)
            wrong += int((summed_in_pairs(inputs, weights) != summed_exactly(inputs, weights)).any())
    assert wrong > 0


@pytest.mark.parametrize("method", ALL_METHODS)
def test_weights_of_7_bits_cannot_overflow_at_any_activation(method: str, quantized: dict[tuple[str, str], Path]) -> None:
    narrow, wide = (multiplied_weights(quantized[method, width]) for width in ("7 bits", "8 bits"))
    assert [weights.shape for weights in narrow] == [weights.shape for weights in wide]
    assert len(narrow) >= 12  # six of each layer
    for weights in narrow:
        # No pair of products is larger than this, whatever the activations.
        assert 2 * 255 * int(np.abs(weights.astype(int)).max()) <= np.iinfo(np.int16).max
        assert np.abs(weights.astype(int)).max() >= 60  # and no bit more than needed is given up
        for column in weights.T:
            inputs = worst_for(column)
            np.testing.assert_array_equal(summed_in_pairs(inputs, weights), summed_exactly(inputs, weights))


@given(
    activations=arrays(np.uint8, (2, 6), elements=st.integers(0, 255)),
    weights=arrays(np.int8, (6, 3), elements=st.integers(-64, 64)),
)
def test_pairs_are_exact_for_any_activations_and_any_weights_of_7_bits(activations: Activations, weights: Weights) -> None:
    np.testing.assert_array_equal(summed_in_pairs(activations, weights), summed_exactly(activations, weights))


@pytest.mark.parametrize("weight", [65, -65, 127, -127])
def test_pairs_are_wrong_for_some_activations_at_any_weight_of_more_bits(weight: int) -> None:
    activations, weights = np.full((1, 2), 255, np.uint8), np.full((2, 1), weight, np.int8)
    assert summed_in_pairs(activations, weights) != summed_exactly(activations, weights)


def test_products_of_two_activations_stay_float_or_unsigned_where_7_bits_are_wanted(
    quantized: dict[tuple[str, str], Path],
) -> None:
    """No narrower weights help there. NNCF's are signed; ONNX Runtime multiplies unsigned by unsigned in 32 bits."""
    assert _quantized_products_of_activations(quantized["nncf", "8 bits"])
    assert not _quantized_products_of_activations(quantized["nncf", "7 bits"])
    assert _activation_types(quantized["static", "7 bits"]) == {"UINT8"}


def _quantized_products_of_activations(file: Path) -> list[str]:
    import openvino as ov

    def rounded(value: Any) -> bool:
        node = value.get_node()
        while node.get_type_name() in ("Reshape", "Transpose"):
            node = node.input_value(0).get_node()
        return bool(node.get_type_name() == "FakeQuantize")

    nodes = [node for node in ov.Core().read_model(str(file)).get_ops() if node.get_type_name() == "MatMul"]
    return [node.get_friendly_name() for node in nodes if all(rounded(value) for value in node.input_values())]


def _activation_types(file: Path) -> set[str]:
    import onnx

    graph = onnx.load(file).graph
    zeros = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer}
    return {zeros[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}


ASK_ONEDNN = """
import json, sys
import numpy as np, openvino as ov
compiled = ov.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
ids = np.array([json.loads(sys.argv[2])], np.int64)
inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
names = {name for port in compiled.inputs for name in port.get_names()}
print(json.dumps(compiled({name: value for name, value in inputs.items() if name in names})["logits"][0].tolist()))
"""


def answered(file: Path, ids: tuple[int, ...], isa: str | None) -> npt.NDArray[np.float64]:
    """Logits from OpenVINO's own kernels, held to an instruction set."""
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})}
    command = [sys.executable, "-c", ASK_ONEDNN, str(file), json.dumps(ids)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return np.array(json.loads(done.stdout))


@pytest.mark.skipif(
    saturates(host_cpu().isas) or "avx2" not in host_cpu().isas, reason="needs an x86 CPU with 8-bit dot products"
)
@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE"])
def test_openvino_answers_alike_without_dot_products_when_weights_keep_to_7_bits(
    isa: str, bundle: Path, quantized: dict[tuple[str, str], Path]
) -> None:
    if isa == "AVX512_CORE" and "avx512" not in host_cpu().isas:
        pytest.skip("needs AVX-512")
    ids = read_bundle(bundle).goldens.token_ids[0]
    files = {width: quantized["nncf", width] for width in WIDTHS}
    off = {width: np.abs(answered(file, ids, isa) - answered(file, ids, None)).max() for width, file in files.items()}
    assert off["7 bits"] < 0.1 * off["8 bits"], off
