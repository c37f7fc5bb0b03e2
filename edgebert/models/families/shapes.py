"""Shapes of tensors that a family names beside those of its description."""

from __future__ import annotations

from collections.abc import Iterator

Sizes = tuple[int | None, ...]
"""A shape; None where config.json leaves a size to Transformers' default."""
Named = tuple[str, Sizes]
"""Name of a tensor and its shape."""


def linear(path: str, rows: int | None, columns: int | None, *, bias: bool = True) -> Iterator[Named]:
    """The tensors of a Linear of weight shape (rows, columns)."""
    yield f"{path}.weight", (rows, columns)
    if bias:
        yield f"{path}.bias", (rows,)


def norm(path: str, size: int | None, *, bias: bool = True) -> Iterator[Named]:
    """The tensors of a norm over vectors of this size."""
    yield f"{path}.weight", (size,)
    if bias:
        yield f"{path}.bias", (size,)
