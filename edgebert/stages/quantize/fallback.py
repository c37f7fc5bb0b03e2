"""Fallback: leaves those matrix products in float that cost a model's answers most in INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.errors import EdgebertError
from edgebert.report.search_record import LayerSensitivity
from edgebert.runtimes.target import Target
from edgebert.stages.base import Scored
from edgebert.stages.quantize.builder import Plan
from edgebert.stages.quantize.search_log import Candidate, SearchLog

SENSITIVITY_ROWS = 256
"""Number of rows that the sensitivity of a product is measured on."""
STEPS = (1, 2, 3, 5, 8, 12, 16, 24, 32, 48)
"""Numbers of products that are left in float, one try after another."""


def matrix_products(graph: Path) -> dict[str, int]:
    """Node name of each matrix product -> its number of weights, in the graph's order; 0 for a product of activations."""
    import onnx

    model = onnx.load(graph)
    sizes = {item.name: int(np.prod(item.dims)) for item in model.graph.initializer if len(item.dims) == 2}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    return {node.name: sizes.get(node.input[1], 0) for node in nodes}


def divergence(reference: npt.NDArray[Any], answers: npt.NDArray[Any]) -> float:
    """Mean KL(reference || answers) of the class probabilities, in nats.

    Args:
        reference, answers: logits of shape (rows, classes).
    """
    ours, theirs = _log_softmax(reference), _log_softmax(answers)
    return float((np.exp(ours) * (ours - theirs)).sum(axis=-1).mean())


def _log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def fallback_steps(count: int) -> list[int]:
    """Numbers of the most sensitive products to leave in float, one try after another: at most half of `count`."""
    return [step for step in STEPS if step <= count // 2]


def fall_back(log: SearchLog, original: Candidate, target: Target) -> tuple[Candidate | None, tuple[LayerSensitivity, ...]]:
    """Leaves more and more of the most sensitive products in float, until the candidate passes the gates.

    Returns:
        The first candidate that passes, else the best that is better than the original, else None; and each product's
        sensitivity.
    """
    products = matrix_products(log.builder.onnx(original.plan.form))
    if not original.plan.method.calibrated:  # without calibration, products of two activations stay float anyway
        products = {name: size for name, size in products.items() if size}
    layers = _sensitivity(log, original.plan, target, products)
    order = [layer.name for layer in layers]
    best = original
    for count in fallback_steps(len(order)):
        plan = Plan(original.plan.form, original.plan.method, original.plan.settings, tuple(order[:count]))
        try:
            challenger = log.candidates([plan], target, original.plan)[0]
        except EdgebertError as error:
            log.note(f"fallback of {count}", kept=False, why=error.message)
            continue
        challenger.speed *= original.speed
        kept = challenger.better_than(best)
        log.note_all(f"fallback of {count}:", [challenger], challenger if kept else None)
        best = challenger if kept else best
        if not challenger.scored.failures:
            break
    return (best if best is not original else None), layers


def _sensitivity(log: SearchLog, plan: Plan, target: Target, products: dict[str, int]) -> tuple[LayerSensitivity, ...]:
    """Sensitivity of each product, measured with that product alone in INT8; most sensitive first."""
    fp32, total = log.trials.baseline(SENSITIVITY_ROWS), sum(products.values())
    layers = []
    with log.context.progress.step("sensitivity of each layer", len(products)) as step:
        for name, size in products.items():
            alone = Plan(plan.form, plan.method, plan.settings, tuple(other for other in products if other != name))

            def measure(alone: Plan = alone, name: str = name, size: int = size) -> dict[str, Any]:
                scored = log.trials.score(log.builder.quantized(alone), target, SENSITIVITY_ROWS)
                return sensitivity_of(name, scored, fp32, size / total).model_dump()

            layers.append(LayerSensitivity.model_validate(log.builder.remembered(f"sensitivity {alone.key}", measure)))
            log.builder.drop(alone)  # there are dozens of such files, each needed once
            step.advance()
    return tuple(sorted(layers, key=lambda layer: (-layer.lost, -layer.divergence)))


def sensitivity_of(name: str, alone: Scored, fp32: Scored, share: float) -> LayerSensitivity:
    """Sensitivity of a product, from the answers when it alone is INT8."""
    return LayerSensitivity(
        name=name,
        lost=round(fp32.score - alone.score, 6),
        divergence=max(0.0, divergence(fp32.outputs, alone.outputs)),
        weights_share=round(share, 6),
    )
