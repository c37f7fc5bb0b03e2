"""ONNX Runtime static quantisation: activation ranges come from calibration data, by our own observers.

Only MatMul, Gemm and embedding Gathers are quantised: residual Adds, LayerNorm and softmax stay float, because their
outliers ruin eight bits. In QDQ form the products' outputs stay float as well: ONNX Runtime then fuses each product to one
operator, MatMulIntegerToFloat. Integer operators need ranges for their outputs, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgebert.core.packages import quiet_libraries
from edgebert.errors import StageError
from edgebert.runtimes.facts import ONNX
from edgebert.stages.quantize.calibrate import tensor_ranges
from edgebert.stages.quantize.method import IntegerProducts
from edgebert.stages.quantize.observers import MinMax, Observer, Range, Ranges, observer_for
from edgebert.stages.quantize.settings import Settings

GraphFormat = Literal["qdq", "qoperator"]
PRODUCTS = ("MatMul", "Gemm")


class Static(IntegerProducts):
    """ONNX Runtime; ranges from calibration, as a QDQ graph or with integer operators."""

    method: Literal["static"] = "static"
    ranges: Ranges = Field(
        "minmax",
        description="How the range of an activation is taken from calibration data: its extremes (minmax), the mean of each "
        "text's extremes (moving-average), or a clipped range of least KL divergence (entropy), of a share of the values "
        "(percentile) or of least squared error (mse).",
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="For `ranges: percentile`: percentage of the values within the range."
    )
    graph_format: GraphFormat = Field(
        "qdq",
        description="QuantizeLinear and DequantizeLinear around float operators (qdq), or integer operators (qoperator).",
    )

    format: ClassVar[str] = ONNX
    calibrated: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    searched: ClassVar[tuple[tuple[tuple[str, Any], ...], ...]] = ((), (("graph_format", "qoperator"),))

    @model_validator(mode="after")
    def _percentile_is_used(self) -> Static:
        if self.is_given("percentile") and self.ranges != "percentile":
            raise ValueError("percentile is a parameter of `ranges: percentile`; drop one of them")
        return self

    def own_marks(self) -> list[str]:
        """Ranges and form of the graph."""
        return [str(getattr(self, name)) for name in ("ranges", "graph_format") if self.is_given(name)]

    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
        """Writes model.onnx.

        Raises:
            StageError: an activation is not finite, or a node of `excluded_nodes` is not in the graph.
        """
        import onnx

        model = onnx.load(source)
        _require_nodes(model, settings.excluded_nodes)
        tensors = activations(model, self.graph_format, settings.excluded_nodes)
        with quiet_libraries():
            ranges = tensor_ranges(model, tensors, settings.batches(), self._observers(model))
            _declare_types(model, tensors)
            quantizer = self._quantizer(model, ranges, settings)
            quantizer.quantize_model()
            _restore(quantizer.model.graph(), settings.excluded_nodes)
            quantizer.model.save_model_to_file(str(target / "model.onnx"))
        return {"calibration_samples": len(settings.calibration)}

    def _observers(self, model: Any) -> Callable[[str], Observer]:
        """Makes the observer of a tensor. Softmax is never clipped: most of its values are near 0, but those near 1 matter."""
        shares = {name for node in model.graph.node if node.op_type == "Softmax" for name in node.output}
        return lambda name: MinMax() if name in shares else observer_for(self.ranges, self.percentile)

    def _quantizer(self, model: Any, ranges: Mapping[str, Range], settings: Settings) -> Any:
        """The quantiser that onnxruntime.quantization.quantize_static makes after its calibration, with our ranges."""
        import numpy as np
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantizationMode, QuantType, TensorsData
        from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

        data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
        common = {
            "model": model,
            "per_channel": self.per_channel,
            "reduce_range": bool(self.reduce_range),
            "weight_qType": QuantType.QInt8,
            "activation_qType": QuantType.QUInt8,
            "tensors_range": TensorsData(CalibrationMethod.MinMax, data),
            "nodes_to_quantize": [],
            "nodes_to_exclude": list(settings.excluded_nodes),
            "op_types_to_quantize": [*PRODUCTS, *(["Gather"] if settings.embeddings else [])],
        }
        if self.graph_format == "qoperator":
            return ONNXQuantizer(mode=QuantizationMode.QLinearOps, static=True, extra_options={}, **common)
        weights = {tensor.name for tensor in model.graph.initializer}
        tables = (
            {node.input[0] for node in model.graph.node if node.op_type == "Gather"} & weights if settings.embeddings else set()
        )
        options = {
            "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
            "TensorQuantOverrides": {name: [{"reduce_range": False}] for name in tables},  # tables are not multiplied
        }
        return QDQQuantizer(extra_options=options, **common)


def activations(model: Any, graph_format: GraphFormat, excluded_nodes: Sequence[str] = ()) -> list[str]:
    """Tensors that need a range, in the graph's order: the products' inputs, and for integer operators their outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    tensors: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in PRODUCTS and node.name not in excluded_nodes:
            names = [*node.input[:2], *(node.output if graph_format == "qoperator" else ())]
            tensors |= dict.fromkeys(name for name in names if name not in weights)
    return list(tensors)


def _declare_types(model: Any, tensors: Sequence[str]) -> None:
    """Declares tensors that shape inference does not know, as behind ONNX Runtime's operators: they would stay float."""
    from onnx import TensorProto, helper

    graph = model.graph
    known = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
    graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in known
    )


def _restore(graph: Any, excluded_nodes: Sequence[str]) -> None:
    """Lets float nodes read the exact activation: QDQ rounds it for all of its readers, residual Adds included."""
    makers = {name: node for node in graph.node for name in node.output}

    def exact(name: str) -> str:
        dequantize = makers.get(name)
        quantize = makers.get(dequantize.input[0]) if dequantize and dequantize.op_type == "DequantizeLinear" else None
        if quantize is None or quantize.op_type != "QuantizeLinear":
            return name
        source = quantize.input[0]
        # ONNX Runtime looks up INT8 rows only where they are rounded afterwards, by their own scale: that is exact.
        return name if source in makers and makers[source].op_type == "Gather" else source

    for node in graph.node:
        if node.op_type not in (*PRODUCTS, "QuantizeLinear", "DequantizeLinear") or node.name in excluded_nodes:
            node.input[:] = [exact(name) for name in node.input]


def _require_nodes(model: Any, names: Sequence[str]) -> None:
    present = {node.name for node in model.graph.node}
    if unknown := [name for name in names if name not in present]:
        raise StageError(f"The graph has no node {unknown[0]} to keep in FP32.")
