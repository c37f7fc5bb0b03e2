"""quantize: makes an INT8 graph from an FP32 graph. Each method has a file here; `methods.py` lists them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from edgebert.core.flat import merged_errors, part_of
from edgebert.core.store import Artifact
from edgebert.core.strict import Strict
from edgebert.runtimes import get_runtime, runtime_of_format
from edgebert.runtimes.facts import ONNX
from edgebert.runtimes.isa import overflows
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.quantize.auto import for_targets
from edgebert.stages.quantize.dynamic import Dynamic
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.methods import METHODS, get_method, owners_of
from edgebert.stages.quantize.schema import with_methods
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.quantize.tables import quantize_tables
from edgebert.stages.scorer import Scorer

AUTO = "auto"
"""Name of the search over the methods, which recipes write like a method."""
if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[(AUTO, *(method.method_name() for method in METHODS))]
KNOWN = tuple(method.method_name() for method in METHODS)
COMMON = ("stage", "method", "embeddings")
"""Fields that the stage has whichever its methods are."""
KEYED_FOR_ALL: dict[str, Any] = {
    "per_channel": True,
    "ranges": "minmax",
    "percentile": 99.99,
    "graph_format": "qdq",
    "reduce_range": None,
    "max_drop": 0.01,
    "bits": 8,
    "block_size": 32,
    "accuracy_level": 4,
}
"""Parameters that were fields of every method once: keys still hold them, at these values for a method without, so that
results made before are found."""


class Quantize(Stage):
    """Post-training quantisation of weights and activations to INT8; one candidate for each method.

    Every method has parameters of its own, which stand beside `method`; of a list of methods, each takes those that it has.
    `auto` searches, for each target, the fastest model that passes the gates on answers: it measures methods, rewrites of the
    graph and settings of the runtime, repairs a model that misses a gate, and records what it tried.

    Sample:

        - quantize: {method: [dynamic, static, nncf]}
    """

    stage: Literal["quantize"] = "quantize"
    method: MethodName | tuple[MethodName, ...] = Field(
        ("dynamic",), description="One or several methods; each makes a candidate."
    )
    embeddings: bool = Field(True, description="Quantise the embedding tables too, which are most of a small BERT's file.")
    chosen: tuple[SerializeAsAny[Method], ...] = (Dynamic(),)
    """The methods with their parameters; in YAML and JSON these stand among the fields above. Empty for `auto`."""

    version: ClassVar[int] = 1
    accepts: ClassVar[str] = ONNX
    produces: ClassVar[str] = ONNX
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

    @model_validator(mode="wrap")
    @classmethod
    def _read_flat(cls, data: Any, handler: ModelWrapValidatorHandler[Quantize]) -> Quantize:
        if not isinstance(data, dict) or any(isinstance(item, Method) for item in data.get("chosen") or ()):
            return handler(data)
        # The handler does not know that a list came from JSON, which has no tuples.
        common = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name in COMMON}
        given = {name: value for name, value in data.items() if name not in COMMON}
        names = _names(data.get("method", ("dynamic",)))
        strange = {name: value for name, value in given.items() if not owners_of(name)}
        _, _, *chosen = merged_errors(
            "Quantize",
            lambda: handler({**common, "chosen": ()}),
            lambda: part_of(Strict, strange),
            *(partial(_method, name, given) for name in names if name in KNOWN),
        )
        _refuse_idle(names, given)
        return handler({**common, "chosen": tuple(chosen)})

    @model_serializer(mode="wrap")
    def _write_flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = handler(self)
        own = {name: value for method in fields.pop("chosen") for name, value in method.items() if name != "method"}
        return {**fields, **KEYED_FOR_ALL, **own}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema with the parameters of every method, each of which says whose it is."""
        return with_methods(handler.resolve_ref_schema(handler(core)))

    @classmethod
    def field_names(cls) -> list[str]:
        """Names that the stage has in YAML."""
        return [*COMMON, *dict.fromkeys(name for method in METHODS for name in method.parameters())]

    @property
    def label(self) -> str:
        """`int8-dynamic` once expanded."""
        bits = min((method.weight_bits for method in self.chosen), default=8)
        shared = [] if self.embeddings else ["emb32"]
        marks = [mark for method in self.chosen for mark in method.marks(shared)] or shared
        return "-".join([f"int{bits}", *self.method, *dict.fromkeys(marks)])

    def expand(self, targets: Sequence[Target]) -> tuple[Stage, ...]:
        """One step for each method, and for each width of weights that its targets need; `auto` makes one for each target."""
        if self.automatic:
            return for_targets(targets or (Target(runtime="onnxruntime"),), embeddings=self.embeddings)
        return tuple(self._alone(method) for one in self.chosen for method in _widths(one, targets))

    @property
    def automatic(self) -> bool:
        """Whether it is a search (`method: auto`)."""
        return self.method == (AUTO,)

    def _alone(self, method: Method) -> Quantize:
        """This stage with one method."""
        return self.model_copy(update={"method": (method.method_name(),), "chosen": (method,)})

    def fits(self, target: Target, steps: Collection[Stage]) -> bool:
        """Whether a target takes this expanded step: of two widths of weights, 8 bits where they do not overflow, else 7."""
        if overflows(target):
            return self.any_cpu
        wide = self.only.widened()
        return wide is None or self._alone(wide) not in steps

    @property
    def any_cpu(self) -> bool:
        """Whether products of this expanded step saturate on no CPU."""
        return self.only.any_cpu

    @property
    def only(self) -> Method:
        """The method of an expanded step."""
        return self.chosen[0]

    def input_format(self) -> str:
        """The source format of its method."""
        return self.only.source_format()

    def output_format(self) -> str:
        """The format of its method's result."""
        return self.only.format

    def needed(self) -> frozenset[str]:
        """Calibration data where ranges are fixed beforehand, rows to choose on where the score decides, a head to export."""
        conditions = {"calibration": self.only.calibrated, "select": self.only.scored, "head": not self.only.from_graph}
        return frozenset(need for need, is_needed in conditions.items() if is_needed)

    def required_packages(self) -> tuple[str, ...]:
        """The packages of its method."""
        return self.only.packages

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a graph of the method's format."""
        method = self.only
        settings = Settings(
            calibration=tuple(context.calibration) if method.calibrated else (),
            embeddings=self.embeddings,
            score=Scorer.of(context.serving(source), context.data["select"]) if method.scored else None,
            task=context.task,
            labels=context.labels,
        )
        with context.progress.step(f"quantize ({method.method_name()})"):
            facts = method.quantize(self._source(source, context), context.out, settings)
        return {"any_cpu": self.any_cpu, **facts}

    def _source(self, source: Artifact, context: RunContext) -> Path:
        """The source of the method. In an ONNX graph, embedding tables that shall be INT8 are quantised already."""
        method = self.only
        if not method.from_graph:
            return source.path
        file = source.path / runtime_of_format(method.format).model_file
        if not self.embeddings or method.format != ONNX or method.quantises_tables:
            return file
        prepared = context.work / file.name
        quantize_tables(file, prepared)
        return prepared


def _names(value: Any) -> list[Any]:
    """The methods that a recipe asks for, not yet checked."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _method(name: str, given: Mapping[str, Any]) -> Method:
    """The method of that name with those of the given parameters that it has."""
    method = get_method(name)
    return part_of(method, {name: value for name, value in given.items() if name in method.parameters()})


def _refuse_idle(names: Sequence[Any], given: Mapping[str, Any]) -> None:
    """Refuses parameters that none of the methods has, unless they are at their default.

    Raises:
        ValueError: for the first one.
    """
    if AUTO in names and len(names) > 1:
        raise ValueError("auto tries every method that fits the target; name it alone")
    for name, value in given.items():
        owners = owners_of(name)
        if not owners or set(owners) & set(names) or value == get_method(owners[0]).model_fields[name].default:
            continue
        if AUTO in names:
            raise ValueError(f"auto chooses {name} itself; drop it")
        raise ValueError(f"{name} is a parameter of the method {' or '.join(owners)}; drop it")


def _widths(method: Method, targets: Sequence[Target]) -> list[Method]:
    """The method in each width of weights that the targets need: 8 bits first, then 7."""
    narrow = method.narrowed()
    if narrow is None:
        return [method]
    of_its_format = [target for target in targets if get_runtime(target.runtime).format == method.format]
    needed = {overflows(target) for target in of_its_format} or {False}
    return [*([method] if False in needed else []), *([narrow] if True in needed else [])]
