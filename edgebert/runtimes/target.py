"""Target: where and how a model serves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgebert.strict import Strict


class Target(Strict):
    """A runtime and the way it is used. Accuracy is measured at this batch and padding, latency at these threads.

    Sample:

        - {runtime: onnxruntime, threads: 1}
        - {runtime: openvino, threads: 1, length_bucket: 16}
    """

    runtime: Literal["onnxruntime", "openvino"]
    threads: int = Field(1, ge=1, le=1024, description="Threads for one query.")
    batch: int = Field(1, ge=1, le=4096, description="Examples in one query.")
    padding: Literal["longest", "max_length"] = Field(
        "longest", description="To the longest of the batch, or always to max_length."
    )
    length_bucket: int | None = Field(
        None,
        ge=1,
        description="Lengths are padded up to a multiple of this. OpenVINO compiles one graph for each, because a new length "
        "stalls it; default 8 there, 1 (none) elsewhere.",
    )

    disabled_optimizers: tuple[str, ...] = Field(
        (),
        description="ONNX Runtime only: graph optimisers that candidates run without, for some cost time on small INT8 models, "
        "such as SkipLayerNormFusion and BiasGeluFusion. FP32 always runs with the runtime's own choice.",
    )

    @model_validator(mode="after")
    def _optimizers_are_onnxruntimes(self) -> Target:
        if self.disabled_optimizers and self.runtime != "onnxruntime":
            raise ValueError("disabled_optimizers are ONNX Runtime's; drop them for another runtime")
        return self

    @model_validator(mode="after")
    def _no_bucket_at_fixed_length(self) -> Target:
        if self.padding == "max_length" and self.length_bucket is not None:
            raise ValueError("length_bucket means nothing when padding is max_length; drop one of them")
        return self

    @property
    def bucket(self) -> int:
        """The step between the lengths that the runtime sees."""
        return self.length_bucket or (8 if self.runtime == "openvino" else 1)

    def for_baseline(self) -> Target:
        """How FP32 runs beside it: the same but for what is tuned for candidates."""
        return self.model_copy(update={"disabled_optimizers": ()})

    @property
    def name(self) -> str:
        """Short and unique within a recipe: `openvino`, `onnxruntime-t4-b8`."""
        parts: list[str] = [self.runtime]
        parts += [f"t{self.threads}"] if self.threads != 1 else []
        parts += [f"b{self.batch}"] if self.batch != 1 else []
        parts += ["fixed"] if self.padding == "max_length" else []
        parts += [f"by{self.length_bucket}"] if self.length_bucket else []
        parts += ["tuned"] if self.disabled_optimizers else []
        return "-".join(parts)

    def padded_length(self, longest: int, max_length: int) -> int:
        """Length in tokens that a batch is padded to when its longest example has `longest`."""
        if self.padding == "max_length":
            return max_length
        return min(-(-longest // self.bucket) * self.bucket, max(max_length, longest))
