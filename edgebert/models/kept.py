"""EncoderSizes: what an encoder consists of, and which part of the original BERT that is. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from edgebert.core.strict import Frozen
from edgebert.models.shape import Shape

USUAL = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
"""What BERT's config means where config.json leaves a size out."""


class LayerSizes(Frozen):
    """One layer that is there."""

    place: int
    """Its place in the original, from 0."""
    heads: tuple[int, ...]
    """Places of its heads in the original layer, from 0."""
    intermediate_size: int
    """FFN neurons."""


class EncoderSizes(Frozen):
    """Sizes of an encoder, plain or pruned. The original is the plain BERT that it was cut from, or itself."""

    hidden_size: int
    head_size: int
    layers: tuple[LayerSizes, ...]
    original_layers: int
    original_heads: int
    """Of each layer."""
    original_intermediate_size: int
    """Of each layer."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From config.json of a BERT or of a pruned BERT.

        Raises:
            ValueError: the sizes of the layers contradict each other.
        """
        fields = {**USUAL, **config}
        shape = Shape.from_config(fields)
        places = fields.get("source_layers") or range(shape.layers)
        heads = fields.get("source_heads") or [range(count) for count in shape.heads]
        layers = [
            LayerSizes(place=place, heads=tuple(kept), intermediate_size=neurons)
            for place, kept, neurons in zip(places, heads, shape.intermediate_sizes, strict=True)
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
        """The sizes alone, which tell what the encoder costs."""
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
