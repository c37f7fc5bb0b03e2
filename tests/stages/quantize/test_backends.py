"""neural-compressor, NNCF with accuracy control and weights by blocks, on a tiny pruned BERT; and the folding of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from conftest import review_rows, write_table
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from stage_runs import inputs_of, make_bench

from edgebert.compress.compression import Compression
from edgebert.compress.layout import BASE
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.prepared import DataSpec, prepare_data
from edgebert.models.load import load_model, save_model
from edgebert.models.surgery import Units, prune
from edgebert.runtimes import get_runtime
from edgebert.runtimes.openvino import convert_to_openvino
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.export import export_onnx
from edgebert.stages.quantize import Quantize, neural_compressor
from edgebert.stages.quantize.fold import fold_weights
from edgebert.stages.quantize.neural_compressor import NeuralCompressor
from edgebert.stages.quantize.nncf_accuracy import NncfAccuracy
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.quantize.weight_only import WeightOnly
from edgebert.stages.scorer import Scorer
from edgebert.tasks import get_task
from edgebert.tasks.base import Batch, Encoded

TASK = get_task("text-classification")
LABELS = ("negative", "positive")
AnyScorer = TypeVar("AnyScorer", bound=Scorer)
LINEAR = 6 + 2
"""Number of linear modules: those of a layer, the pooler and the classifier."""


@dataclass(frozen=True)
class Bench:
    """A model of one layer with two of four heads and 24 of 64 FFN neurons, its graphs, and real texts."""

    folder: Path
    encoded: tuple[Encoded, ...]

    @property
    def model(self) -> Path:
        """The Transformers folder."""
        return self.folder / "model"

    @property
    def onnx(self) -> Path:
        """Its FP32 graph."""
        return self.folder / "model.onnx"

    def settings(self, **fields: Any) -> Settings:
        """Eight texts calibrate."""
        return Settings(**{"calibration": self.encoded[:8], "task": TASK, **fields})

    def scorer(self, encoded: Sequence[Encoded]) -> Scorer:
        """A scorer whose labels are FP32's answers, so that FP32 scores 1."""
        blind, predict = self.blind(Scorer, encoded), session(self.onnx).predict
        answers = [LABELS[int(predict(batch)["logits"].argmax())] for batch in blind.batches()]
        return dataclasses.replace(blind, references=tuple(answers))

    def blind(self, kind: type[AnyScorer], encoded: Sequence[Encoded]) -> AnyScorer:
        """A scorer of the first texts, without their right answers."""
        rows = ({},) * len(encoded)  # a label is read from the outputs alone
        return kind(TASK, LABELS, rows, tuple(encoded), LABELS[:1] * len(encoded))


def session(file: Path) -> Any:
    runtime = "openvino" if file.suffix == ".xml" else "onnxruntime"
    return get_runtime(runtime).open(file, Target(runtime=runtime))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Bench:
    """Do not write into it."""
    folder = tmp_path_factory.mktemp("backends")
    (folder / "model").mkdir()
    save_model(prune(load_model(model_template, TASK), {0: Units((0, 2), tuple(range(24)))}), folder / "model")
    export_onnx(folder / "model", TASK, folder / "model.onnx")
    convert_to_openvino(folder / "model.onnx", folder / "openvino_model.xml")
    serving = Serving(TASK, LABELS, 32, 0, model_template / "tokenizer.json")
    return Bench(folder, tuple(serving.encode(serving.open_tokenizer(), review_rows(200))))


@pytest.fixture(scope="module")
def converted(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    """What neural-compressor makes, with a score to look at; and the facts."""
    out = tmp_path_factory.mktemp("converted")
    settings = bench.settings(score=bench.scorer(bench.encoded[:40]))
    facts = NeuralCompressor(max_drop=0.5).quantize(bench.model, out, settings)
    return out / "model.onnx", facts


def graph_of(file: Path) -> Any:
    import onnx

    return onnx.load(file).graph


def tensors(file: Path) -> dict[str, Any]:
    """Constants of a graph."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph_of(file).initializer}


def float_matrices(file: Path) -> list[tuple[int, ...]]:
    """Shapes of the FP32 constants that are no vectors and no scales."""
    return [
        value.shape for value in tensors(file).values() if value.dtype == np.float32 and value.ndim == 2 and value.shape[1] > 1
    ]


def batches(rows: int, *lengths: int) -> list[Batch]:
    """Random tokens; of more than one row the last is padded."""
    generator, found = np.random.default_rng(0), []
    for length in lengths:
        ids = generator.integers(5, 40, (rows, length))
        mask = np.ones_like(ids)
        mask[1:, length // 2 :] = 0
        found.append({"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    return found


def error(file: Path, other: Path, given: Sequence[Batch]) -> float:
    """Root mean square of the logits' difference, as a share of the other's spread."""
    found, wanted = (np.concatenate([s.predict(batch)["logits"] for batch in given]) for s in (session(file), session(other)))
    return float(np.sqrt(((found - wanted) ** 2).mean()) / wanted.std())


# Folding.


def qdq(
    weight: Any, scale: Any, zero: Any, *, axis: int, clip: tuple[int, int] | None, transposed: bool, kind: type = np.int8
) -> Any:
    """activations (n, k) @ weight, quantised and restored by operators as exporters write them."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"w": weight, "s": np.asarray(scale, np.float32), "z": np.asarray(zero, kind)}
    nodes = [helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=axis)]
    if clip:
        constants |= {"low": np.asarray(clip[0], kind), "high": np.asarray(clip[1], kind)}
        nodes.append(helper.make_node("Clip", ["q", "low", "high"], ["c"]))
    nodes.append(helper.make_node("DequantizeLinear", ["c" if clip else "q", "s", "z"], ["d"], axis=axis))
    if transposed:
        nodes.append(helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["x", "t" if transposed else "d"], ["y"]))
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in ("x", "y")]
    graph = helper.make_graph(
        nodes, "g", value[:1], value[1:], [numpy_helper.from_array(item, name) for name, item in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def ran(model: Any, x: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]


@given(
    seed=st.integers(0, 999),
    per_channel=st.booleans(),
    axis=st.integers(0, 1),
    clip=st.sampled_from([None, (-128, 127), (-60, 50)]),
    transposed=st.booleans(),
    kind=st.sampled_from([np.int8, np.uint8]),
)
def test_folded_graph_gives_the_same_numbers(
    seed: int, per_channel: bool, axis: int, clip: tuple[int, int] | None, transposed: bool, kind: type
) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(5, 3)).astype(np.float32)
    clip = (0, 90) if clip and kind is np.uint8 else clip
    size = (weight.shape[axis],) if per_channel else ()
    scale, zero = generator.uniform(0.004, 0.02, size), generator.integers(0, 60, size)
    weight[0, 0] = 2.5 * float(np.max(scale))  # half way between two integers
    model = qdq(weight, scale, zero, axis=axis, clip=clip, transposed=transposed, kind=kind)
    x = generator.normal(size=(4, 3 if transposed else 5)).astype(np.float32)
    before = ran(model, x)
    assert fold_weights(model.graph) == 1
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "MatMul"]
    assert {tensor.name for tensor in model.graph.initializer} == set(model.graph.node[0].input)
    assert model.graph.initializer[0].data_type == (3 if kind is np.int8 else 2)
    np.testing.assert_array_equal(ran(model, x), before)


def test_weights_of_7_bits_are_within_64_and_as_near_as_their_scale_allows() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    scale = np.abs(weight).max(axis=0) / 127.5
    model = qdq(weight, scale, np.zeros(6), axis=1, clip=None, transposed=False)
    fold_weights(model.graph, reduce_range=True)
    from onnx import numpy_helper

    value, found, _ = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    assert 60 < np.abs(value.astype(int)).max() <= 64
    assert np.abs(value * found - weight).max() <= found.max() / 2 * 1.001


def test_activations_and_weights_that_are_read_twice_are_left_as_they_are() -> None:
    from onnx import helper

    model = qdq(np.ones((5, 3), np.float32), 0.01, 0, axis=0, clip=None, transposed=False)
    model.graph.node[0].input[0] = "x"
    assert fold_weights(model.graph) == 0
    model.graph.node[0].input[0] = "w"
    model.graph.node.append(helper.make_node("Shape", ["q"], ["unused"]))
    assert fold_weights(model.graph) == 0
    assert [node.op_type for node in model.graph.node] == ["QuantizeLinear", "DequantizeLinear", "MatMul", "Shape"]


# neural-compressor.


@pytest.mark.slow
def test_neural_compressor_leaves_no_matrix_in_fp32(converted: tuple[Path, Mapping[str, Any]]) -> None:
    assert [shape for shape in float_matrices(converted[0]) if shape[0] >= 16] == []
    products = [node for node in graph_of(converted[0]).node if node.op_type in ("MatMul", "Gemm")]
    restored = {node.output[0] for node in graph_of(converted[0]).node if node.op_type == "DequantizeLinear"}
    assert sum(set(node.input[:2]) <= restored for node in products) == LINEAR
    assert len(products) == LINEAR + 2  # attention's own two


@pytest.mark.slow
def test_neural_compressor_answers_nearly_as_fp32_at_any_batch_and_length(
    bench: Bench, converted: tuple[Path, Mapping[str, Any]]
) -> None:
    for rows in (1, 3):
        assert 0 < error(converted[0], bench.onnx, batches(rows, 2, 7, 31)) < 0.35
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph_of(converted[0]).input, *graph_of(converted[0]).output)
    }
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert shapes == {**{name: ["batch", "sequence"] for name in names}, "logits": ["batch", 2]}


@pytest.mark.slow
def test_neural_compressor_names_nodes_by_their_modules(bench: Bench, converted: tuple[Path, Mapping[str, Any]]) -> None:
    found, plain = ([node.name for node in graph_of(file).node] for file in (converted[0], bench.onnx))
    products = [name for name in plain if name.endswith(("/MatMul", "/Gemm"))]
    assert len(products) >= LINEAR and set(products) <= set(found)
    assert {f"{name.rpartition('/')[0]}/DequantizeLinear" for name in products if name.endswith("dense/MatMul")} <= set(found)
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_neural_compressor_tries_no_more_when_the_first_way_loses_little_enough(
    converted: tuple[Path, Mapping[str, Any]],
) -> None:
    assert converted[1] == {"calibration_samples": 8, "ranges": "minmax", "symmetric": False, "trials": 1}


class Scripted(Scorer):
    """Returns the given scores in turn, and keeps the answers that were scored."""

    def __call__(self, predict: Callable[[Batch], Mapping[str, Any]]) -> float:
        self.__dict__.setdefault("answers", []).append(predict(next(self.batches()))["logits"])
        return (1.0, 0.7, 0.8)[len(self.__dict__["answers"]) - 1]


@pytest.mark.slow
def test_neural_compressor_keeps_the_best_way_when_none_loses_little_enough(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept nodes and 7 bits hold in every trial."""
    monkeypatch.setattr(neural_compressor, "WAYS", (("minmax", False), ("minmax", True)))
    score = bench.blind(Scripted, bench.encoded[:1])
    kept = ("bert.encoder.layer.0.output.dense/MatMul", "bert.encoder.layer.0.attention.self/MatMul")
    settings = bench.settings(score=score, excluded_nodes=kept, embeddings=False)
    facts = NeuralCompressor(max_drop=0.1, reduce_range=True).quantize(bench.model, tmp_path, settings)
    assert (facts["ranges"], facts["symmetric"], facts["trials"]) == ("minmax", True, 2)
    fp32, first, second = score.__dict__["answers"]
    batch = next(score.batches())
    np.testing.assert_allclose(fp32, session(bench.onnx).predict(batch)["logits"], atol=1e-4)
    np.testing.assert_array_equal(session(tmp_path / "model.onnx").predict(batch)["logits"], second)
    assert np.abs(first - second).max() > 0
    values = tensors(tmp_path / "model.onnx")
    assert sorted(float_matrices(tmp_path / "model.onnx")) == sorted([(24, 32), *embedding_shapes(bench)])
    integers = [value for value in values.values() if value.dtype == np.int8 and value.ndim == 2]
    assert len(integers) == LINEAR - 1
    assert all(np.abs(value.astype(int)).max() <= 64 for value in integers)


def embedding_shapes(bench: Bench) -> list[tuple[int, ...]]:
    return [value.shape for name, value in tensors(bench.onnx).items() if name.endswith("embeddings.weight")]


# NNCF with accuracy control.


class Near(Scorer):
    """How near logits are to those that came first, which are FP32's: 1 minus their error as a share of their spread."""

    def score(self, outputs: Sequence[Mapping[str, Any]]) -> float:
        found = np.concatenate([answer["logits"] for answer in outputs])
        if len(found) < len(self.encoded):
            return 0.0
        first = self.__dict__.setdefault("first", found)
        return float(1 - np.sqrt(((found - first) ** 2).mean()) / first.std())


def controlled(bench: Bench, out: Path, max_drop: float) -> tuple[Path, Mapping[str, Any]]:
    out.mkdir()
    score = bench.blind(Near, bench.encoded[:12])
    method = NncfAccuracy(max_drop=max_drop)
    facts = method.quantize(bench.folder / "openvino_model.xml", out, bench.settings(score=score))
    return out / "openvino_model.xml", facts


@pytest.mark.slow
def test_nncf_takes_back_no_more_than_the_score_asks_for(bench: Bench, tmp_path: Path) -> None:
    whole, facts = controlled(bench, tmp_path / "whole", 0.99)
    lost = facts["score_fp32"] - facts["score_int8"]
    assert facts["score_fp32"] == 1.0 and lost > 0.01 and facts["trials"] == 1
    some, facts = controlled(bench, tmp_path / "some", lost / 2)
    assert facts["trials"] > 1
    none, _ = controlled(bench, tmp_path / "none", 0.0)
    assert 0 == quantisers(none) < quantisers(some) < quantisers(whole)
    given = [dict(batch) for batch in bench.blind(Near, bench.encoded[:12]).batches()]
    errors = [error(file, bench.onnx, given) for file in (none, some, whole)]
    assert errors[0] < 1e-4 < errors[1] <= lost / 2 * 1.01 < errors[2]


def quantisers(file: Path) -> int:
    import openvino

    return sum(node.get_type_name() == "FakeQuantize" for node in openvino.Core().read_model(str(file)).get_ops())


# Weights by blocks.


def by_blocks(bench: Bench, out: Path, *, excluded_nodes: tuple[str, ...] = (), embeddings: bool = True, **fields: Any) -> Path:
    out.mkdir()
    settings = bench.settings(calibration=(), excluded_nodes=excluded_nodes, embeddings=embeddings)
    WeightOnly(**fields).quantize(bench.onnx, out, settings)
    return out / "model.onnx"


def test_fewer_bits_and_larger_blocks_weigh_less_and_err_more(bench: Bench, tmp_path: Path) -> None:
    ways = ({"bits": 8, "block_size": 16}, {"bits": 4, "block_size": 16}, {"bits": 4, "block_size": 32})
    files = [by_blocks(bench, tmp_path / str(index), **way) for index, way in enumerate(ways)]
    errors = [error(file, bench.onnx, batches(1, *range(4, 28, 3))) for file in files]
    sizes = [file.stat().st_size for file in (bench.onnx, *files)]
    assert 0 < errors[0] < errors[1] < errors[2] < 1
    assert sizes == sorted(sizes, reverse=True)
    for file, way in zip(files, ways, strict=True):
        products = [node for node in graph_of(file).node if node.op_type == "MatMulNBits"]
        assert len(products) == LINEAR
        given = [{attribute.name: attribute.i for attribute in node.attribute} for node in products]
        assert all({**way, "accuracy_level": 4}.items() <= attributes.items() for attributes in given)


@pytest.mark.parametrize(("bits", "embeddings", "left"), [(8, True, 3), (4, True, 0), (4, False, 3)])
def test_tables_take_4_bits_where_asked_and_are_the_sources_at_8(
    bits: int, embeddings: bool, left: int, bench: Bench, tmp_path: Path
) -> None:
    file = by_blocks(bench, tmp_path / "out", bits=bits, embeddings=embeddings)
    assert sum(name.endswith("embeddings.weight") for name in tensors(file)) == left
    assert sum(node.op_type == "GatherBlockQuantized" for node in graph_of(file).node) == 3 - left


def test_fp32_activations_err_less_than_int8_ones(bench: Bench, tmp_path: Path) -> None:
    rounded, plain = (by_blocks(bench, tmp_path / str(level), accuracy_level=level) for level in (4, 1))
    given = batches(1, *range(4, 28, 3))
    assert error(plain, bench.onnx, given) < error(rounded, bench.onnx, given)


def test_kept_products_stay_fp32(bench: Bench, tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.intermediate.dense/MatMul"
    nodes = {node.name: node for node in graph_of(by_blocks(bench, tmp_path / "out", excluded_nodes=(name,))).node}
    assert nodes[name].op_type == "MatMul"
    assert sum(node.op_type == "MatMulNBits" for node in nodes.values()) == LINEAR - 1


# The scorer.


def test_score_is_the_tasks_first_metric_over_the_eval_set_each_text_alone(
    tmp_path: Path, model_template: Path, store: ArtifactStore
) -> None:
    write_table(tmp_path / "eval.csv", review_rows(6, split="eval"))
    data = prepare_data(DataSpec(path="eval.csv"), "eval", base=tmp_path, task=TASK, store=store, progress=Silent())
    scorer = Scorer.of(Serving(TASK, LABELS, 64, 0, model_template / "tokenizer.json"), data)
    seen: list[Batch] = []

    def right_but_for_two(batch: Batch) -> Mapping[str, Any]:
        label = LABELS.index(scorer.references[len(seen)]) ^ (len(seen) < 2)
        seen.append(batch)
        return {"logits": np.eye(2)[[label]]}

    assert scorer(right_but_for_two) == pytest.approx(4 / 6)
    assert [batch["input_ids"].shape for batch in seen] == [(1, len(item)) for item in scorer.encoded]
    assert all(batch["attention_mask"].all() for batch in seen) and len({len(item) for item in scorer.encoded}) > 1
    assert scorer.score([{"logits": np.eye(2)[[LABELS.index(scorer.references[0])]]}]) == 1.0


# Their place in a recipe.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "dynamic", "max_drop": 0.02}, "max_drop is a parameter of the method nncf-accuracy or neural-compressor"),
        ({"method": "static", "bits": 4}, "bits is a parameter of the method weight-only"),
        ({"method": "nncf", "block_size": 64}, "block_size is a parameter of the method weight-only"),
        ({"method": ("dynamic", "static"), "accuracy_level": 1}, "accuracy_level is a parameter of the method weight-only"),
        ({"method": "weight-only", "per_channel": False}, "per_channel is a parameter of the method dynamic or"),
        ({"method": "weight-only", "reduce_range": True}, "reduce_range is a parameter of the method"),
        ({"method": "neural-compressor", "ranges": "mse"}, "ranges is a parameter of the method static"),
        ({"method": "weight-only", "block_size": 48}, "Input should be 16, 32, 64, 128 or 256"),
        ({"method": "weight-only", "bits": 3}, "Input should be 4 or 8"),
        ({"method": "nncf-accuracy", "max_drop": -0.1}, "greater than or equal to 0"),
    ],
)
def test_a_parameter_that_the_methods_do_not_have_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Quantize(**fields)


def test_each_method_takes_the_parameters_that_are_its_own() -> None:
    stage = Quantize(method=("dynamic", "neural-compressor", "weight-only"), max_drop=0.02, bits=4, block_size=64)
    steps = stage.expand([Target(runtime="onnxruntime")])
    assert [step.label for step in steps] == [
        "int8-dynamic",
        "int8-neural-compressor-drop0.02",
        "int4-weight-only-b64",
    ]


def test_neural_compressor_starts_from_the_model_and_looks_at_calibration_and_eval_rows() -> None:
    (step,) = Quantize(method="neural-compressor").expand([])
    assert (step.input_format(), step.output_format()) == ("transformers", "onnx")
    assert step.needed() == {"calibration", "select", "head"}
    (step,) = Quantize(method="nncf-accuracy").expand([])
    assert (step.input_format(), step.output_format()) == ("openvino", "openvino")
    assert step.needed() == {"calibration", "select"}
    (step,) = Quantize(method="weight-only").expand([])
    assert (step.input_format(), step.output_format()) == ("onnx", "onnx") and not step.needed()


def test_key_holds_the_eval_rows_of_methods_that_look_at_them(tmp_path: Path, model_template: Path) -> None:
    folder = make_bench(tmp_path, model_template)
    (step,) = Quantize(method="neural-compressor").expand([])

    def key() -> str:
        run = Compression(inputs_of(folder, step), ArtifactStore(tmp_path / "store"), Silent())
        run.store.prepare()
        assert run.inputs.layout.steps[0].source == BASE
        return run.key_of(run.inputs.layout.steps[0])

    before = key()
    assert key() == before
    write_table(folder / "data" / "eval.csv", review_rows(23, split="eval"))
    assert key() != before
