"""Shape: the sizes of an encoder, layer by layer, and what they cost. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder. Entry i of `heads` and `intermediate_sizes` is layer i's."""

    hidden_size: int
    head_size: int
    heads: tuple[int, ...]
    intermediate_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.heads or len(self.heads) != len(self.intermediate_sizes):
            raise ValueError("a shape needs one number of heads and one intermediate size for each of one or more layers")
        if min(self.heads) < 1:
            raise ValueError("a layer needs 1 head or more; to drop a layer, leave it out")
        if min(self.intermediate_sizes) < 1:
            raise ValueError("a layer needs 1 FFN neuron or more; to drop a layer, leave it out")

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """From a BertConfig, a PrunedBertConfig, or the dict in config.json."""
        fields = config if isinstance(config, dict) else config.to_dict()
        layers, heads = fields["num_hidden_layers"], fields["num_attention_heads"]
        return cls(
            hidden_size=fields["hidden_size"],
            head_size=fields.get("attention_head_size") or fields["hidden_size"] // heads,
            heads=tuple(fields.get("layer_heads") or [heads] * layers),
            intermediate_sizes=tuple(fields.get("layer_intermediate_sizes") or [fields["intermediate_size"]] * layers),
        )

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    def macs(self, length: float) -> float:
        """Multiply-accumulates of the encoder's layers for one text of `length` tokens."""
        attention, neuron = self.head_macs(length), self.neuron_macs(length)
        return sum(self.heads) * attention + sum(self.intermediate_sizes) * neuron

    def head_macs(self, length: float) -> float:
        """Of one head: the projections Q, K, V and output, the scores, and the weighted sum."""
        return length * (4 * self.hidden_size * self.head_size + 2 * length * self.head_size)

    def neuron_macs(self, length: float) -> float:
        """Of one FFN neuron: one column in, one row out."""
        return length * 2 * self.hidden_size


def mean_macs(shape: Shape, lengths: Sequence[int]) -> float:
    """MACs of one text, on average over texts of these lengths."""
    return sum(shape.macs(length) for length in lengths) / len(lengths)
