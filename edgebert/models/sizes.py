"""Sizes of an encoder: EncoderSizes says which part of the original BERT it is, Shape what it costs. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from edgebert.core.strict import Frozen
from edgebert.models.families import family_of_config


def with_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of config.json with the sizes under BERT's names, whatever its family calls them, and with the defaults.

    Raises:
        ValueError: the model is of no known family.
    """
    return family_of_config(config).with_sizes(config)


class LayerSizes(Frozen):
    """A layer of the encoder."""

    place: int
    """Index of the layer in the original, from 0."""
    heads: tuple[int, ...]
    """Indices of its heads in the original layer, from 0."""
    intermediate_size: int
    """Number of FFN neurons."""


class EncoderSizes(Frozen):
    """Sizes of an encoder, plain or pruned. The original is the plain model that it was cut from, or itself."""

    hidden_size: int
    head_size: int
    layers: tuple[LayerSizes, ...]
    original_layers: int
    original_heads: int
    """Heads of each layer of the original."""
    original_intermediate_size: int
    """FFN neurons of each layer of the original."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Sizes from the content of config.json of a plain or pruned model.

        Raises:
            ValueError: the config names different numbers of layers, or the model is of no known family.
        """
        fields = with_sizes(config)
        shape = Shape.from_config(fields)
        indices = fields.get("source_layers") or range(shape.layers)
        heads = fields.get("source_heads") or [range(count) for count in shape.heads]
        layers = [
            LayerSizes(place=index, heads=tuple(kept), intermediate_size=neurons)
            for index, kept, neurons in zip(indices, heads, shape.intermediate_sizes, strict=True)
        ]
        return cls(
            hidden_size=shape.hidden_size,
            head_size=shape.head_size,
            layers=tuple(layers),
            original_layers=fields.get("source_num_hidden_layers") or shape.layers,
            original_heads=fields["num_attention_heads"],
            original_intermediate_size=fields["intermediate_size"],
        )

    @property
    def shape(self) -> Shape:
        """The sizes without the original, which determine the encoder's cost."""
        return Shape(
            hidden_size=self.hidden_size,
            head_size=self.head_size,
            heads=tuple(len(layer.heads) for layer in self.layers),
            intermediate_sizes=tuple(layer.intermediate_size for layer in self.layers),
        )

    @property
    def whole(self) -> bool:
        """Whether nothing was removed."""
        full = len(self.layers) == self.original_layers
        return full and all(
            len(layer.heads) == self.original_heads and layer.intermediate_size == self.original_intermediate_size
            for layer in self.layers
        )


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder: entry i of `heads` and `intermediate_sizes` is a number of heads and FFN neurons, of layer i."""

    hidden_size: int
    head_size: int
    heads: tuple[int, ...]
    intermediate_sizes: tuple[int, ...]
    gated: bool = False
    """Whether a neuron is the product of two, so that it costs a column of a third matrix."""
    relative_rows: int = 0
    """Relative positions that the queries and keys of a head are multiplied with."""

    def __post_init__(self) -> None:
        if not self.heads or len(self.heads) != len(self.intermediate_sizes):
            raise ValueError("a shape needs one number of heads and one intermediate size for each of one or more layers")
        if min(self.heads) < 1:
            raise ValueError("a layer needs 1 head or more; to drop a layer, leave it out")
        if min(self.intermediate_sizes) < 1:
            raise ValueError("a layer needs 1 FFN neuron or more; to drop a layer, leave it out")

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """Shape from a config of Transformers, plain or pruned, or the content of config.json."""
        fields = with_sizes(config if isinstance(config, dict) else config.to_dict())
        layers, heads = fields["num_hidden_layers"], fields["num_attention_heads"]
        family = family_of_config(fields)
        return cls(
            hidden_size=fields["hidden_size"],
            head_size=fields.get("attention_head_size") or fields["hidden_size"] // heads,
            heads=tuple(fields.get("layer_heads") or [heads] * layers),
            intermediate_sizes=tuple(fields.get("layer_intermediate_sizes") or [fields["intermediate_size"]] * layers),
            gated=family.layer is not None and bool(family.layer.gated or family.layer.gate),
            relative_rows=family.relative_rows(fields),
        )

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    def macs(self, length: float) -> float:
        """Multiply-accumulates (MACs) of all layers for one text of `length` tokens, without the embeddings and the head."""
        attention, neuron = self.head_macs(length), self.neuron_macs(length)
        return sum(self.heads) * attention + sum(self.intermediate_sizes) * neuron

    def head_macs(self, length: float) -> float:
        """MACs of one head: the projections Q, K, V and output, the scores, and the weighted sum. Projections of relative
        positions do not depend on the text, and are not counted."""
        return length * self.head_size * (4 * self.hidden_size + 2 * length + self.relative_rows)

    def neuron_macs(self, length: float) -> float:
        """MACs of one FFN neuron: a column of the first matrix, a row of the second, and one of the gate."""
        return length * (3 if self.gated else 2) * self.hidden_size


def mean_macs(shape: Shape, lengths: Sequence[int]) -> float:
    """Mean MACs of a text over texts of these lengths in tokens."""
    return sum(shape.macs(length) for length in lengths) / len(lengths)
