"""Coverage counts what was executed: held against MACs counted by hand, on graphs of BERT's shape and on single operators."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from conftest import RECIPE, write_reviews
from fake_stages import NOT_IN_A_RECIPE, with_stages
from notes import Notes

from edgebert.core.store import Artifact, ArtifactStore
from edgebert.errors import StageError
from edgebert.measure.coverage import onnx_products, openvino_products
from edgebert.measure.coverage.coverage import measure_coverage
from edgebert.measure.coverage.products import Executed, Product
from edgebert.measure.coverage.worker import CoverageJob, coverage, measure
from edgebert.measure.machine.environment import read_environment
from edgebert.report.gates import Gate
from edgebert.report.rounds import Coverage
from edgebert.runtimes.onnxruntime import open_session, session_options
from edgebert.runtimes.openvino import convert_to_openvino
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.export import Export
from edgebert.stages.prune.latency.layer_graphs import GraphSizes, StackSizes, write_graph
from edgebert.stages.quantize.dynamic import Dynamic
from edgebert.stages.quantize.nncf import Nncf
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.quantize.static import Static
from edgebert.tasks.base import Encoded

SIZES = GraphSizes(256, 32, (StackSizes(8, 1024), StackSizes(4, 512)), positions=64)
"""Two unequal layers, as pruning leaves them: 8 heads of 8 and 4 of 8."""
LENGTH = 24
WHOLE_QDQ_STAYS = ("QDQSelectorActionTransformer",)
"""What else would turn a QDQ graph into integer kernels."""


def projections(sizes: GraphSizes, layer: StackSizes, tokens: int) -> int:
    """MACs of the products of one layer that have weights."""
    width = (layer.heads or 0) * sizes.head_size
    return tokens * sizes.hidden_size * (4 * width + 2 * (layer.neurons or 0))


def scores(sizes: GraphSizes, layer: StackSizes, batch: int, length: int) -> int:
    """MACs of queries by keys in one layer, and of shares by values as well."""
    return batch * (layer.heads or 0) * length * length * sizes.head_size


def head(sizes: GraphSizes, batch: int) -> int:
    """MACs of pooler and classifier, of two labels."""
    return batch * sizes.hidden_size * (sizes.hidden_size + 2)


def with_weights(sizes: GraphSizes, batch: int = 1, length: int = LENGTH) -> int:
    return sum(projections(sizes, layer, batch * length) for layer in sizes.layers) + head(sizes, batch)


def without_weights(sizes: GraphSizes, batch: int = 1, length: int = LENGTH) -> int:
    return sum(2 * scores(sizes, layer, batch, length) for layer in sizes.layers)


def everything(sizes: GraphSizes, batch: int = 1, length: int = LENGTH) -> int:
    return with_weights(sizes, batch, length) + without_weights(sizes, batch, length)


def settings(**changes: Any) -> Settings:
    texts = tuple(Encoded(tuple(range(5, 5 + length)), (0,) * length) for length in (12, LENGTH))
    return Settings(**{"calibration": texts, **changes})


def counted(model: Path, folder: Path, length: int = LENGTH, **target: Any) -> Coverage:
    """What a model runs, in this process."""
    runtime = "openvino" if model.suffix == ".xml" else "onnxruntime"
    folder.mkdir(exist_ok=True)
    chosen = Target(**{"runtime": runtime, **target})
    return measure(CoverageJob(model=str(model), target=chosen, length=length, folder=str(folder)))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32.onnx, fp32.xml, and what each method makes of them, in folders of its name. Do not write into it."""
    folder = tmp_path_factory.mktemp("models")
    write_graph(SIZES, folder / "fp32.onnx")
    convert_to_openvino(folder / "fp32.onnx", folder / "fp32.xml")
    for method, source in ((Dynamic(), "fp32.onnx"), (Static(), "fp32.onnx"), (Nncf(), "fp32.xml")):
        (folder / method.method).mkdir()
        method.quantize(folder / source, folder / method.method, settings())
    return folder


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml"])
@pytest.mark.parametrize(("batch", "length"), [(1, LENGTH), (3, 32)], ids=["one text", "three texts"])
def test_fp32_runs_nothing_in_int8_and_all_its_products_are_counted(
    models: Path, tmp_path: Path, name: str, batch: int, length: int
) -> None:
    found = counted(models / name, tmp_path / "out", length, batch=batch)
    assert (found.int8_macs, found.all_macs) == (0, everything(SIZES, batch, length))
    assert (found.batch, found.length) == (batch, length)
    assert sum(product.macs for product in found.float_products) == found.all_macs
    assert len(found.float_products) == len(SIZES.layers) * 8 + 2
    assert all(math.prod(product.shape) == product.macs for product in found.float_products)


def test_dynamic_quantisation_runs_all_products_that_have_weights_in_int8(models: Path, tmp_path: Path) -> None:
    found = counted(models / "dynamic" / "model.onnx", tmp_path / "out", batch=2)
    assert (found.int8_macs, found.all_macs) == (with_weights(SIZES, 2), everything(SIZES, 2))
    assert found.share > 0.95
    assert [product.shape for product in found.float_products] == [
        (2, 8, LENGTH, 32, LENGTH),
        (2, 8, LENGTH, LENGTH, 32),
        (2, 4, LENGTH, 32, LENGTH),
        (2, 4, LENGTH, LENGTH, 32),
    ]
    assert sum(count for name, count in found.kernels.items() if name in onnx_products.INT8) == len(SIZES.layers) * 6 + 2


@pytest.mark.parametrize("graph_format", ["qdq", "qoperator"])
def test_static_quantisation_runs_in_int8_what_the_runtime_fuses(models: Path, tmp_path: Path, graph_format: Any) -> None:
    (tmp_path / "made").mkdir()
    Static(graph_format=graph_format).quantize(models / "fp32.onnx", tmp_path / "made", settings())
    found = counted(tmp_path / "made" / "model.onnx", tmp_path / "out")
    assert found.all_macs == everything(SIZES)
    assert found.share > 0.9


def test_qdq_runs_nothing_in_int8_when_nothing_fuses_it(models: Path, tmp_path: Path) -> None:
    model = models / "static" / "model.onnx"
    found = counted(model, tmp_path / "out", disabled_optimizers=WHOLE_QDQ_STAYS)
    assert (found.int8_macs, found.all_macs) == (0, everything(SIZES))
    assert found.kernels["DequantizeLinear"] > counted(model, tmp_path / "fused").kernels["DequantizeLinear"]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_layer_that_is_kept_float_is_missing_from_the_share(models: Path, tmp_path: Path, kept: int) -> None:
    import onnx

    nodes = onnx.load(models / "fp32.onnx").graph.node
    names = [node.name for node in nodes if any(source.startswith(f"{kept}.") for source in node.input)]
    (tmp_path / "made").mkdir()
    Dynamic().quantize(models / "fp32.onnx", tmp_path / "made", settings(excluded_nodes=tuple(names)))
    found = counted(tmp_path / "made" / "model.onnx", tmp_path / "out")
    expected = with_weights(SIZES) - projections(SIZES, SIZES.layers[kept], LENGTH)
    assert (found.int8_macs, found.all_macs) == (expected, everything(SIZES))
    assert found.share == pytest.approx(expected / everything(SIZES))
    assert {product.name for product in found.float_products} >= {name for name in names if "MatMul" in name}
    assert [product.macs for product in found.float_products] == sorted(
        (product.macs for product in found.float_products), reverse=True
    )


def test_nncf_runs_all_products_that_have_weights_in_int8(models: Path, tmp_path: Path) -> None:
    found = counted(models / "nncf" / "openvino_model.xml", tmp_path / "out")
    assert found.all_macs == everything(SIZES)
    assert found.int8_macs >= with_weights(SIZES)
    assert found.share > 0.9
    assert all("FullyConnected" not in product.op for product in found.float_products)


def test_nncf_attention_runs_in_int8_only_as_far_as_its_inputs_are(models: Path, tmp_path: Path) -> None:
    found = counted(models / "nncf" / "openvino_model.xml", tmp_path / "out")
    floats = {product.shape for product in found.float_products}
    for layer in SIZES.layers:
        assert (1, layer.heads, LENGTH, LENGTH, 32) in floats  # NNCF leaves shares and values as they are
        if "avx512_vnni" in read_environment().isa:  # others may have no such kernel
            assert (1, layer.heads, LENGTH, 32, LENGTH) not in floats  # queries by keys, both quantised


def test_a_product_that_openvino_hides_counts_as_float() -> None:
    seen = Product("a", "FullyConnected", (2, 3, 5), int8=True)
    job = CoverageJob(model="", target=Target(runtime="openvino"), length=2, folder="")
    found = coverage(Executed((seen,), {"FullyConnected": 1}, macs=50), job, rate=1e9)
    assert (found.int8_macs, found.all_macs) == (30, 50)
    assert [product.macs for product in found.float_products] == [20]
    assert found.roofline_ms == pytest.approx(50 / 1e9 * 1e3)


# One operator each: what it is given, and the MACs and INT8 MACs of what it then does.
def weights(*shape: int, kind: Any = np.float32) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).uniform(-1, 1, shape)
    return values.astype(kind) if kind == np.float32 else (values * 100).astype(kind)


ONE, NOUGHT = np.float32(0.01), np.uint8(128)
BERT_ATTENTION = 2 * 6 * 16 * 3 * 16 + 2 * (2 * 6 * 6 * 16)
"""2 texts of 6 tokens, 16 wide."""
MS = "com.microsoft"
# A case a line or two, which the formatter would make eight of.
SINGLE: Mapping[str, tuple[str, str, list[Any], Mapping[str, Any], int, int]] = {
    "matmul of a batch by a batch": ("MatMul", "", [weights(2, 3, 4, 5), weights(2, 3, 5, 6)], {}, 2 * 3 * 4 * 5 * 6, 0),
    "matmul of a matrix by a batch": ("MatMul", "", [weights(4, 5), weights(3, 5, 6)], {}, 3 * 4 * 5 * 6, 0),
    "gemm, left transposed": ("Gemm", "", [weights(5, 4), weights(5, 6)], {"transA": 1}, 4 * 5 * 6, 0),
    "fused matmul, left transposed":
        ("FusedMatMul", MS, [weights(2, 5, 4), weights(2, 5, 6)], {"transA": 1}, 2 * 4 * 5 * 6, 0),
    "fused matmul, batch transposed":
        ("FusedMatMul", MS, [weights(4, 2, 5), weights(2, 5, 6)], {"transBatchA": 1}, 2 * 4 * 5 * 6, 0),
    "integer matmul": ("MatMulInteger", "", [weights(2, 4, 5, kind=np.uint8), weights(5, 6, kind=np.int8)], {}, 240, 240),
    "attention with projections":
        ("Attention", MS, [weights(2, 6, 16), weights(16, 48), weights(48)], {"num_heads": 4}, BERT_ATTENTION, 0),
    "attention with integer projections": ("QAttention", MS,
        [weights(2, 6, 16, kind=np.uint8), weights(16, 48, kind=np.int8), weights(48), ONE, ONE, "", NOUGHT, np.int8(0)],
        {"num_heads": 4}, BERT_ATTENTION, 2 * 6 * 16 * 48),
    "attention of a query to another text": ("MultiHeadAttention", MS,
        [weights(2, 6, 16), weights(2, 9, 16), weights(2, 9, 24)], {"num_heads": 4}, 2 * 6 * 9 * (16 + 24), 0),
    "attention by heads": ("Attention", "",
        [weights(2, 4, 6, 8), weights(2, 4, 9, 8), weights(2, 4, 9, 8)], {}, 2 * 4 * 6 * 9 * (8 + 8), 0),
}  # fmt: skip
"""Operator, domain, inputs (the first is fed, the others are constants unless they too are activations), attributes."""


def one_node(file: Path, op: str, domain: str, inputs: list[Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Writes a graph of one operator. Returns its feeds: constants are the matrices that a model would have as weights."""
    from onnx import TensorProto, helper, numpy_helper

    named = {f"input_{index}": np.asarray(value) for index, value in enumerate(inputs) if not isinstance(value, str)}
    constant = {name for name, value in named.items() if value.ndim <= 2 and name != "input_0"}
    names = [f"input_{index}" if f"input_{index}" in named else "" for index in range(len(inputs))]
    integer = op == "MatMulInteger"
    graph = helper.make_graph(
        [helper.make_node(op, names, ["output"], name="the node", domain=domain, **attributes)],
        "single",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in named.items()
            if name not in constant
        ],
        [helper.make_tensor_value_info("output", TensorProto.INT32 if integer else TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in named.items() if name in constant],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    file.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return {name: value for name, value in named.items() if name not in constant}


def run_one(file: Path, feeds: Mapping[str, Any], folder: Path) -> tuple[Product, ...]:
    """What ONNX Runtime did for it."""
    folder.mkdir()
    return onnx_products.executed(file, Target(runtime="onnxruntime"), dict(feeds), folder).products


@pytest.mark.parametrize("case", SINGLE.values(), ids=SINGLE)
def test_the_macs_of_an_operator_are_those_of_its_definition(tmp_path: Path, case: tuple[Any, ...]) -> None:
    op, domain, inputs, attributes, macs, int8 = case
    feeds = one_node(tmp_path / "model.onnx", op, domain, inputs, attributes)
    found = run_one(tmp_path / "model.onnx", feeds, tmp_path / "out")
    assert sum(product.macs for product in found) == macs
    assert sum(product.macs for product in found if product.int8) == int8


def four_bits(folder: Path, accuracy_level: int) -> tuple[Product, ...]:
    inner, columns, block = 64, 48, 32
    inputs = [
        weights(2, 3, inner),
        np.random.default_rng(0).integers(0, 255, (columns, inner // block, block // 2), dtype=np.uint8),
        weights(columns, inner // block),
    ]
    attributes = {"K": inner, "N": columns, "bits": 4, "block_size": block, "accuracy_level": accuracy_level}
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMulNBits", ["a", "b", "c"], ["d"], name="n", domain="com.microsoft", **attributes)],
        "bits",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, inputs[0].shape)],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(inputs[1], "b"), numpy_helper.from_array(inputs[2], "c")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    folder.mkdir()
    (folder / "model.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return run_one(folder / "model.onnx", {"a": inputs[0]}, folder / "out")


@pytest.mark.parametrize(("accuracy_level", "int8"), [(0, False), (1, False), (4, True)])
def test_weights_of_few_bits_run_in_int8_only_when_the_activations_do(tmp_path: Path, accuracy_level: int, int8: bool) -> None:
    (product,) = four_bits(tmp_path / "bits", accuracy_level)
    assert (product.shape, product.int8) == ((2, 3, 64, 48), int8)


def test_the_profile_sees_the_kernels_of_the_target_and_the_model_answers_as_ever(models: Path, tmp_path: Path) -> None:
    target = Target(runtime="onnxruntime", disabled_optimizers=("SkipLayerNormFusion", "BiasGeluFusion"))
    plain = counted(models / "dynamic" / "model.onnx", tmp_path / "plain")
    tuned = counted(
        models / "dynamic" / "model.onnx", tmp_path / "tuned", disabled_optimizers=target.options.disabled_optimizers
    )
    assert "SkipLayerNormalization" in plain.kernels and "SkipLayerNormalization" not in tuned.kernels
    assert open_session(models / "dynamic" / "model.onnx", target, session_options(target)).get_outputs()[0].name == "logits"


@pytest.mark.parametrize("name", ["dynamic/model.onnx", "nncf/openvino_model.xml"])
def test_the_process_counts_the_same_and_measures_a_rate(models: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "process").mkdir()
    runtime = "openvino" if name.endswith("xml") else "onnxruntime"
    found = measure_coverage(models / name, Target(runtime=runtime), LENGTH, tmp_path / "process")
    here = counted(models / name, tmp_path / "here")
    same = found.model_copy(update={"int8_macs_per_second": here.int8_macs_per_second})
    assert same == here
    assert 1e8 < found.int8_macs_per_second < 1e15
    assert found.roofline_ms == pytest.approx(1e3 * found.all_macs / found.int8_macs_per_second)


@pytest.mark.parametrize("reader", [onnx_products, openvino_products], ids=["onnxruntime", "openvino"])
def test_the_rate_is_that_of_an_int8_product(reader: Any) -> None:
    runtime: Any = "openvino" if reader is openvino_products else "onnxruntime"
    run: Callable[[], Any] = reader.int8_product(Target(runtime=runtime), (8, 32, 16))
    assert np.asarray(run()[0]).shape == (8, 16)


def append_einsum(source: Path, target: Path) -> None:
    """The same model, its logits multiplied by the identity in a way that is not counted."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.eye(2, dtype=np.float32), "identity"))
    model.graph.node.append(helper.make_node("Einsum", ["before", "identity"], ["logits"], equation="bi,ij->bj"))
    onnx.save(model, target)


class Uncounted(Stage):
    """A candidate with a product that cannot be counted.

    Sample:

        - uncounted
    """

    stage: Literal["uncounted"] = "uncounted"

    version: ClassVar[int] = 1
    accepts: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    graph_precision: ClassVar[Literal["fp32", "int8"]] = "int8"
    final: ClassVar[bool] = True

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes an ONNX folder."""
        append_einsum(source.path / "model.onnx", context.out / "model.onnx")
        return {}


def test_a_product_that_cannot_be_counted_is_an_error_that_says_which(models: Path, tmp_path: Path) -> None:
    append_einsum(models / "fp32.onnx", tmp_path / "model.onnx")
    with pytest.raises(StageError, match="Einsum cannot be counted"):
        measure_coverage(tmp_path / "model.onnx", Target(runtime="onnxruntime"), LENGTH, tmp_path)


@pytest.mark.slow
def test_a_run_goes_on_and_its_gate_fails_when_coverage_cannot_be_read(model_dir: Path, tmp_path: Path) -> None:
    from edgebert.compress.run import compress

    write_reviews(tmp_path / "data")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    bounds = ({"metric": "int8_coverage", "min": 0.0}, {"metric": "accuracy", "min": 0.0})
    gates = tuple(map(Gate.model_validate, bounds))
    file, notes = with_stages(tmp_path / "recipe.yaml", Export(), Uncounted(), gates=gates), Notes()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NOT_IN_A_RECIPE)
        outcome = compress(file, store=ArtifactStore(tmp_path / "store"), out=tmp_path / "run", progress=notes)
    fp32, candidate = outcome.report.entries
    assert outcome.report.value(fp32, "int8_coverage") == 0.0 and fp32.coverage and fp32.coverage.roofline_ms > 0
    assert candidate.coverage is None
    assert any("not known" in line and "Einsum" in line for line in notes.lines)
    assert outcome.verdict.status == "FAILED"
    assert outcome.verdict.best.failures == ("int8_coverage >= 0: not measured on the candidate",)
