"""OpenVINO quantisation through NNCF: its scheme for transformers, activations per tensor, weights per channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.errors import StageError
from edgebert.openvino_ir import save_ir
from edgebert.quiet import quiet_libraries
from edgebert.signal_stack import signal_stack_kept
from edgebert.stages.quantize.settings import Settings


def quantize(source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
    """Writes openvino_model.xml and .bin."""
    try:
        with quiet_libraries(), signal_stack_kept():
            import nncf
            import openvino as ov

            model = ov.Core().read_model(str(source))
            quantized = nncf.quantize(
                model,
                nncf.Dataset(settings.batches()),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(settings.calibration),
                advanced_parameters=_advanced(settings),
                **_ignored(nncf, settings),
            )
            save_ir(quantized, target / "openvino_model.xml")
    except RuntimeError as error:
        raise StageError(f"NNCF could not quantise {source}: {str(error).splitlines()[0]}") from error
    return {"calibration_samples": len(settings.calibration)}


def _advanced(settings: Settings) -> Any:
    from nncf import AdvancedQuantizationParameters
    from nncf.quantization.advanced_parameters import QuantizationParameters

    if settings.per_channel:
        return AdvancedQuantizationParameters()
    return AdvancedQuantizationParameters(weights_quantization_params=QuantizationParameters(per_channel=False))


def _ignored(nncf: Any, settings: Settings) -> dict[str, Any]:
    types = [] if settings.embeddings else ["Gather"]
    if not types and not settings.keep_float:
        return {}
    return {"ignored_scope": nncf.IgnoredScope(names=list(settings.keep_float), types=types)}
