"""quantize: makes an INT8 graph from an FP32 graph. Each method has a file here; `methods.py` lists them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from edgebert.core.store import Artifact
from edgebert.runtimes import get_runtime
from edgebert.runtimes.isa import overflows
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.quantize.auto import for_targets
from edgebert.stages.quantize.methods import APPLIES, AUTO, METHODS, Method, MethodName
from edgebert.stages.quantize.settings import GraphFormat, Ranges, Settings
from edgebert.stages.quantize.tables import quantize_tables
from edgebert.stages.scorer import Scorer


class Quantize(Stage):
    """Post-training quantisation of weights and activations to INT8; one candidate for each method.

    Methods: `dynamic` (ONNX Runtime, activation ranges at run time), `static` (ONNX Runtime QDQ, ranges from calibration),
    `nncf` (OpenVINO's NNCF, ranges from calibration), `nncf-accuracy` (NNCF that returns operators to FP32 until the score
    drops by at most `max_drop`), `neural-compressor` (Intel's, from PyTorch to a QDQ graph; it tries ways to find ranges until
    the score drops by at most `max_drop`), `weight-only` (INT8 or INT4 weights by blocks, where memory matters, not time).

    `auto` searches, for each target, the fastest model that passes the gates on answers: it measures methods, rewrites of the
    graph and settings of the runtime, repairs a model that misses a gate, and records what it tried.

    Sample:

        - quantize: {method: [dynamic, static, nncf]}
    """

    stage: Literal["quantize"] = "quantize"
    method: MethodName | tuple[MethodName, ...] = Field(
        ("dynamic",), description="One or several methods; each makes a candidate."
    )
    per_channel: bool = Field(True, description="One weight scale for each output channel, instead of one for each matrix.")
    embeddings: bool = Field(True, description="Quantise the embedding tables too, which are most of a small BERT's file.")

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
        description="For static: QuantizeLinear and DequantizeLinear around float operators (qdq), or integer operators "
        "(qoperator).",
    )

    reduce_range: bool | None = Field(
        None,
        description="Weights in 7 bits, so that INT8 accumulation saturates on no CPU. Default: where the target's instruction "
        "set needs it.",
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="For nncf-accuracy and neural-compressor: largest drop of the task's first metric below FP32's, on the "
        "eval set.",
    )
    bits: Literal[4, 8] = Field(8, description="For weight-only: bits of a weight.")
    block_size: Literal[16, 32, 64, 128, 256] = Field(
        32,
        description="For weight-only: weights that share a scale. Larger blocks are smaller, faster and less accurate.",
    )
    accuracy_level: Literal[1, 4] = Field(
        4,
        description="For weight-only: products round activations to INT8 (4), or keep them in FP32 (1), which is much slower.",
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
        if AUTO in self.method:
            self._require_auto_alone()
        for name, methods in APPLIES.items():
            if self._given(name) and not set(methods) & set(self.method):
                raise ValueError(f"{name} is a parameter of the method {' or '.join(methods)}; drop it")
        if self._given("percentile") and self.ranges != "percentile":
            raise ValueError("percentile is a parameter of `ranges: percentile`; drop one of them")
        return self

    def _require_auto_alone(self) -> None:
        given = [
            name for name in type(self).model_fields if name not in ("stage", "method", "embeddings") and self._given(name)
        ]
        if len(self.method) > 1:
            raise ValueError("auto tries every method that fits the target; name it alone")
        if given:
            raise ValueError(f"auto chooses {given[0]} itself; drop it")

    @property
    def label(self) -> str:
        """`int8-dynamic` once expanded."""
        marks = [] if self.per_channel else ["tensor"]
        marks += [] if self.embeddings else ["emb32"]
        marks += [self.ranges] if self.ranges != "minmax" else []
        marks += [self.graph_format] if self.graph_format != "qdq" else []
        marks += ["7bit"] if self.reduce_range else []
        marks += [f"drop{self.max_drop:g}"] if self._given("max_drop") else []
        marks += [f"b{self.block_size}"] if self._given("block_size") else []
        marks += ["act32"] if self.accuracy_level == 1 else []
        return "-".join([f"int{self.bits}", *self.method, *marks])

    def expand(self, targets: Sequence[Target]) -> tuple[Stage, ...]:
        """One step for each method, and for each width of weights that its targets need; `auto` makes one for each target."""
        if self.automatic:
            return for_targets(targets or (Target(runtime="onnxruntime"),), embeddings=self.embeddings)
        return tuple(self._alone(method, reduced) for method in self.method for reduced in self._widths(method, targets))

    @property
    def automatic(self) -> bool:
        """Whether it is a search (`method: auto`)."""
        return self.method == (AUTO,)

    def _alone(self, method: str, reduced: bool) -> Quantize:
        """This stage with one of its methods, and only that method's parameters."""
        idle = {name for name, methods in APPLIES.items() if method not in methods}
        alone = Quantize(**{**self.model_dump(exclude=idle), "method": (method,)})
        return alone.model_copy(update={"reduce_range": True}) if reduced else alone

    def _widths(self, method: str, targets: Sequence[Target]) -> list[bool]:
        """Widths of weights that the targets need, False for 8 bits and True for 7: a step for each."""
        if self.reduce_range is not None or method not in APPLIES["reduce_range"]:
            return [False]
        graph_format = next(entry.format for entry in METHODS if entry.name == method)
        return sorted({overflows(target) for target in targets if get_runtime(target.runtime).format == graph_format}) or [
            False
        ]

    def fits(self, target: Target, steps: Collection[Stage]) -> bool:
        """Whether a target takes this expanded step: of two widths of weights, 8 bits where they do not overflow, else 7."""
        if overflows(target):
            return self.any_cpu
        return not (self.reduce_range and self.model_copy(update={"reduce_range": None}) in steps)

    @property
    def any_cpu(self) -> bool:
        """Whether products of this expanded step saturate on no CPU: with weights of 7 bits, or FP32 activations."""
        float_activations = self.chosen.name in APPLIES["accuracy_level"] and self.accuracy_level == 1
        return bool(self.reduce_range) or float_activations

    def _given(self, name: str) -> bool:
        """Whether a field differs from its default."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    @property
    def chosen(self) -> Method:
        """The method of an expanded step."""
        return next(method for method in METHODS if method.name == self.method[0])

    def input_format(self) -> str:
        """The source format of its method."""
        return self.chosen.source_format

    def output_format(self) -> str:
        """The format of its method's result."""
        return self.chosen.format

    def needed(self) -> frozenset[str]:
        """Calibration data where ranges are fixed beforehand, the eval set where the score decides, a head to export."""
        conditions = {
            "calibration": self.chosen.calibrated,
            "eval": self.chosen.scored,
            "head": self.chosen.source_format == "transformers",
        }
        return frozenset(need for need, is_needed in conditions.items() if is_needed)

    def required_packages(self) -> tuple[str, ...]:
        """The packages of its method."""
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
            reduce_range=bool(self.reduce_range),
            max_drop=self.max_drop,
            bits=self.bits,
            block_size=self.block_size,
            accuracy_level=self.accuracy_level,
            score=Scorer.of(context.serving(source), context.data["eval"]) if self.chosen.scored else None,
            task=context.task,
            labels=context.labels,
        )
        with context.progress.step(f"quantize ({self.chosen.name})"):
            facts = self.chosen.run(self._graph(source, context), context.out, settings)
        return {"any_cpu": self.any_cpu, **facts}

    def _graph(self, source: Artifact, context: RunContext) -> Path:
        """The source of the method. In an ONNX graph, embedding tables that shall be INT8 are quantised already."""
        file = source.path / self.chosen.source_file
        if (
            not self.embeddings or self.chosen.source_format != "onnx" or self.bits == 4
        ):  # weight-only quantises tables to 4 bits itself
            return file
        prepared = context.work / "model.onnx"
        quantize_tables(file, prepared)
        return prepared
