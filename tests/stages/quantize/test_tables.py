"""Embedding tables in INT8: rows with scales of their own, and a graph that answers nearly as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.stages.prune.latency.layer_graphs import GraphSizes, StackSizes, write_graph
from edgebert.stages.quantize.tables import quantize_tables
from edgebert.tasks.base import Encoded, collate

BATCH = collate([Encoded((5, 900, 3, 17, 4), (0, 0, 0, 1, 1))], length=5, pad_id=0)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    write_graph(GraphSizes(32, 8, (StackSizes(4, 64),), positions=64), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def lookup(table: np.ndarray, operator: str, folder: Path) -> Path:
    """A graph that reads rows of a table: those of `ids`, or the first ones."""
    if operator == "Gather":
        nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"], axis=0, name="lookup")]
    else:
        nodes = [
            helper.make_node("Shape", ["input_ids"], ["length"], start=1, end=2),
            helper.make_node("Slice", ["table", "zero", "length", "zero"], ["rows"], name="lookup"),
        ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([0], np.int64), "zero")],
    )
    path = folder / f"{operator}.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize("operator", ["Gather", "Slice"])
def test_each_row_keeps_its_own_precision(operator: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    table = (generator.standard_normal((40, 8)) * 10.0 ** generator.integers(-3, 3, (40, 1))).astype(np.float32)
    table[7] = 0
    ids = np.arange(40)[None] if operator == "Slice" else generator.permutation(40)[None]
    source = lookup(table, operator, tmp_path)
    assert quantize_tables(source, tmp_path / "out.onnx") == ["table"]
    session = get_runtime("onnxruntime").open(tmp_path / "out.onnx", Target(runtime="onnxruntime"))
    found = session.predict({"input_ids": ids})["rows"].reshape(40, 8)
    expected = table[ids[0]]
    assert (np.abs(found - expected) <= np.abs(expected).max(axis=1, keepdims=True) / 254 * 1.001).all()


def test_a_bert_answers_nearly_as_before_and_its_tables_shrink(graph: Path, tmp_path: Path) -> None:
    names = quantize_tables(graph, tmp_path / "out.onnx")
    assert sorted(names) == ["positions", "words"]  # the two rows of segments stay float
    runtime, target = get_runtime("onnxruntime"), Target(runtime="onnxruntime")
    before = runtime.open(graph, target).predict(BATCH)["logits"]
    after = runtime.open(tmp_path / "out.onnx", target).predict(BATCH)["logits"]
    assert 0 < np.abs(before - after).max() < 0.01
    kinds = {item.name: item.data_type for item in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert kinds["words.int8"] == TensorProto.INT8 and "words" not in kinds
    assert (tmp_path / "out.onnx").stat().st_size < graph.stat().st_size - 2.5 * 1024 * 32


def test_a_table_that_is_multiplied_as_well_stays_beside(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    model = onnx.load(lookup(table, "Gather", tmp_path))
    model.graph.node.append(helper.make_node("Transpose", ["table"], ["tied"]))
    model.graph.output.append(helper.make_tensor_value_info("tied", TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "tied.onnx")
    quantize_tables(tmp_path / "tied.onnx", tmp_path / "out.onnx")
    session = get_runtime("onnxruntime").open(tmp_path / "out.onnx", Target(runtime="onnxruntime"))
    assert np.array_equal(session.predict({"input_ids": np.array([[1]])})["tied"], table.T)


def test_columns_picked_by_a_gather_are_no_table(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    model = onnx.load(lookup(table, "Gather", tmp_path))
    model.graph.node[0].attribute[0].i = 1
    onnx.save(model, tmp_path / "columns.onnx")
    assert quantize_tables(tmp_path / "columns.onnx", tmp_path / "out.onnx") == []
