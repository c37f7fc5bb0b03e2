"""The product after a ReLU stays in FP32 on OpenVINO, whose fused kernel there leaves memory unwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_families import TEXTS, tiny_folder

from edgebert.errors import StageError
from edgebert.models.folder import inspect_model
from edgebert.runtimes.openvino import convert_to_openvino
from edgebert.runtimes.serving import Serving
from edgebert.stages.export import export_onnx
from edgebert.stages.quantize import nncf
from edgebert.stages.quantize.nncf import Nncf, _products_after_relu
from edgebert.stages.quantize.settings import Settings
from edgebert.tasks import get_task


def model(activation: str) -> Any:
    """Two products with an activation between them."""
    opset = pytest.importorskip("openvino").opset13
    import openvino as ov

    given = opset.parameter([-1, 4], np.float32)
    weights = [opset.constant(np.eye(4, dtype=np.float32)) for _ in range(2)]
    first = opset.matmul(given, weights[0], False, False)
    second = opset.matmul(getattr(opset, activation)(first), weights[1], False, False)
    second.set_friendly_name("classifier")
    return ov.Model([second], [given])


def test_the_product_after_a_relu_is_named_and_no_other() -> None:
    assert _products_after_relu(model("relu")) == ["classifier"]
    assert _products_after_relu(model("tanh")) == []


@pytest.mark.slow
def test_a_graph_that_fused_kernels_answer_wrongly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_task("text-classification")
    folder = tiny_folder("distilbert", task.architecture, tmp_path / "model", layers=1)
    export_onnx(folder, task, tmp_path / "model.onnx")
    convert_to_openvino(tmp_path / "model.onnx", tmp_path / "openvino_model.xml")
    serving = Serving(task, inspect_model(folder).labels, 32, 0, folder / "tokenizer.json")
    rows = [{"text": text} for text in TEXTS]
    settings = Settings(calibration=tuple(serving.encode(serving.open_tokenizer(), rows)), task=task)
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    Nncf().quantize(tmp_path / "openvino_model.xml", tmp_path / "right", settings)
    monkeypatch.setattr(nncf, "_products_after_relu", lambda model: [])
    with pytest.raises(StageError, match="fused kernels change its logits"):
        Nncf().quantize(tmp_path / "openvino_model.xml", tmp_path / "wrong", settings)
