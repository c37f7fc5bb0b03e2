"""Target: where and how a model serves. What only one runtime has is among its options, flat beside the other fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

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
from pydantic_core import to_jsonable_python

from edgebert.core.flat import any_of, merged_errors, part_of, unknown
from edgebert.core.strict import Strict
from edgebert.runtimes.facts import Named, RuntimeOptions

Isa = Literal["avx2", "avx512", "avx_vnni", "avx512_vnni", "amx", "arm-neon", "arm-dotprod", "arm-i8mm"]
WRITTEN_FOR_ALL: dict[str, Any] = {
    "disabled_optimizers": [],
    "spinning": True,
    "denormals_as_zero": False,
    "arena": True,
    "precision": "f32",
}
"""Options that were fields of every target once: files still hold them for each runtime, at these values for one without."""


class Target(Strict):
    """A runtime and the way it is used. Accuracy is measured at this batch and padding, latency at these threads.

    Sample:

        - {runtime: onnxruntime, threads: 1}
        - {runtime: openvino, threads: 1, length_bucket: 16}
    """

    runtime: str = Field(description="What runs the graph on the device, which decides the graph's format.")
    threads: int = Field(1, ge=1, le=1024, description="Threads for one query.")
    batch: int = Field(1, ge=1, le=4096, description="Examples in one query.")
    padding: Literal["longest", "max_length"] = Field(
        "longest", description="Length that texts are padded to: that of the longest in the batch, or always max_length."
    )
    length_bucket: int | None = Field(None, ge=1, description="Lengths are padded up to a multiple of this number of tokens.")
    isa: Isa | None = Field(
        None,
        description="Instruction set of the device. By default this machine's. Without 8-bit dot products, INT8 weights get 7 "
        "bits, because sums of 8-bit products would overflow 16 bits.",
    )
    options: SerializeAsAny[RuntimeOptions] = RuntimeOptions()
    """Its runtime's own options; in YAML and JSON each stands among the fields above."""

    @field_validator("runtime")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        if name not in (known := [runtime.name for runtime in _runtimes()]):
            raise unknown(known)
        return name

    @model_validator(mode="wrap")
    @classmethod
    def _read_flat(cls, data: Any, handler: ModelWrapValidatorHandler[Target]) -> Target:
        if not isinstance(data, dict) or isinstance(data.get("options"), RuntimeOptions):
            return handler(data)
        own = next((runtime.options for runtime in _runtimes() if runtime.name == data.get("runtime")), RuntimeOptions)
        given = {name: value for name, value in data.items() if name in own.model_fields or name == "options"}
        foreign = {name: owners for name, owners in _owners().items() if name in data and name not in given}
        rest = {name: value for name, value in data.items() if name not in given and name not in foreign}
        _, options = merged_errors("Target", lambda: handler(rest), lambda: part_of(own, given))
        for name, owners in sorted(foreign.items()):
            if to_jsonable_python(data[name], fallback=repr) not in [_default(owner, name) for owner in owners]:
                raise ValueError(f"{name} is {' and '.join(owner.title for owner in owners)}'s; drop it for another runtime")
        return handler({**rest, "options": options})

    @model_validator(mode="after")
    def _no_bucket_at_fixed_length(self) -> Target:
        if self.padding == "max_length" and self.length_bucket is not None:
            raise ValueError("length_bucket means nothing when padding is max_length; drop one of them")
        return self

    @model_serializer(mode="wrap")
    def _write_flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = handler(self)
        options = fields.pop("options")
        return {**fields, **WRITTEN_FOR_ALL, **options}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema with the options of every runtime, each of which says whose it is."""
        schema = handler.resolve_ref_schema(handler(core))
        fields = schema["properties"]
        del fields["options"]
        fields["runtime"]["enum"] = [runtime.name for runtime in _runtimes()]
        buckets = [
            f"{runtime.options.default_bucket} for {runtime.title}"
            for runtime in _runtimes()
            if runtime.options.default_bucket > 1
        ]
        fields["length_bucket"]["description"] += (
            f" Default: {', '.join(buckets)}, which compiles a graph for each length, so that a new length stalls it; 1 (no "
            "rounding) for others."
        )
        fields |= {name: _option_schema(name, owners) for name, owners in _owners().items()}
        return schema

    @classmethod
    def field_names(cls) -> list[str]:
        """Names that a target has in YAML."""
        options = [name for runtime in _runtimes() for name in runtime.options.model_fields]
        return [*(name for name in cls.model_fields if name != "options"), *options]

    @property
    def bucket(self) -> int:
        """Tokens between two neighbouring lengths that the runtime sees."""
        return self.length_bucket or self.options.default_bucket

    def for_baseline(self) -> Target:
        """The target of the FP32 baseline: the same, with the defaults of the runtime's options."""
        return self.model_copy(update={"options": type(self.options)()})

    def with_tuning(self, settings: Mapping[str, Any]) -> Target:
        """The same target with other settings of its runtime, checked as a recipe's are."""
        return type(self).model_validate_json(json.dumps({**self.model_dump(mode="json"), **settings}))

    def identity(self) -> dict[str, Any]:
        """Its fields, for keys. Options and fields of newer versions are left out at their default: older keys stay valid."""
        default = self.for_baseline().model_copy(update={"isa": None}).model_dump(mode="json")
        always = {name for name in type(self).model_fields if name not in ("isa", "options")}
        written = self.model_dump(mode="json")
        return {name: value for name, value in written.items() if name in always or value != default[name]}

    @property
    def name(self) -> str:
        """Short and unique within a recipe: `openvino`, `onnxruntime-t4-b8`."""
        parts: list[str] = [self.runtime]
        parts += [f"t{self.threads}"] if self.threads != 1 else []
        parts += [f"b{self.batch}"] if self.batch != 1 else []
        parts += ["fixed"] if self.padding == "max_length" else []
        parts += [f"by{self.length_bucket}"] if self.length_bucket else []
        parts += [self.isa] if self.isa else []
        parts += ["tuned"] if self != self.for_baseline() else []
        return "-".join(parts)

    def padded_length(self, longest: int, max_length: int) -> int:
        """Length in tokens that a batch is padded to when its longest example has `longest`."""
        if self.padding == "max_length":
            return max_length
        return min(-(-longest // self.bucket) * self.bucket, max(max_length, longest))


_registry: list[Callable[[], Sequence[Named]]] = []


def read_runtimes_from(registry: Callable[[], Sequence[Named]]) -> None:
    """Says which runtimes there are. The package does at its import: it knows the runtimes, which know this module."""
    _registry[:] = [registry]


def _runtimes() -> Sequence[Named]:
    return _registry[0]()


def _owners() -> dict[str, list[Named]]:
    """Name of each option -> the runtimes that have it."""
    owners: dict[str, list[Named]] = {}
    for runtime in _runtimes():
        for name in runtime.options.model_fields:
            owners.setdefault(name, []).append(runtime)
    return owners


def _default(runtime: Named, option: str) -> Any:
    """The default of an option as JSON has it."""
    return runtime.options().model_dump(mode="json")[option]


def _option_schema(name: str, owners: Sequence[Named]) -> dict[str, Any]:
    schemas = [owner.options.model_json_schema()["properties"][name] for owner in owners]
    texts = [f"{owner.title} only: {schema['description']}" for owner, schema in zip(owners, schemas, strict=True)]
    return any_of(schemas, " ".join(texts))
