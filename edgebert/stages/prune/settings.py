"""Settings of pruning: how small, and how what goes is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from edgebert.core.strict import Strict
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
        None, gt=0, lt=1, description="Share of the encoder's multiply-accumulates that stays, at the lengths of data.eval."
    )
    speedup: float | None = Field(
        None,
        gt=1,
        le=1000,
        description="Median latency before over after, in INT8 on the first target that has a candidate, by a table of layer "
        "costs measured there.",
    )
    keep: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the teacher's score on data.eval that must stay; pruning stops before it is lost. Where "
        "already the first step loses it, nothing is removed.",
    )
    metric: str | None = Field(
        None, min_length=1, description="With keep: one of the task's metrics. By default its first, such as accuracy."
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
    """The distillation between steps: that of the distill stage, with its own default of epochs."""

    epochs: float = Field(0.5, gt=0, le=1000, description="Passes over the examples after each step; may be a fraction.")

    @model_validator(mode="after")
    def _names_no_layer(self) -> Recovery:
        if isinstance(self.layer_map, tuple):
            raise ValueError("layer_map names layers, which a step may drop; take last, kept or uniform")
        return self


class VocabularyCut(Strict):
    """Keeps the tokens that occur in the examples, and all single characters, so that any word can still be spelled."""

    min_count: int = Field(1, ge=1, description="A token stays when it occurs this often or more.")


class Sizes(Strict):
    """The sizes themselves, for one who knows them. A number stands for all layers, a list for each layer that stays."""

    layers: tuple[int, ...] | None = Field(
        None, min_length=1, description="Places of the layers that stay, from 0. Default all."
    )
    heads: int | tuple[int, ...] | None = Field(None, description="Heads of each layer. By default those there are.")
    intermediate_sizes: int | tuple[int, ...] | None = Field(None, description="FFN neurons of each layer. Default as above.")

    @model_validator(mode="after")
    def _removes_something(self) -> Sizes:
        if self.layers is None and self.heads is None and self.intermediate_sizes is None:
            raise ValueError("needs layers, heads or intermediate_sizes")
        return self

    def resolved(self, heads: tuple[int, ...], intermediate_sizes: tuple[int, ...]) -> dict[int, tuple[int, int]]:
        """Place of each layer that stays -> its heads and FFN neurons.

        Args:
            heads, intermediate_sizes: those of the model, for each layer.

        Raises:
            ValueError: they do not fit it.
        """
        count = len(heads)
        layers = tuple(range(count)) if self.layers is None else self.layers
        if list(layers) != sorted(set(layers)):
            raise ValueError("sizes.layers must be ascending and distinct")
        if layers[0] < 0 or layers[-1] >= count:
            raise ValueError(
                f"sizes.layers names layer {layers[-1] if layers[0] >= 0 else layers[0]}; the model has 0 to {count - 1}"
            )
        chosen_heads = _each(self.heads, [heads[place] for place in layers], "heads")
        chosen_sizes = _each(self.intermediate_sizes, [intermediate_sizes[place] for place in layers], "intermediate_sizes")
        return dict(zip(layers, zip(chosen_heads, chosen_sizes, strict=True), strict=True))


def _each(value: int | tuple[int, ...] | None, there: list[int], name: str) -> list[int]:
    values = there if value is None else [value] * len(there) if isinstance(value, int) else list(value)
    if len(values) != len(there):
        raise ValueError(f"sizes.{name} has {len(values)} entries for {len(there)} layers that stay")
    for wanted, has in zip(values, there, strict=True):
        if wanted < 1:
            raise ValueError(
                f"sizes.{name} has {wanted}; a layer keeps 1 or more (to drop a layer, leave it out of sizes.layers)"
            )
        if wanted > has:
            raise ValueError(f"sizes.{name} has {wanted}, but the layer has {has}; pruning only removes")
    return values


def sizes_of(config: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Heads and FFN neurons of each layer, from a config.json."""
    layers = int(config["num_hidden_layers"])
    heads = config.get("layer_heads") or [int(config["num_attention_heads"])] * layers
    return tuple(heads), tuple(config.get("layer_intermediate_sizes") or [int(config["intermediate_size"])] * layers)
