"""Settings that every quantisation method receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgebert.tasks.base import Encoded, Task

if TYPE_CHECKING:
    from edgebert.stages.scorer import Scorer

Ranges = Literal["minmax", "moving-average", "entropy", "percentile", "mse"]
GraphFormat = Literal["qdq", "qoperator"]


@dataclass(frozen=True)
class Settings:
    """Settings of all methods. `calibration` is empty for methods that do not calibrate."""

    per_channel: bool
    embeddings: bool
    calibration: tuple[Encoded, ...]
    ranges: Ranges = "minmax"
    """How the range of an activation is taken from calibration data."""
    percentile: float = 99.99
    """For `ranges: percentile`: percentage of the values within the range."""
    graph_format: GraphFormat = "qdq"
    """Form of the graph that ONNX Runtime's static quantisation writes."""
    reduce_range: bool = False
    """Weights in 7 bits: where the target's instruction set adds products in 16 bits, those of 8 bits saturate."""
    excluded_nodes: tuple[str, ...] = ()
    """Names of nodes, as `export` gives them, that stay FP32."""
    bits: Literal[4, 8] = 8
    """Bits of a weight in weight-only quantisation."""
    block_size: int = 32
    """Weights that share a scale in weight-only quantisation."""
    accuracy_level: Literal[1, 4] = 4
    """Precision of activations in the products of weight-only quantisation: 1 is FP32, 4 is INT8."""
    max_drop: float = 0.01
    """Largest drop of the score below FP32's, for methods that use the score."""
    task: Task | None = None
    score: Scorer | None = None
    """Computes the task's first metric on the eval set, for methods that use the score."""
    labels: tuple[str, ...] = ()

    def batches(self) -> list[dict[str, object]]:
        """Calibration examples one by one, each of its own length: padding would enter the ranges."""
        from edgebert.tasks.base import collate

        return [dict(collate([item], length=len(item), pad_id=0)) for item in self.calibration]
