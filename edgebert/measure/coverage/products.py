"""Matrix products as they were executed: what the readers of the runtimes find."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

UNCOUNTED = re.compile(
    "MatMul|Gemm|Attention|Conv(?!ert)|Einsum|LSTM|GRU|RNN|MoE|SDPA|FullyConnected|QKVProjection|LLMMLP", re.I
)
"""Names of kernels that multiply matrices."""


@dataclass(frozen=True)
class Product:
    """One matrix product, or a batch of them."""

    name: str
    op: str
    shape: tuple[int, ...]
    """(..., rows, inner, columns)."""
    int8: bool
    """Whether both of its matrices were 8-bit integers when they were multiplied."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Executed:
    """What one query ran."""

    products: tuple[Product, ...]
    kernels: Mapping[str, int]
    """How often each kind of kernel ran."""
    macs: int | None = None
    """Of all products of the graph as it was read, where the runtime may hide some of them."""


def refuse_uncounted(op: str) -> None:
    """A product that is not counted would make the share too large.

    Raises:
        ValueError: a kernel of this name multiplies matrices.
    """
    if UNCOUNTED.search(op):
        raise ValueError(f"the multiply-accumulates of the kernel {op} cannot be counted")
