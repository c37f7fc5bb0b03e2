"""ONNX Runtime static quantisation: activation ranges from calibration data, found by our own observers.

Only MatMul, Gemm and embedding Gathers are quantised: residual Adds, LayerNorm and softmax stay float, because their
outliers ruin eight bits. In QDQ form the products' outputs stay float as well; integer operators need a range for them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.errors import StageError
from edgebert.quiet import quiet_libraries
from edgebert.stages.quantize.calibrate import tensor_ranges
from edgebert.stages.quantize.observers import Range, observer_for
from edgebert.stages.quantize.settings import GraphFormat, Settings

PRODUCTS = ("MatMul", "Gemm")


def quantize(source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
    """Writes model.onnx.

    Raises:
        StageError: an activation is not finite, or a node of `keep_float` is not in the graph.
    """
    import onnx

    model = onnx.load(source)
    _require_nodes(model, settings.keep_float)
    tensors = activations(model, settings.graph_format, settings.keep_float)
    with quiet_libraries():
        ranges = tensor_ranges(model, tensors, settings.batches(), lambda: observer_for(settings.ranges, settings.percentile))
        _tell_types(model, tensors)
        quantizer = _quantizer(model, ranges, settings)
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target / "model.onnx"))
    return {"calibration_samples": len(settings.calibration)}


def activations(model: Any, graph_format: GraphFormat, keep_float: Sequence[str] = ()) -> list[str]:
    """Tensors that need a range, in the graph's order: the products' inputs, and for integer operators their outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in PRODUCTS and node.name not in keep_float:
            names = [*node.input[:2], *(node.output if graph_format == "qoperator" else ())]
            found |= dict.fromkeys(name for name in names if name not in weights)
    return list(found)


def _quantizer(model: Any, ranges: Mapping[str, Range], settings: Settings) -> Any:
    """What onnxruntime.quantization.quantize_static makes once it has calibrated, with our ranges."""
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantizationMode, QuantType, TensorsData
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    common = {
        "model": model,
        "per_channel": settings.per_channel,
        "reduce_range": settings.reduce_range,
        "weight_qType": QuantType.QInt8,
        "activation_qType": QuantType.QUInt8,
        "tensors_range": TensorsData(CalibrationMethod.MinMax, data),
        "nodes_to_quantize": [],
        "nodes_to_exclude": list(settings.keep_float),
        "op_types_to_quantize": [*PRODUCTS, *(["Gather"] if settings.embeddings else [])],
    }
    if settings.graph_format == "qoperator":
        return ONNXQuantizer(mode=QuantizationMode.QLinearOps, static=True, extra_options={}, **common)
    return QDQQuantizer(extra_options={"OpTypesToExcludeOutputQuantization": list(PRODUCTS)}, **common)


def _tell_types(model: Any, tensors: Sequence[str]) -> None:
    """What ONNX's shape inference does not know, such as what follows ONNX Runtime's own operators, would stay float."""
    from onnx import TensorProto, helper

    graph = model.graph
    known = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
    graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in known
    )


def _require_nodes(model: Any, names: Sequence[str]) -> None:
    present = {node.name for node in model.graph.node}
    if strange := [name for name in names if name not in present]:
        raise StageError(f"The graph has no node {strange[0]} to keep in FP32.")
