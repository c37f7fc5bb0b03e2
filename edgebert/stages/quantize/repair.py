"""Repairs: what is done to a model whose INT8 answers miss the gates.

`values`, `norms` and `biases` change the weights before they are quantised; `fallback` leaves the most sensitive matrix
products float. They are tried in this order, and kept where the score rises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.search_record import LayerSensitivity
from edgebert.stages.base import Scored

SENSITIVITY_ROWS = 256
"""Eval rows that the sensitivity of a layer is taken from."""


def _values(model: Any, batches: Sequence[Mapping[str, Any]]) -> None:
    from edgebert.bert.equalize import equalize_values

    equalize_values(model, batches)


def _norms(model: Any, batches: Sequence[Mapping[str, Any]]) -> None:
    from edgebert.bert.smooth import smooth_norms

    smooth_norms(model, batches)


def _biases(model: Any, batches: Sequence[Mapping[str, Any]]) -> None:
    from edgebert.bert.bias_correction import correct_biases

    correct_biases(model, batches)


WEIGHT_REPAIRS: dict[str, Callable[[Any, Sequence[Mapping[str, Any]]], None]] = {
    "values": _values,
    "norms": _norms,
    "biases": _biases,
}
NOT_IN_WEIGHTS = ("norms",)
"""Repairs that a saved folder of weights does not hold."""


def weighted_products(graph: Path) -> dict[str, int]:
    """Matrix products with weights in an ONNX graph: node name -> number of weights, in the graph's order."""
    import onnx

    model = onnx.load(graph)
    sizes = {item.name: int(np.prod(item.dims)) for item in model.graph.initializer if len(item.dims) == 2}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and len(node.input) > 1]
    return {node.name: sizes[node.input[1]] for node in nodes if node.input[1] in sizes}


def divergence(reference: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """Mean KL(reference || found) of the class probabilities, in nats.

    Args:
        reference: logits, of shape (rows, classes); so `found`.
    """
    ours, theirs = _log_softmax(reference), _log_softmax(found)
    return float((np.exp(ours) * (ours - theirs)).sum(axis=-1).mean())


def _log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def sensitivity_of(name: str, alone: Scored, fp32: Scored, metric: str, share: float) -> LayerSensitivity:
    """What is lost when only one product is INT8."""
    return LayerSensitivity(
        name=name.removesuffix("/MatMul").removesuffix("/Gemm"),
        lost=round(fp32.metrics[metric] - alone.metrics[metric], 6),
        divergence=max(0.0, divergence(fp32.outputs, alone.outputs)),
        macs_share=round(share, 6),
    )


def fallback_steps(count: int) -> list[int]:
    """How many of the most sensitive products stay float, one try after another: at most half of all."""
    steps = [1, 2, 3, 5, 8, 12, 16, 24, 32, 48]
    return [step for step in steps if step <= count // 2]
