"""ONNX Runtime dynamic quantisation: INT8 weights, and activations rounded to UINT8 at run time by each tensor's range."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgebert.core.packages import quiet_libraries
from edgebert.runtimes.facts import ONNX
from edgebert.stages.quantize.method import IntegerProducts
from edgebert.stages.quantize.settings import Settings


class Dynamic(IntegerProducts):
    """ONNX Runtime; activation ranges at run time."""

    method: Literal["dynamic"] = "dynamic"

    format: ClassVar[str] = ONNX
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    searched: ClassVar[tuple[tuple[tuple[str, Any], ...], ...]] = ((),)

    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
        """Writes model.onnx with INT8 weights. Embedding tables stay as they are in the source."""
        from onnx import TensorProto
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with quiet_libraries():
            quantize_dynamic(
                str(source),
                str(target / "model.onnx"),
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=self.per_channel,
                weight_type=QuantType.QInt8,
                reduce_range=bool(self.reduce_range),
                nodes_to_exclude=list(settings.excluded_nodes),
                extra_options={"DefaultTensorType": TensorProto.FLOAT},  # for tensors that shape inference does not know
            )
        return {}
