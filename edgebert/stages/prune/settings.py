"""Settings of pruning: how small the model becomes, and how the removed units are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgebert.core.strict import Strict
from edgebert.models.sizes import Shape
from edgebert.stages.base import Stage
from edgebert.stages.distill.settings import Objective


class Goal(Strict):
    """How small the encoder becomes. Give exactly one.

    Sample:

        - {macs: 0.2}       # a fifth of the multiply-accumulates
        - {speedup: 3}      # three times as fast, by times measured on the target
        - {keep: 0.99}      # as small as it can be with 99 % of the teacher's score, found in gradual steps
        - {keep: 0.99, metric: macro_f1}
    """

    macs: float | None = Field(
        None, gt=0, lt=1, description="Share of the encoder's multiply-accumulates to keep, at the lengths of data.eval."
    )
    speedup: float | None = Field(
        None,
        gt=1,
        le=1000,
        description="Median latency before pruning over that after it, in INT8 on the first target that has a candidate, by a "
        "table of layer latencies measured there.",
    )
    keep: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the teacher's score to keep, on the rows that choose (data.select); pruning stops before the "
        "score falls below it. If the first step already does, nothing is removed.",
    )
    metric: str | None = Field(
        None,
        min_length=1,
        description="With keep: the metric to keep, one of the task's. Default: its first, such as accuracy.",
    )

    @model_validator(mode="after")
    def _one_goal(self) -> Goal:
        given = [name for name in ("macs", "speedup", "keep") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of macs, speedup, keep; it has {', '.join(given) or 'none'}")
        if self.metric is not None and self.keep is None:
            raise ValueError("metric goes with keep, which says how much of it must stay; drop it")
        return self


class Recovery(Objective):
    """The distillation between steps: the settings of the distill stage, with fewer epochs by default."""

    epochs: float = Field(0.5, gt=0, le=1000, description="Passes over the examples after each step; may be a fraction.")

    @model_validator(mode="after")
    def _names_no_layer(self) -> Recovery:
        if isinstance(self.layer_map, tuple):
            raise ValueError("layer_map names layers, which a step may drop; take last, kept or uniform")
        return self


class VocabularyCut(Strict):
    """Keeps the tokens that occur in the examples, and all single characters, so that any word can still be tokenised.

    Sample:

        - {min_count: 2}
        - {languages: [de, en]}                    # and what occurs in data.train and data.transfer
        - {languages: [de, en], examples: false}   # the languages alone, without such data
    """

    min_count: int = Field(1, ge=1, description="Fewest occurrences of a token that stays.")
    languages: tuple[str, ...] = Field(
        (),
        description="Codes of languages, such as `de`, whose words stay as well: the pieces of the 75,000 most frequent words "
        "by the package wordfreq, short pieces of their letters, numbers and signs.",
    )
    examples: bool = Field(
        True,
        description="Keep the tokens of data.train and data.transfer. `false` goes with `languages`, and needs no such data.",
    )

    @model_validator(mode="after")
    def _keeps_something(self) -> VocabularyCut:
        if not self.examples and not self.languages:
            raise ValueError("`examples: false` keeps the tokens of languages alone; name them in `languages`")
        if not self.examples and self.min_count > 1:
            raise ValueError("min_count counts tokens of the examples; drop it, or `examples: false`")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("`languages` names a language twice; drop one")
        return self

    def parameters(self) -> dict[str, Any]:
        """Its fields, without those that are as they were before there were languages."""
        return {"min_count": self.min_count, **self.model_dump(mode="json", exclude={"min_count"}, exclude_defaults=True)}


class Sizes(Strict):
    """Exact sizes. A number applies to all layers; a list has one entry for each layer that stays."""

    layers: tuple[int, ...] | None = Field(
        None, min_length=1, description="Indices of the layers that stay, from 0. Default: all."
    )
    heads: int | tuple[int, ...] | None = Field(None, description="Heads of each layer. Default: all.")
    intermediate_sizes: int | tuple[int, ...] | None = Field(None, description="FFN neurons of each layer. Default: all.")

    @model_validator(mode="after")
    def _removes_something(self) -> Sizes:
        if self.layers is None and self.heads is None and self.intermediate_sizes is None:
            raise ValueError("needs layers, heads or intermediate_sizes")
        return self

    def resolved(self, heads: tuple[int, ...], intermediate_sizes: tuple[int, ...]) -> dict[int, tuple[int, int]]:
        """Index of each layer that stays -> its number of heads and of FFN neurons.

        Args:
            heads, intermediate_sizes: sizes of each layer of the model.

        Raises:
            ValueError: the sizes do not fit the model.
        """
        count = len(heads)
        layers = tuple(range(count)) if self.layers is None else self.layers
        if list(layers) != sorted(set(layers)):
            raise ValueError("sizes.layers must be ascending and distinct")
        if layers[0] < 0 or layers[-1] >= count:
            raise ValueError(
                f"sizes.layers names layer {layers[-1] if layers[0] >= 0 else layers[0]}; the model has 0 to {count - 1}"
            )
        chosen_heads = _each(self.heads, [heads[index] for index in layers], "heads")
        chosen_sizes = _each(self.intermediate_sizes, [intermediate_sizes[index] for index in layers], "intermediate_sizes")
        return dict(zip(layers, zip(chosen_heads, chosen_sizes, strict=True), strict=True))


def _each(value: int | tuple[int, ...] | None, available: list[int], name: str) -> list[int]:
    """The size of each layer that stays, of which `available` is the largest."""
    values = available if value is None else [value] * len(available) if isinstance(value, int) else list(value)
    if len(values) != len(available):
        raise ValueError(f"sizes.{name} has {len(values)} entries for {len(available)} layers that stay")
    for size, most in zip(values, available, strict=True):
        if size < 1:
            raise ValueError(
                f"sizes.{name} has {size}; a layer keeps 1 or more (to drop a layer, leave it out of sizes.layers)"
            )
        if size > most:
            raise ValueError(f"sizes.{name} has {size}, but the layer has {most}; pruning only removes")
    return values


def sizes_of(config: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Heads and FFN neurons of each layer, from a config.json."""
    shape = Shape.from_config(dict(config))
    return shape.heads, shape.intermediate_sizes


MIN_POSITIONS = 3


class PruneSettings(Stage):
    """The fields of a prune stage, and values derived from them. `Prune` adds the work."""

    stage: Literal["prune"] = "prune"
    to: Goal | None = Field(None, description="How small the encoder becomes. Give `sizes` instead to choose every size.")
    sizes: Sizes | None = Field(None, description="Exact sizes, instead of `to`.")
    importance: Literal["fisher", "magnitude", "random"] = Field(
        "fisher", description="How the importance of a unit is estimated. Magnitude and random are baselines."
    )
    block: int = Field(32, ge=1, description="FFN neurons are kept in multiples of this; 16, 32 and 64 suit SIMD widths.")
    depth: int | None = Field(
        None, ge=1, description="Keep exactly this many layers. Default: as many as the search finds best."
    )
    samples: int = Field(2048, ge=1, description="Number of examples for importance and repair.")
    reconstruct: bool = Field(True, description="Repair the pruned model by least squares.")
    steps: int = Field(1, ge=1, le=100, description="Prune in this many steps with distillation between them.")
    recover: Recovery | None = Field(
        None,
        description="The distillation after each step but the last, which leaves it to the distill stage; with "
        "`to: {keep: ...}`, after every step. Settings of distill, with half an epoch by default.",
    )
    vocabulary: VocabularyCut | None = Field(
        None, description="Cut the token embeddings and the tokenizer to the examples' tokens."
    )
    positions: int | None = Field(None, ge=MIN_POSITIONS, description="Cut the position table to this many positions.")

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"head", "eval"})
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate", "safetensors", "optimum")

    @model_validator(mode="after")
    def _does_something(self) -> PruneSettings:
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
        """Whether distillation follows a step."""
        return self.to is not None and (self.steps > 1 or self.to.keep is not None)

    @property
    def recovery(self) -> Recovery:
        """The settings of that distillation."""
        return self.recover or Recovery()

    @property
    def weighs(self) -> bool:
        """Whether it chooses units by importance, which needs examples and, for those without labels, a teacher."""
        return self.to is not None or self.sizes is not None

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
        """Its fields, with the recovery's defaults where one takes place; `checkpoint_seconds` does not change the result."""
        parameters = super().parameters()
        del parameters["recover"]
        if self.vocabulary:
            parameters["vocabulary"] = self.vocabulary.parameters()
        if self.recovers:
            parameters["recover"] = self.recovery.model_dump(mode="json", exclude={"checkpoint_seconds"})
        return parameters

    def required_packages(self) -> tuple[str, ...]:
        """With languages, the package that has their words as well."""
        return (*self.packages, *(("wordfreq",) if self.vocabulary and self.vocabulary.languages else ()))

    def needed(self) -> frozenset[str]:
        """What its fields ask for; cutting the position table alone needs no examples."""
        needs = set(self.needs)
        if self.weighs or (self.vocabulary and self.vocabulary.examples):
            needs.add("examples")
        if self.weighs:
            needs.add("teacher")
        if self.to and self.to.keep is not None:
            needs.add("select")
        if self.to and self.to.speedup:
            needs.add("target")
        if self.recovers and self.recovery.hard:
            needs.add("train")
        return frozenset(needs)
