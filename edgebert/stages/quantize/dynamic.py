"""ONNX Runtime dynamic quantisation: INT8 weights now, UINT8 activations by their range at run time, per tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.core.libraries import quiet_libraries
from edgebert.stages.quantize.settings import Settings


def quantize(source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
    """Writes model.onnx with INT8 weights. Embedding tables are as the source has them."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_libraries():
        quantize_dynamic(
            str(source),
            str(target / "model.onnx"),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=settings.per_channel,
            weight_type=QuantType.QInt8,
            reduce_range=settings.reduce_range,
            nodes_to_exclude=list(settings.excluded_nodes),
            extra_options={"DefaultTensorType": TensorProto.FLOAT},  # of what ONNX's shape inference does not know
        )
    return {}
