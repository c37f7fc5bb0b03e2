"""The product after a ReLU stays in FP32 on OpenVINO, whose fused kernel there leaves memory unwritten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgebert.stages.quantize.nncf import _products_after_relu


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
