"""Matrix products as a runtime executed them: the result of each runtime's reader."""

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
    """Everything that one query executed."""

    products: tuple[Product, ...]
    kernels: Mapping[str, int]
    """Kind of kernel -> how often it ran."""
    macs: int | None = None
    """Multiply-accumulates of all products of the graph as it was read, where the runtime may hide some of them."""


def refuse_uncounted(op: str) -> None:
    """Refuses a kernel that cannot be counted: without its products the share would be too large.

    Raises:
        ValueError: a kernel of this name multiplies matrices.
    """
    if UNCOUNTED.search(op):
        raise ValueError(f"the multiply-accumulates of the kernel {op} cannot be counted")
