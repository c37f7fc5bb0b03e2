"""quantize: FP32 graph in, INT8 graph out. One file here for each method.

A method is a function (source file, target folder, settings) -> facts. Adding one: a file, a line in METHODS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from edgebert.artifact import Artifact
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.quantize import dynamic, nncf, static
from edgebert.stages.quantize.settings import Settings

MethodName = Literal["dynamic", "static", "nncf"]


@dataclass(frozen=True)
class Method:
    """One way to quantise."""

    name: str
    format: str
    """Of its source and of its result."""
    source_file: str
    calibrated: bool
    packages: tuple[str, ...]
    run: Callable[..., Mapping[str, Any]]


METHODS = (
    Method("dynamic", "onnx", "model.onnx", False, ("onnx", "onnxruntime"), dynamic.quantize),
    Method("static", "onnx", "model.onnx", True, ("onnx", "onnxruntime"), static.quantize),
    Method("nncf", "openvino", "openvino_model.xml", True, ("openvino", "nncf"), nncf.quantize),
)


class Quantize(Stage):
    """Post-training quantisation of weights and activations to INT8; one candidate for each method.

    Methods: `dynamic` (ONNX Runtime, activation ranges at run time), `static` (ONNX Runtime QDQ, ranges from calibration),
    `nncf` (OpenVINO's NNCF, ranges from calibration).

    Sample:

        - quantize: {method: [dynamic, static, nncf]}
    """

    stage: Literal["quantize"] = "quantize"
    method: MethodName | tuple[MethodName, ...] = Field(
        ("dynamic",), description="One method or several; every one makes a candidate."
    )
    per_channel: bool = Field(True, description="One weight scale for each output channel, not one for each matrix.")
    embeddings: bool = Field(True, description="Quantise the embedding tables too: most of a small BERT's file.")

    version: ClassVar[int] = 1
    accepts: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    graph_precision: ClassVar[Literal["fp32", "int8"]] = "int8"
    final: ClassVar[bool] = True
    keyed_by_packages: ClassVar[bool] = True

    @field_validator("method")
    @classmethod
    def _methods_distinct(cls, method: Any) -> tuple[str, ...]:
        methods = (method,) if isinstance(method, str) else tuple(method)
        if not methods or len(set(methods)) < len(methods):
            raise ValueError("needs one or more different methods")
        return methods

    @property
    def label(self) -> str:
        """`int8-dynamic` once expanded."""
        return "-".join(
            ["int8", *self.method, *([] if self.per_channel else ["tensor"]), *([] if self.embeddings else ["emb32"])]
        )

    def expand(self, runtimes: Sequence[str]) -> tuple[Stage, ...]:
        """One step for each method."""
        return tuple(self.model_copy(update={"method": (method,)}) for method in self.method)

    @property
    def chosen(self) -> Method:
        """The method of an expanded step."""
        return next(method for method in METHODS if method.name == self.method[0])

    def input_format(self) -> str:
        """That of its method."""
        return self.chosen.format

    def output_format(self) -> str:
        """That of its method."""
        return self.chosen.format

    def needed(self) -> frozenset[str]:
        """Calibration data, where ranges are fixed beforehand."""
        return frozenset({"calibration"}) if self.chosen.calibrated else frozenset()

    def required_packages(self) -> tuple[str, ...]:
        """Those of its method."""
        return self.chosen.packages

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a graph of the source's format."""
        settings = Settings(
            per_channel=self.per_channel,
            embeddings=self.embeddings,
            calibration=tuple(context.calibration) if self.chosen.calibrated else (),
        )
        with context.progress.step(f"quantize ({self.chosen.name})"):
            return self.chosen.run(source.path / self.chosen.source_file, context.out, settings)
