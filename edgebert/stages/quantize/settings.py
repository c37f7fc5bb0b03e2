"""What every quantisation method is told."""

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
    """Common settings. `calibration` is empty for methods that do not calibrate."""

    per_channel: bool
    embeddings: bool
    calibration: tuple[Encoded, ...]
    ranges: Ranges = "minmax"
    """How calibrated methods find the range of an activation."""
    percentile: float = 99.99
    """Share of values, in percent, that the range holds; for `percentile`."""
    graph_format: GraphFormat = "qdq"
    """Of ONNX Runtime's static quantisation."""
    reduce_range: bool = False
    """Weights in 7 bits: where the target's instruction set adds products in 16 bits, 8 would overflow."""
    excluded_nodes: tuple[str, ...] = ()
    """Names of nodes, as `export` gives them, that stay FP32."""
    bits: Literal[4, 8] = 8
    """Of weight-only quantisation."""
    block_size: int = 32
    """Weights that share a scale, of weight-only quantisation."""
    accuracy_level: Literal[1, 4] = 4
    """What the products of weight-only quantisation make of activations: 1 FP32, 4 INT8."""
    max_drop: float = 0.01
    """How far the score may fall below FP32's, for methods that look at it."""
    task: Task | None = None
    score: Scorer | None = None
    """The task's first metric on the eval set, of anything that predicts; for methods that look at it."""
    labels: tuple[str, ...] = ()

    def batches(self) -> list[dict[str, object]]:
        """Calibration examples one by one, each of its own length: padding would enter the ranges."""
        from edgebert.tasks.base import collate

        return [dict(collate([item], length=len(item), pad_id=0)) for item in self.calibration]
