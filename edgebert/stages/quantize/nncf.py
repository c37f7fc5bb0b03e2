"""OpenVINO quantisation by NNCF's scheme for transformers: activations per tensor, weights per channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgebert.core.interrupts import signal_stack_kept
from edgebert.core.packages import quiet_libraries
from edgebert.errors import StageError
from edgebert.runtimes.openvino import save_ir
from edgebert.stages.quantize.fused_kernels import require_same_answers
from edgebert.stages.quantize.method import IntegerProducts
from edgebert.stages.quantize.settings import Settings


class Nncf(IntegerProducts):
    """OpenVINO's NNCF; ranges from calibration."""

    method: Literal["nncf"] = "nncf"

    format: ClassVar[str] = "openvino"
    calibrated: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    searched: ClassVar[tuple[tuple[tuple[str, Any], ...], ...]] = ((),)

    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
        """Writes openvino_model.xml and .bin."""
        try:
            with quiet_libraries(), signal_stack_kept():
                import nncf
                import openvino as ov

                model = ov.Core().read_model(str(source))
                quantized = nncf.quantize(
                    model,
                    nncf.Dataset(taken(model, settings.batches())),
                    advanced_parameters=advanced(self),
                    **common_options(nncf, model, self, settings),
                )
                save_ir(quantized, target / "openvino_model.xml")
        except RuntimeError as error:
            raise StageError(f"NNCF could not quantise {source}: {str(error).splitlines()[0]}") from error
        require_same_answers(target / "openvino_model.xml", settings)
        return {"calibration_samples": len(settings.calibration)}


def taken(model: Any, batches: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Batches without what an openvino.Model has no input for, such as the segment ids of families without them."""
    names = {name for port in model.inputs for name in port.names}
    return [{name: value for name, value in batch.items() if name in names} for batch in batches]


def common_options(nncf: Any, model: Any, method: IntegerProducts, settings: Settings) -> dict[str, Any]:
    """Arguments that both of NNCF's quantisers take."""
    return {
        "model_type": nncf.ModelType.TRANSFORMER,
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(settings.calibration),
        **_ignored(nncf, model, method, settings),
    }


def advanced(method: IntegerProducts) -> Any:
    """NNCF's advanced parameters."""
    from nncf import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.advanced_parameters import QuantizationParameters

    weights = {} if method.per_channel else {"weights_quantization_params": QuantizationParameters(per_channel=False)}
    # NNCF's default narrows first convolutions alone. ENABLE keeps the weights of every MatMul to 7 bits.
    fix = OverflowFix.ENABLE if method.reduce_range else OverflowFix.DISABLE
    return AdvancedQuantizationParameters(overflow_fix=fix, **weights)


def _ignored(nncf: Any, model: Any, method: IntegerProducts, settings: Settings) -> dict[str, Any]:
    names = [*_named(model, settings.excluded_nodes), *_products_after_relu(model)]
    names += _products_of_activations(model) if method.reduce_range else []
    types = [] if settings.embeddings else ["Gather"]
    if not types and not names:
        return {}
    return {"ignored_scope": nncf.IgnoredScope(names=list(dict.fromkeys(names)), types=types)}


def _named(model: Any, wanted: Sequence[str]) -> list[str]:
    """Names of nodes that ONNX nodes became; a Gemm becomes several nodes whose names begin with its own."""
    names = [node.get_friendly_name() for node in model.get_ops()]
    return [name for name in names if any(name == one or name.startswith(f"{one}/") for one in wanted)]


def _products_of_activations(model: Any) -> list[str]:
    """MatMuls of attention, without weights. Two 8-bit activations overflow, too, and NNCF's fix narrows weights only."""
    return [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "MatMul" and not any(_is_constant(value) for value in node.input_values())
    ]


def _products_after_relu(model: Any) -> list[str]:
    """Products of what a ReLU gives, as DistilBERT's head has one. OpenVINO's fused kernel of a ReLU and the rounding after it
    (2026.4) leaves memory unwritten, so that each load of such a graph answered otherwise."""
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    return [node.get_friendly_name() for node in products if node.input_value(0).get_node().get_type_name() == "Relu"]


def _is_constant(value: Any) -> bool:
    """Whether a value is a weight, perhaps behind a conversion or a change of shape."""
    node = value.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")
