"""NNCF with accuracy control: groups of operators return to FP32, one by one, until the score drops by at most `max_drop`.

`nncf.quantize_with_accuracy_control` quantises all and scores on rows that choose. While the drop is too large, it ranks the
groups of quantisers by how much the logits change without each, and removes the group that matters most.

SmoothQuant is off here: NNCF 3.4 restores weights from before it, while the activations stay divided by its scales, so that
a graph with nothing left in INT8 does not answer as FP32 does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgebert.core.interrupts import signal_stack_kept
from edgebert.core.packages import quiet_libraries
from edgebert.errors import StageError
from edgebert.runtimes.openvino import save_ir
from edgebert.stages.quantize.fused_kernels import require_same_answers
from edgebert.stages.quantize.method import ScoredProducts
from edgebert.stages.quantize.nncf import advanced, common_options, taken
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.scorer import Scorer


class NncfAccuracy(ScoredProducts):
    """NNCF that returns operators to FP32 until the score drops by at most `max_drop`."""

    method: Literal["nncf-accuracy"] = "nncf-accuracy"

    format: ClassVar[str] = "openvino"
    calibrated: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf")

    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
        """Writes openvino_model.xml and .bin.

        Raises:
            StageError: NNCF cannot quantise the graph.
        """
        assert settings.score is not None
        validation = _Validation(settings.score)
        try:
            with quiet_libraries(), signal_stack_kept():
                import nncf
                import openvino as ov

                model = ov.Core().read_model(str(source))
                quantized = nncf.quantize_with_accuracy_control(
                    model,
                    calibration_dataset=nncf.Dataset(taken(model, settings.batches())),
                    validation_dataset=nncf.Dataset(taken(model, settings.score.batches())),
                    validation_fn=validation,
                    max_drop=self.max_drop,
                    drop_type=nncf.DropType.ABSOLUTE,
                    advanced_quantization_parameters=_without_smoothing(advanced(self)),
                    **common_options(nncf, model, self, settings),
                )
                save_ir(quantized, target / "openvino_model.xml")
        except RuntimeError as error:
            raise StageError(f"NNCF could not quantise {source}: {str(error).splitlines()[0]}") from error
        require_same_answers(target / "openvino_model.xml", settings)
        fp32, first, *rest = validation.scores
        return {
            "calibration_samples": len(settings.calibration),
            "score_fp32": fp32,
            "score_int8": first,
            "trials": 1 + len(rest),
        }


def _without_smoothing(parameters: Any) -> Any:
    from nncf import AdvancedSmoothQuantParameters

    parameters.smooth_quant_alphas = AdvancedSmoothQuantParameters(matmul=-1)
    return parameters


@dataclass
class _Validation:
    """Validation function for NNCF: the score of a compiled graph, and the outputs by which NNCF ranks the groups."""

    scorer: Scorer
    scores: list[float] = field(default_factory=list)
    """Scores on all rows that choose, in order: of FP32, of INT8, and of each graph with fewer groups in INT8."""

    def __call__(self, compiled: Any, batches: Iterable[Any]) -> tuple[float, list[list[Any]]]:
        names = [port.get_any_name() for port in compiled.outputs]
        outputs = [dict(zip(names, compiled(batch).values(), strict=True)) for batch in batches]
        score = self.scorer.score(outputs)
        if len(outputs) == len(self.scorer.encoded):  # NNCF first calls the function with one example
            self.scores.append(score)
        return score, [list(answer.values()) for answer in outputs]
