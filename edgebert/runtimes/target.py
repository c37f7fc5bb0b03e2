"""Target: where and how a model serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from edgebert.core.strict import Strict

Isa = Literal["avx2", "avx512", "avx_vnni", "avx512_vnni", "amx", "arm-neon", "arm-dotprod", "arm-i8mm"]
TUNED = ("disabled_optimizers", "spinning", "denormals_as_zero", "arena", "precision")
"""Fields that may differ between FP32 and a candidate on the same target."""
ONLY_ONNXRUNTIME = {"disabled_optimizers", "spinning", "denormals_as_zero", "arena"}
ONLY_OPENVINO = {"precision"}
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}


class Target(Strict):
    """A runtime and the way it is used. Accuracy is measured at this batch and padding, latency at these threads.

    Sample:

        - {runtime: onnxruntime, threads: 1}
        - {runtime: openvino, threads: 1, length_bucket: 16}
    """

    runtime: Literal["onnxruntime", "openvino", "torch"]
    """torch runs Transformers folders as they are, for comparison; a recipe's targets take one of the other two."""
    threads: int = Field(1, ge=1, le=1024, description="Threads for one query.")
    batch: int = Field(1, ge=1, le=4096, description="Examples in one query.")
    padding: Literal["longest", "max_length"] = Field(
        "longest", description="Length that texts are padded to: that of the longest in the batch, or always max_length."
    )
    length_bucket: int | None = Field(
        None,
        ge=1,
        description="Lengths are padded up to a multiple of this number of tokens. OpenVINO compiles one graph for each, as "
        "a new length stalls it; default 8 for OpenVINO, 1 (no rounding) for others.",
    )

    disabled_optimizers: tuple[str, ...] = Field(
        (),
        description="ONNX Runtime only: graph optimisers that candidates run without. Some, such as SkipLayerNormFusion and "
        "BiasGeluFusion, slow small INT8 models down. FP32 always runs with the runtime's defaults.",
    )

    spinning: bool = Field(
        True, description="ONNX Runtime only: threads wait for work in a loop, which is faster and keeps cores busy meanwhile."
    )
    denormals_as_zero: bool = Field(False, description="ONNX Runtime only: numbers under 1e-38 count as 0.")
    arena: bool = Field(True, description="ONNX Runtime only: freed memory is kept for the next query.")
    precision: Literal["f32", "bf16"] = Field(
        "f32",
        description="OpenVINO only: format of all but INT8. bf16 is faster on CPUs that have it. FP32 always runs in f32.",
    )
    isa: Isa | None = Field(
        None,
        description="Instruction set of the device. By default this machine's. Without 8-bit dot products, INT8 weights get 7 "
        "bits, because sums of 8-bit products would overflow 16 bits.",
    )

    @model_validator(mode="after")
    def _settings_are_the_runtimes(self) -> Target:
        for name in sorted(ONLY_ONNXRUNTIME | ONLY_OPENVINO):
            runtime = "onnxruntime" if name in ONLY_ONNXRUNTIME else "openvino"
            if self.runtime != runtime and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is {TITLES[runtime]}'s; drop it for another runtime")
        return self

    @model_validator(mode="after")
    def _no_bucket_at_fixed_length(self) -> Target:
        if self.padding == "max_length" and self.length_bucket is not None:
            raise ValueError("length_bucket means nothing when padding is max_length; drop one of them")
        return self

    @property
    def bucket(self) -> int:
        """Tokens between two neighbouring lengths that the runtime sees."""
        return self.length_bucket or (8 if self.runtime == "openvino" else 1)

    def for_baseline(self) -> Target:
        """The target of the FP32 baseline: the same, with the runtime's defaults for everything in `TUNED`."""
        return self.with_tuning({name: type(self).model_fields[name].default for name in TUNED})

    def with_tuning(self, settings: Mapping[str, Any]) -> Target:
        """The same target with other settings of its runtime, checked as a recipe's are."""
        return type(self).model_validate_json(json.dumps({**self.model_dump(mode="json"), **settings}))

    def identity(self) -> dict[str, Any]:
        """Its fields, for keys. Fields of newer versions are left out at their default, so that older keys stay valid."""
        later = {*TUNED, "isa"}
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name not in later or getattr(self, name) != type(self).model_fields[name].default
        }

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
