"""A quantisation method that somebody might add: ONNX Runtime's dynamic one, without the products that a recipe excludes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.stages.quantize.dynamic import Dynamic
from edgebert.stages.quantize.method import IntegerProducts
from edgebert.stages.quantize.settings import Settings


class Timid(IntegerProducts):
    """Leaves the first products in FP32."""

    method: Literal["timid"] = "timid"
    courage: Literal["low", "high"] = Field("high", description="How many products it dares to quantise.")

    format: ClassVar[str] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    searched: ClassVar[tuple[tuple[tuple[str, Any], ...], ...]] = ((), (("courage", "low"),))
    repairs: ClassVar[tuple[str, ...]] = ("values",)

    def own_marks(self) -> list[str]:
        """`low`."""
        return ["low"] if self.courage == "low" else []

    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
        """Writes model.onnx."""
        import onnx

        products = [node.name for node in onnx.load(source).graph.node if node.op_type in ("MatMul", "Gemm")]
        kept = products[: 4 if self.courage == "low" else 1]
        dynamic = Dynamic(per_channel=self.per_channel, reduce_range=self.reduce_range)
        dynamic.quantize(source, target, replace(settings, excluded_nodes=(*settings.excluded_nodes, *kept)))
        return {"left": len(kept)}


def lines() -> Sequence[str]:
    """The line that registers it."""
    return ("edgebert.stages.quantize.methods METHODS fake_method Timid class",)
