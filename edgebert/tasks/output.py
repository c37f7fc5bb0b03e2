"""Output: one output of a task's model: its name, its axes, and what its numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["labels", "tokens", "masks", "numbers", "width", "vocabulary"]
"""labels: one value for each label. tokens: one for each token of the window. masks: the same in a model's graph, of which
those of the tokens that are read are kept (`Encoded.read`). numbers, width, vocabulary: as many as the model
has, which no label names: numbers that it estimates, the width of a vector, tokens of its vocabulary."""
Reading = Literal["softmax", "sigmoid", "numbers"]
"""How people read an output. softmax: as probabilities over its last axis, or for an output of tokens alone over the tokens.
sigmoid: as a probability for each value alone. numbers: as they are."""


@dataclass(frozen=True)
class Output:
    """One output of the model."""

    name: str
    axes: tuple[Axis, ...]
    """Names of its axes after the batch."""
    reading: Reading = "softmax"

    @property
    def of_tokens(self) -> bool:
        """Whether the model gives values for each token."""
        return "tokens" in self.axes or "masks" in self.axes

    def fits(self, shape: tuple[int, ...], *, tokens: int, labels: int) -> bool:
        """Whether it may have this shape, for one window of so many tokens, of a model with so many labels."""
        sizes = {"tokens": tokens, "labels": labels}
        return len(shape) == len(self.axes) and all(
            size > 0 and size == sizes.get(axis, size) for axis, size in zip(self.axes, shape, strict=True)
        )
