"""Rewritten BERTs answer as their source does: in torch, and as graphs in the runtimes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_bert import assert_same, batch_of, build

from edgebert.models.surgery import Units, prune
from edgebert.runtimes import get_runtime
from edgebert.runtimes.openvino import convert_to_openvino
from edgebert.runtimes.target import Target
from edgebert.stages.export import (
    REWRITE_TOLERANCE,
    REWRITES,
    Rewrite,
    export_model,
)
from edgebert.stages.export.serving_form import BOUND, serving_form
from edgebert.tasks import get_task

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("real_exports")]
TASK = get_task("text-classification")
BATCH = batch_of([2, 9, 5], padding=2)
PRUNED = {0: Units((0, 2, 3), (1, 5, 20)), 1: Units((3,), tuple(range(0, 24, 2)))}
COMBINATIONS = [chosen for count in range(1, 5) for chosen in itertools.combinations(REWRITES[:4], count)]


def models() -> dict[str, Any]:
    whole = build()
    return {"whole": whole, "pruned": prune(whole, PRUNED), "one layer": build(layers=1)}


MODELS = models()
ALL_BUT_FUSED = tuple(rewrite for rewrite in REWRITES if rewrite not in get_runtime("onnxruntime").operators)
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@every_model
@pytest.mark.parametrize("rewrites", COMBINATIONS, ids="+".join)
def test_outputs_stay(model: Any, rewrites: tuple[Rewrite, ...]) -> None:
    with torch.no_grad():
        expected, found = model(**BATCH).logits, serving_form(model, rewrites)(**BATCH)["logits"]
    assert_same([found], [expected])


@every_model
def test_the_source_is_not_changed(model: Any) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    serving_form(model, REWRITES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_model
def test_graph_with_every_rewrite_answers_alike_in_onnx_runtime(model: Any, tmp_path: Path) -> None:
    facts = export_model(model, TASK, tmp_path / "model.onnx", name="it", rewrites=REWRITES)
    assert facts["export_difference"] <= REWRITE_TOLERANCE
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "MultiHeadAttention" in operators and "Softmax" not in operators


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Rewrite, ...], Path]:
    """Rewrites -> the graph of the whole model."""
    found: dict[tuple[Rewrite, ...], Path] = {}
    for rewrites in (("mask",), ("mask", "qkv"), ("mask", "qkv", "first_token"), ALL_BUT_FUSED):
        found[rewrites] = tmp_path_factory.mktemp("graph") / "model.onnx"
        export_model(MODELS["whole"], TASK, found[rewrites], name="it", rewrites=rewrites)
    return found


def test_graph_answers_alike_in_openvino(graphs: dict[tuple[Rewrite, ...], Path], tmp_path: Path) -> None:
    convert_to_openvino(graphs[ALL_BUT_FUSED], tmp_path / "openvino_model.xml")
    batch = {name: value.numpy() for name, value in BATCH.items()}
    session = get_runtime("openvino").open(tmp_path / "openvino_model.xml", Target(runtime="openvino"))
    with torch.no_grad():
        expected = MODELS["whole"](**BATCH).logits.numpy()
    assert np.abs(session.predict(batch)["logits"] - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())


def test_merged_projections_are_one_product_and_the_last_layer_reads_one_token(
    graphs: dict[tuple[Rewrite, ...], Path],
) -> None:
    counts = {
        rewrites[-1]: sum(node.op_type == "MatMul" for node in onnx.load(graph).graph.node)
        for rewrites, graph in graphs.items()
        if rewrites != ALL_BUT_FUSED
    }
    assert counts == {"mask": 16, "qkv": 12, "first_token": 13}  # two layers; the last one projects [CLS] apart


def test_nodes_are_named_by_their_module(graphs: dict[tuple[Rewrite, ...], Path]) -> None:
    names = [node.name for node in onnx.load(graphs["mask", "qkv"]).graph.node]
    assert len(set(names)) == len(names)
    assert {"bert.encoder.layer.1.attention.self.qkv/MatMul", "bert.encoder.layer.0.output.dense/MatMul"} <= set(names)


def test_a_padded_token_weighs_nothing_and_the_bound_can_be_quantised() -> None:
    assert float(torch.exp(torch.tensor(-BOUND + 100))) == 0.0
    assert np.float32(BOUND / 255) > 0 and BOUND < 1e5
