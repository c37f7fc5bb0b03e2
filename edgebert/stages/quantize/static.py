"""ONNX Runtime static quantisation: QuantizeLinear/DequantizeLinear pairs, min-max ranges from calibration.

Only the inputs of MatMul, Gemm and Gather are quantised: residual Adds, LayerNorm and softmax stay float, because their
outliers ruin eight bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgebert.quiet import quiet_libraries
from edgebert.stages.quantize.settings import Settings


def quantize(source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
    """Writes model.onnx in QDQ form."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    operators = ["MatMul", "Gemm", *(["Gather"] if settings.embeddings else [])]
    with quiet_libraries():
        quantize_static(
            str(source),
            str(target / "model.onnx"),
            _reader(settings.batches()),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators,
            per_channel=settings.per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return {"calibration_samples": len(settings.calibration)}


def _reader(batches: list[dict[str, object]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[dict[str, object]] = iter(batches)

        def get_next(self) -> dict[str, object] | None:
            return next(self._batches, None)

    return Reader()
