"""Finds the parts of a loaded model by what they do, whatever its family calls them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.models.families import find_family
from edgebert.models.families.base import Family
from edgebert.models.families.paths import LayerPaths


def family_of(model: Any) -> Family:
    """The family of a model of Transformers, plain or pruned.

    Raises:
        ValueError: it is of no known family.
    """
    found = find_family(getattr(getattr(model, "config", None), "model_type", None))
    if found is None:
        raise ValueError(f"{type(model).__name__} is of no known family")
    return found


def inputs_of(model: Any) -> tuple[str, ...]:
    """Names of what a model of Transformers takes of a batch, in the order of its graph's inputs."""
    return family_of(model).inputs_for(getattr(model.config, "type_vocab_size", None))


def part(module: Any, path: str) -> Any:
    """The part at a path, `attention.self.query` for example."""
    return functools.reduce(getattr, path.split("."), module)


def encoder_of(model: Any) -> Any:
    """The encoder inside a model with a head, or the encoder itself."""
    return getattr(model, family_of(model).prefix, model)


def layers_of(model: Any) -> Sequence[Any]:
    """The encoder layers of a model."""
    layers: Sequence[Any] = part(encoder_of(model), family_of(model).layers)
    return layers


def parts_of(model: Any) -> list[LayerParts]:
    """The parts of every encoder layer of a model."""
    return [LayerParts(family_of(model), layer) for layer in layers_of(model)]


def shared_bias(model: Any, hidden: Any) -> Any | None:
    """The bias that every layer adds to its attention scores, of shape (batch, heads of the original, length, length); None in
    a family without one.

    Args:
        hidden: hidden states, of shape (batch, length, hidden).
    """
    paths = family_of(model).layer
    return part(encoder_of(model), paths.shared_bias)(hidden) if paths and paths.shared_bias else None


@dataclass(frozen=True)
class EmbeddingParts:
    """The tables of an encoder, the norm behind their sum, and the matrix behind that, if there is one."""

    family: Family
    module: Any
    projection: Any = None
    """The matrix from the width of the tables to the hidden size; None where both are the same."""

    @classmethod
    def of(cls, model: Any) -> EmbeddingParts:
        """Those of a model."""
        family, body = family_of(model), encoder_of(model)
        path = family.embedding.projection
        there = path is not None and hasattr(body, path.partition(".")[0])
        return cls(family, body.embeddings, part(body, path) if there and path else None)

    @property
    def word(self) -> Any:
        """Word table."""
        return part(self.module, self.family.embedding.word)

    @property
    def position(self) -> Any:
        """Position table; None where the family has none."""
        return part(self.module, self.family.embedding.position) if self.family.embedding.position else None

    @property
    def segment(self) -> Any | None:
        """Table of segment ids; None where the family has none."""
        return part(self.module, self.family.embedding.segment) if self.family.embedding.segment else None

    @property
    def norm(self) -> Any:
        """The norm behind the sum; None where the family has none."""
        return part(self.module, self.family.embedding.norm) if self.family.embedding.norm else None


@dataclass(frozen=True)
class LayerParts:
    """The parts of one encoder layer: a module with the family's names."""

    family: Family
    module: Any

    @property
    def paths(self) -> LayerPaths:
        """The family's names.

        Raises:
            ValueError: its layers are built otherwise than BERT's.
        """
        if self.family.layer is None:
            raise ValueError(f"the layers of {self.family.title} are not made of the parts that BERT's are made of")
        return self.family.layer

    @property
    def attention(self) -> Any:
        """The module that mixes the values by the heads' scores."""
        return part(self.module, self.paths.attention)

    @property
    def projections(self) -> dict[str, Any]:
        """`query`, `key` and `value`, each of weight shape (heads * head size, hidden); the matrix of all three under each name
        where they are one."""
        paths = self.paths
        return {name: part(self.module, paths.qkv or getattr(paths, name)) for name in ("query", "key", "value")}

    @property
    def attention_output(self) -> Any:
        """The matrix that reads the mixed values, of weight shape (hidden, heads * head size)."""
        return part(self.module, self.paths.attention_output)

    @property
    def attention_norm(self) -> Any:
        """The norm behind the attention half."""
        return part(self.module, self.paths.attention_norm)

    @property
    def up(self) -> Any:
        """The matrix into the FFN, of weight shape (neurons, hidden); twice as many rows where it holds the gate as well."""
        return part(self.module, self.paths.up)

    @property
    def down(self) -> Any:
        """The matrix out of the FFN, of weight shape (hidden, neurons)."""
        return part(self.module, self.paths.down)

    @property
    def norm(self) -> Any:
        """The norm behind the FFN half."""
        return part(self.module, self.paths.norm)

    @property
    def residuals(self) -> tuple[Any, Any] | None:
        """The modules called with (update, residual), of the attention half and the FFN half; None where there are none."""
        paths = self.paths.residuals
        return (part(self.module, paths[0]), part(self.module, paths[1])) if paths else None

    def neurons(self, hidden: Any) -> Any:
        """What `down` reads: the FFN's neurons, of shape (batch, length, neurons).

        Args:
            hidden: what the FFN reads.
        """
        activation = part(self.module, self.paths.activation)
        if self.paths.gate:
            return activation(part(self.module, self.paths.gate)(hidden)) * self.up(hidden)
        if self.paths.gated:
            first, second = self.up(hidden).chunk(2, dim=-1)
            return activation(first) * second
        return activation(self.up(hidden))

    def add_attention(self, mixed: Any, residual: Any) -> Any:
        """The end of the attention half: mixed values -> hidden states, of shape (batch, length, hidden)."""
        if self.residuals:
            return self.residuals[0](mixed, residual)
        return self.attention_norm(self.attention_output(mixed) + residual)

    def add_neurons(self, neurons: Any, residual: Any) -> Any:
        """The end of the FFN half: neurons -> hidden states, of shape (batch, length, hidden)."""
        if self.residuals:
            return self.residuals[1](neurons, residual)
        return self.norm(self.down(neurons) + residual)
