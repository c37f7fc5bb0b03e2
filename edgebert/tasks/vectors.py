"""vectors: what is done with the vectors of texts: cut, brought to length 1, made INT8 or binary, compared, packed. NumPy."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.tasks.embedding_options import Vectors

Matrix = npt.NDArray[np.float32]
"""Vectors, of shape (texts, width)."""
RESCORED = 40
"""Nearest binary vectors that are ranked again by the query's own numbers: four times the ten that are judged."""
MARKS: dict[Vectors, str] = {"float32": "f", "int8": "i", "binary": "b"}
BLOCK = 256
"""Queries that are compared with all passages at once."""


def unit(vectors: Matrix) -> Matrix:
    """Vectors of length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def shortened(vectors: Matrix, dimensions: int | None, *, normalize: bool) -> Matrix:
    """The first numbers of each vector, all where there are no more (Matryoshka, Kusupati et al. 2022, arXiv 2205.13147).

    Args:
        dimensions: how many; None for all.
        normalize: whether the shorter vectors get the length 1.
    """
    if dimensions is None or dimensions >= vectors.shape[-1]:
        return vectors
    return unit(vectors[..., :dimensions]) if normalize else vectors[..., :dimensions]


def int8(vectors: Matrix) -> npt.NDArray[np.int8]:
    """Each vector in 127ths of its largest number, which leaves every cosine as it was but for the rounding; zeros stay."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0)
    return np.asarray(np.rint(vectors / np.maximum(largest, 1e-30) * 127), dtype=np.int8)


def signs(vectors: Matrix) -> npt.NDArray[np.uint8]:
    """A bit for each number, 1 where it is above 0, packed from the highest bit of the first byte on."""
    return np.packbits(vectors > 0, axis=-1)


def as_compared(vectors: Matrix, kind: Vectors) -> Matrix:
    """Vectors of length 1 as they count after they were rounded: INT8 in float32, or -1 and 1 by the sign."""
    if kind == "int8":
        return unit(int8(vectors).astype(np.float32))
    if kind == "binary":
        return unit(np.where(vectors > 0, np.float32(1), np.float32(-1)))
    return unit(vectors)


def packed(vector: Matrix, kind: Vectors = "float32") -> str:
    """One vector as text: a mark of its kind and base64, of float16, INT8 or bits. float16, little-endian, keeps 3 digits."""
    half = np.clip(vector, -65504, 65504).astype("<f2")
    made = int8(vector) if kind == "int8" else signs(vector) if kind == "binary" else half
    return MARKS[kind] + base64.b64encode(made.tobytes()).decode()


def kind_of(text: str) -> Vectors:
    """The kind of a packed vector."""
    return next(kind for kind, mark in MARKS.items() if text.startswith(mark))


def unpacked(texts: Sequence[str]) -> Matrix:
    """The vectors of `packed`, all of one width, which of binary ones is a multiple of 8: -1 and 1."""
    return np.stack([_unpacked(text) for text in texts]).astype(np.float32) if texts else np.zeros((0, 0), dtype=np.float32)


def _unpacked(text: str) -> npt.NDArray[Any]:
    data, kind = base64.b64decode(text[1:]), kind_of(text)
    if kind == "binary":
        return np.unpackbits(np.frombuffer(data, dtype=np.uint8)).astype(np.int8) * 2 - 1
    return np.frombuffer(data, dtype=np.int8 if kind == "int8" else "<f2")


def cosines(ours: Matrix, theirs: Matrix) -> npt.NDArray[np.float64]:
    """Cosine of each vector with the one in its place, shape (texts,); 0 where one of them is zeros."""
    found = np.einsum("ij,ij->i", ours.astype(np.float64), theirs.astype(np.float64))
    sizes = np.linalg.norm(ours.astype(np.float64), axis=1) * np.linalg.norm(theirs.astype(np.float64), axis=1)
    return np.asarray(np.clip(np.divide(found, sizes, out=np.zeros_like(found), where=sizes > 0), -1.0, 1.0))


def scores(queries: Matrix, passages: Matrix, kind: Vectors) -> Matrix:
    """Cosine of every query with every passage, of shape (queries, passages), of vectors of that kind.

    Binary vectors are searched by their signs, and the RESCORED nearest ranked by the query's own numbers against the passage's
    signs, as sentence-transformers does it (Yamada et al. 2021, arXiv 2106.00882); the others stay behind them.
    """
    if kind != "binary":
        return np.asarray(as_compared(queries, kind) @ as_compared(passages, kind).T, dtype=np.float32)
    bits, asked = as_compared(passages, kind), queries[:, : passages.shape[1]]
    found = np.asarray(as_compared(asked, kind) @ bits.T, dtype=np.float32) - 3  # behind every cosine
    near = np.argsort(-found, axis=1, kind="stable")[:, :RESCORED]
    again = np.asarray(unit(asked) @ bits.T, dtype=np.float32)
    np.put_along_axis(found, near, np.take_along_axis(again, near, axis=1), axis=1)
    return found
