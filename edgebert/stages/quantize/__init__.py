"""quantize: FP32 graph in, INT8 graph out. One file here for each method; `methods.py` lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from edgebert.artifact import Artifact
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.quantize.methods import APPLIES, METHODS, Method, MethodName
from edgebert.stages.quantize.settings import GraphFormat, Ranges, Settings


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

    ranges: Ranges = Field(
        "minmax",
        description="How the range of an activation is found from calibration data: its extremes, the mean of each text's "
        "extremes, or the clipping that loses least by KL divergence (entropy), by a share of the values (percentile) or "
        "by squared error (mse).",
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="For `ranges: percentile`: share of values that the range holds."
    )
    graph_format: GraphFormat = Field(
        "qdq", description="Of static: QuantizeLinear and DequantizeLinear around float operators, or integer operators."
    )

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

    @model_validator(mode="after")
    def _parameters_apply(self) -> Quantize:
        for name, methods in APPLIES.items():
            if self._given(name) and not set(methods) & set(self.method):
                raise ValueError(f"{name} is a parameter of the method {' or '.join(methods)}; drop it")
        if self._given("percentile") and self.ranges != "percentile":
            raise ValueError("percentile is a parameter of `ranges: percentile`; drop one of them")
        return self

    @property
    def label(self) -> str:
        """`int8-dynamic` once expanded."""
        marks = [] if self.per_channel else ["tensor"]
        marks += [] if self.embeddings else ["emb32"]
        marks += [self.ranges] if self.ranges != "minmax" else []
        marks += [self.graph_format] if self.graph_format != "qdq" else []
        return "-".join(["int8", *self.method, *marks])

    def expand(self, targets: Sequence[Target]) -> tuple[Stage, ...]:
        """One step for each method, with the parameters that say something to it."""
        return tuple(self._alone(method) for method in self.method)

    def _alone(self, method: str) -> Quantize:
        """What it says to one of its methods."""
        idle = {name for name, methods in APPLIES.items() if method not in methods}
        return Quantize(**{**self.model_dump(exclude=idle), "method": (method,)})

    def _given(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

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
            ranges=self.ranges,
            percentile=self.percentile,
            graph_format=self.graph_format,
            task=context.task,
            labels=context.labels,
        )
        with context.progress.step(f"quantize ({self.chosen.name})"):
            return self.chosen.run(source.path / self.chosen.source_file, context.out, settings)
