"""prune: removes heads, FFN neurons and layers, and what the vocabulary and the position table do not need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgebert.core.store import Artifact
from edgebert.stages.base import ModelFacts, RunContext, Stage
from edgebert.stages.prune.settings import Goal, Recovery, Sizes, VocabularyCut, sizes_of

MIN_POSITIONS = 3


class Prune(Stage):
    """Removes what the task needs least, and repairs what is left by least squares; no training.

    What a head or a neuron is worth comes from the Fisher information of its mask on the examples; which sizes the layers
    get is chosen together, under a budget of multiply-accumulates or of latency measured on the target. With `steps` it
    prunes a little, distils, and prunes again.

    Sample:

        - prune: {to: {macs: 0.2}}
        - prune: {to: {speedup: 3}, steps: 2, recover: {epochs: 0.5}}
        - prune: {sizes: {layers: [0, 2, 4], heads: 6, intermediate_sizes: [768, 512, 512]}}
        - prune: {vocabulary: {min_count: 2}, positions: 128}
    """

    stage: Literal["prune"] = "prune"
    to: Goal | None = Field(None, description="How small; or give `sizes`.")
    sizes: Sizes | None = Field(None, description="The sizes themselves.")
    importance: Literal["fisher", "magnitude", "random"] = Field(
        "fisher", description="What a unit is worth. Magnitude and random are there to compare with."
    )
    block: int = Field(32, ge=1, description="FFN neurons are kept in multiples of this; 16, 32 and 64 suit SIMD widths.")
    depth: int | None = Field(None, ge=1, description="Keep exactly this many layers. By default the search decides.")
    samples: int = Field(2048, ge=1, description="Examples for importance and repair.")
    reconstruct: bool = Field(True, description="Repair by least squares.")
    steps: int = Field(1, ge=1, le=100, description="Prune in this many steps with distillation between them.")
    recover: Recovery | None = Field(
        None,
        description="The distillation after each step but the last, which leaves it to the distill stage; after every step of "
        "`to: {keep: ...}`. Settings of distill; half an epoch unless it says otherwise.",
    )
    vocabulary: VocabularyCut | None = Field(
        None, description="Cut the token embeddings and the tokenizer to the examples' tokens."
    )
    positions: int | None = Field(None, ge=MIN_POSITIONS, description="Cut the position table to this many tokens.")

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"head", "eval"})
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate", "safetensors", "optimum")

    @model_validator(mode="after")
    def _does_something(self) -> Prune:
        if self.to and self.sizes:
            raise ValueError("`to` and `sizes` exclude each other; drop one")
        if not (self.to or self.sizes) and (self.depth or self.steps > 1):
            raise ValueError("depth and steps go with `to`, which says how small; give it")
        if not (self.to or self.sizes or self.vocabulary or self.positions):
            raise ValueError("removes nothing: give to, sizes, vocabulary or positions")
        if self.sizes and (self.steps > 1 or self.depth):
            raise ValueError("`sizes` says all; drop steps and depth")
        if self.to and self.to.keep is not None and self.steps > 1:
            raise ValueError("`to: {keep: ...}` takes as many steps as it needs; drop steps")
        if self.recover and not self.recovers:
            raise ValueError("`recover` says how to recover between steps; add steps: 2 or more, or `to: {keep: ...}`")
        return self

    @property
    def recovers(self) -> bool:
        """Whether a step is followed by distillation."""
        return self.to is not None and (self.steps > 1 or self.to.keep is not None)

    @property
    def recovery(self) -> Recovery:
        """How it recovers, where it does."""
        return self.recover or Recovery()

    @property
    def weighs(self) -> bool:
        """Whether it chooses heads, neurons or layers, by examples and the teacher's answers for those without labels."""
        return self.to is not None or self.sizes is not None

    @classmethod
    def example(cls) -> Prune:
        """Half of the multiply-accumulates."""
        return cls(to=Goal(macs=0.5), block=8)

    @property
    def label(self) -> str:
        """`prune-3x`, `prune-macs-0.2`, `prune-keep-0.99`, `prune-sizes`, `prune-vocabulary`."""
        goal = ""
        if self.to:
            goal = (
                f"{self.to.speedup:g}x"
                if self.to.speedup
                else f"macs-{self.to.macs:g}"
                if self.to.macs
                else f"keep-{self.to.keep:g}"
            )
        parts = ["prune", goal or ("sizes" if self.sizes else "vocabulary" if self.vocabulary else "positions")]
        return "-".join(parts + ([] if self.importance == "fisher" else [self.importance]))

    def parameters(self) -> dict[str, Any]:
        """With the recovery where there is one, given or not. How often it is saved does not change what comes out."""
        parameters = super().parameters()
        del parameters["recover"]
        if self.recovers:
            parameters["recover"] = self.recovery.model_dump(mode="json", exclude={"checkpoint_seconds"})
        return parameters

    def needed(self) -> frozenset[str]:
        """What its fields ask for: the position table alone needs no example."""
        found = set(self.needs)
        if self.weighs or self.vocabulary:
            found.add("examples")
        if self.weighs:
            found.add("teacher")
        if self.to and self.to.speedup:
            found.add("target")
        if self.recovers and self.recovery.hard:
            found.add("train")
        return frozenset(found)

    def faults(self, model: ModelFacts) -> list[str]:
        """Sizes that do not fit the model."""
        from edgebert.stages.prune.faults import faults

        return faults(self, model)

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder of the type `edgebert_pruned_bert`."""
        from edgebert.stages.prune.run import run

        return run(self, source, context)


__all__ = ["Prune", "sizes_of"]
