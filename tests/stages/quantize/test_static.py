"""Static quantisation for ONNX Runtime: what is observed, which ranges are written, what stays float."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from conftest import review_rows
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from edgebert.errors import StageError
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.stages.export import export_onnx
from edgebert.stages.quantize import static
from edgebert.stages.quantize.calibrate import activation_bytes, grouped, tensor_ranges
from edgebert.stages.quantize.observers import LEVELS, MinMax, Ranges, observer_for
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.quantize.static import GraphFormat
from edgebert.tasks.base import Encoded, collate
from edgebert.tasks.text_classification import TextClassification

Array = npt.NDArray[Any]
LAYER = 8  # hidden, query, key, softmax, value, context, FFN's input, GELU
HEAD = 2  # pooler's and classifier's input
METHODS: tuple[Ranges, ...] = get_args(Ranges)
FORMATS: tuple[GraphFormat, ...] = get_args(GraphFormat)
Quantise = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny BERT, two layers, as `export` writes it."""
    path = tmp_path_factory.mktemp("static") / "model.onnx"
    export_onnx(model_template, TextClassification(), path)
    return path


@pytest.fixture(scope="module")
def examples(model_template: Path) -> tuple[Encoded, ...]:
    tokenizer = Tokenizer.from_file(str(model_template / "tokenizer.json"))
    return tuple(TextClassification().encode(tokenizer, review_rows(12), 32))


@pytest.fixture
def quantise(graph: Path, examples: tuple[Encoded, ...], tmp_path: Path) -> Quantise:
    """Quantises the graph, or another one, and loads what was written to tmp_path."""

    def run(source: Path = graph, **settings: Any) -> onnx.ModelProto:
        own = {name: settings.pop(name) for name in static.Static.parameters() if name in settings}
        static.Static(**own).quantize(source, tmp_path, Settings(calibration=examples, **settings))
        model = onnx.load(tmp_path / "model.onnx")
        onnx.checker.check_model(model)
        return model

    return run


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Operator -> how many of it."""
    found: dict[str, int] = {}
    for node in model.graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


def weights_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def feeds(example: Encoded) -> dict[str, Array]:
    return dict(collate([example], length=len(example), pad_id=0))


def logits(path: Path, examples: tuple[Encoded, ...]) -> Array:
    session = get_runtime("onnxruntime").open(path, Target(runtime="onnxruntime"))
    return np.concatenate([session.predict(feeds(example))["logits"] for example in examples])


def values_of(graph: Path, tensors: list[str], examples: tuple[Encoded, ...]) -> dict[str, list[Array]]:
    """Each tensor for each example, by a graph with outputs of its own."""
    model = onnx.load(graph)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(tensors, feeds(example)) for example in examples]
    return {name: [run[index] for run in runs] for index, name in enumerate(tensors)}


def test_inputs_of_products_are_observed_and_outputs_only_for_integer_operators(graph: Path) -> None:
    model = onnx.load(graph)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    inputs = static.activations(model, "qdq")
    assert len(inputs) == len(set(inputs)) == 2 * LAYER + HEAD
    assert not {makers[name] for name in inputs} & {"Add", "MatMul", "Mul", "Where"}
    both = static.activations(model, "qoperator")
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert set(both) == {*inputs, *(node.output[0] for node in products)}
    kept = products[0].name
    assert set(static.activations(model, "qoperator", [kept])) == set(both) - {products[0].output[0]}


@pytest.mark.parametrize("limit", [1, 20_000, 1 << 30])
def test_ranges_are_those_of_all_examples_at_once_however_many_passes_it_takes(
    graph: Path, examples: tuple[Encoded, ...], limit: int
) -> None:
    model = onnx.load(graph)
    tensors = static.activations(model, "qoperator")
    sizes = activation_bytes(model, max(map(len, examples)))
    passes = len(list(grouped({name: sizes[name] for name in tensors}, limit)))
    assert passes == {1: len(tensors), 1 << 30: 1}.get(limit, passes) and (limit != 20_000 or 1 < passes < len(tensors))
    found = tensor_ranges(model, tensors, [feeds(example) for example in examples], lambda _: MinMax(), limit=limit)
    for name, values in values_of(graph, tensors, examples).items():
        expected = min(0, *(float(value.min()) for value in values)), max(0, *(float(value.max()) for value in values))
        assert found[name] == pytest.approx(expected, rel=1e-4, abs=1e-5), name


def test_bytes_of_activations_are_those_that_a_text_takes(graph: Path, examples: tuple[Encoded, ...]) -> None:
    model = onnx.load(graph)
    tensors = static.activations(model, "qdq")
    sizes = activation_bytes(model, len(examples[0]))
    values = values_of(graph, tensors, examples[:1])
    assert {name: sizes[name] for name in tensors} == {name: value[0].nbytes for name, value in values.items()}


@pytest.mark.parametrize("method", METHODS)
def test_written_scales_are_those_of_the_observed_ranges(
    method: Ranges, graph: Path, examples: tuple[Encoded, ...], quantise: Quantise
) -> None:
    written = quantise(ranges=method, **({"percentile": 98.0} if method == "percentile" else {}))
    weights = weights_of(written)
    tensors = static.activations(onnx.load(graph), "qdq")
    makers = {node.input[0]: node for node in written.graph.node if node.op_type == "QuantizeLinear"}
    assert set(tensors) <= set(makers)
    for name, values in values_of(graph, tensors, examples).items():
        observer = MinMax() if "softmax" in name else observer_for(method, 98.0)
        for value in values:
            observer.observe(value)
        low, high = observer.range()
        scale, zero = (weights[tensor] for tensor in makers[name].input[1:])
        assert scale == pytest.approx((high - low) / (LEVELS - 1), rel=1e-2)
        assert zero.dtype == np.uint8 and int(zero) == pytest.approx(-low / scale, abs=3)


def test_methods_and_percentiles_give_different_ranges(quantise: Quantise) -> None:
    choices = [{"ranges": method} for method in METHODS] + [{"ranges": "percentile", "percentile": 95.0}]
    written = [quantise(**choice) for choice in choices]
    name = next(node.input[1] for node in written[0].graph.node if node.op_type == "QuantizeLinear" and "gelu" in node.input[0])
    scales = [float(weights_of(model)[name]) for model in written]
    assert len(set(scales)) == len(choices) and max(scales) == scales[0]


def test_qdq_rounds_inputs_of_products_and_embeddings_and_nothing_else(quantise: Quantise) -> None:
    model = quantise()
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and makers.get(node.input[0]) == "QuantizeLinear":
            source = next(q.input[0] for q in model.graph.node if q.output[0] == node.input[0])
            assert readers[node.output[0]] <= {"MatMul", "Gemm"} or makers[source] == "Gather"
        if node.op_type in ("MatMul", "Gemm"):
            assert {makers[name] for name in node.input} == {"DequantizeLinear"}
            assert "QuantizeLinear" not in readers.get(node.output[0], set())
        if node.op_type in ("LayerNormalization", "Softmax"):
            assert makers[node.input[0]] != "DequantizeLinear"


def test_qoperator_gives_integer_operators(graph: Path, quantise: Quantise) -> None:
    before, after = kinds(onnx.load(graph)), kinds(quantise(graph_format="qoperator"))
    assert after["QLinearMatMul"] == before["MatMul"] and after["QGemm"] == before["Gemm"]
    assert not {"MatMul", "Gemm"} & set(after)
    for float_operator in ("Add", "LayerNormalization", "Softmax", "Gelu"):
        assert after[float_operator] == before[float_operator]


@pytest.mark.parametrize("graph_format", FORMATS)
@pytest.mark.parametrize("method", METHODS)
def test_answers_stay_near_those_of_fp32(
    method: Ranges, graph_format: GraphFormat, graph: Path, examples: tuple[Encoded, ...], quantise: Quantise, tmp_path: Path
) -> None:
    quantise(ranges=method, graph_format=graph_format)
    before, after = logits(graph, examples), logits(tmp_path / "model.onnx", examples)
    assert 0 < np.abs(after - before).mean() < 0.5 * before.std()


@pytest.mark.parametrize("graph_format", FORMATS)
def test_weights_keep_to_seven_bits_when_asked(graph_format: GraphFormat, quantise: Quantise) -> None:
    for reduced, most in ((False, 127), (True, 64)):
        model = quantise(graph_format=graph_format, reduce_range=reduced)
        largest = [
            int(np.abs(value.astype(int)).max())
            for value in weights_of(model).values()
            if value.dtype == np.int8 and value.ndim > 1
        ]
        assert len(largest) == 14 and max(largest) == most
        assert (
            max(int(value.max()) for value in weights_of(model).values() if value.dtype == np.uint8 and value.ndim > 1) == 255
        )


@pytest.mark.parametrize("graph_format", FORMATS)
def test_named_nodes_stay_float(graph_format: GraphFormat, graph: Path, quantise: Quantise) -> None:
    names = ("bert.encoder.layer.1.output.dense/MatMul", "classifier/Gemm")
    before = {node.name: node for node in onnx.load(graph).graph.node}
    after = {node.name: node for node in quantise(excluded_nodes=names, graph_format=graph_format).graph.node}
    weights = weights_of(quantise(excluded_nodes=names, graph_format=graph_format))
    for name in names:
        assert after[name].op_type == before[name].op_type
        assert after[name].input[1] == before[name].input[1] and weights[after[name].input[1]].dtype == np.float32
    with pytest.raises(StageError, match="no node dense"):
        quantise(excluded_nodes=("dense",))


@pytest.mark.parametrize("graph_format", FORMATS)
def test_weights_have_a_scale_for_each_channel_or_one_in_all(graph_format: GraphFormat, quantise: Quantise) -> None:
    def scales(per_channel: bool) -> set[int]:
        model = quantise(per_channel=per_channel, graph_format=graph_format)
        weights = weights_of(model)
        matrices = {name for name, value in weights.items() if value.dtype == np.int8 and value.ndim > 1}
        return {weights[name.removesuffix("_quantized") + "_scale"].size for name in matrices}

    assert scales(False) == {1}
    assert scales(True) == {2, 32, 64}


@pytest.mark.parametrize("graph_format", FORMATS)
def test_embeddings_stay_float_when_asked(graph_format: GraphFormat, quantise: Quantise) -> None:
    def tables(embeddings: bool) -> set[Any]:
        found = weights_of(quantise(embeddings=embeddings, graph_format=graph_format))
        return {value.dtype for name, value in found.items() if "embeddings.weight" in name and value.ndim > 1}

    assert tables(True) == {np.dtype(np.uint8)}
    assert tables(False) == {np.dtype(np.float32)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_activation_that_is_not_finite_is_named(
    method: Ranges, value: float, graph: Path, quantise: Quantise, tmp_path: Path
) -> None:
    model = onnx.load(graph)
    nodes = {node.name: node for node in model.graph.node}
    name = nodes["bert.encoder.layer.1.intermediate.dense/MatMul"].input[1]
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    broken = numpy_helper.to_array(weight).copy()
    broken[3] = value
    weight.CopyFrom(numpy_helper.from_array(broken, name))
    gelu = nodes["bert.encoder.layer.1.output.dense/MatMul"].input[0]
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(StageError, match=f"The activation {gelu} is not a finite number for calibration example 1"):
        quantise(tmp_path / "broken.onnx", ranges=method)
    assert not (tmp_path / "model.onnx").exists()


def test_tensors_whose_type_onnx_does_not_know_are_quantised(graph: Path, quantise: Quantise, tmp_path: Path) -> None:
    model = onnx.load(graph)
    gelu = [node for node in model.graph.node if node.op_type == "Gelu"]
    assert gelu
    for node in gelu:
        node.domain = "com.microsoft"
        del node.attribute[:]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    written = quantise(tmp_path / "foreign.onnx")
    assert {node.output[0] for node in gelu} <= {n.input[0] for n in written.graph.node if n.op_type == "QuantizeLinear"}
