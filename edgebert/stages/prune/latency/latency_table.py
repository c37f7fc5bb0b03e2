"""Latency table: milliseconds of the halves of an encoder layer on the target's runtime, and the costs that follow from it.

    latency(model) = rest + sum over layers of (attention(heads) + ffn(neurons))

`rest` is the time outside the layers: session, embeddings, mask, pooler, classifier. Weights that do not fit into the
caches make large models slower than this sum. The model that is to be pruned is the largest one, so the table also holds
its latency as a whole.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from edgebert.core.strict import Frozen

Precision = Literal["fp32", "int8"]
Array = npt.NDArray[np.float64]


class LatencyTable(Frozen):
    """Milliseconds of one query of `batch` texts. Table rows follow `lengths`, table columns `heads` or `neurons`."""

    schema_version: Literal[1] = 1
    runtime: str
    precision: Precision
    threads: int
    batch: int = 1
    bucket: int = Field(1, ge=1)
    """Lengths reach the runtime padded to a multiple of this."""
    disabled_optimizers: tuple[str, ...] = ()
    hidden_size: int
    head_size: int
    lengths: tuple[int, ...]
    """Measured lengths in tokens, ascending; so are the numbers of heads and of neurons below."""
    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    attention_ms: tuple[tuple[float, ...], ...]
    """Milliseconds of an attention half with this many heads; never falls as heads are added."""
    ffn_ms: tuple[tuple[float, ...], ...]
    """Milliseconds of an FFN half with this many neurons; never falls as neurons are added."""
    rest_ms: tuple[float, ...]
    """Milliseconds outside the encoder layers."""
    whole_ms: tuple[float, ...]
    """Milliseconds of the whole model that the table was measured for, timed as one."""
    spread: float = 0.0
    """Excess of the median round over the fastest one, as a share; median over all points. It shows a busy machine."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        for grid in (self.lengths, self.heads, self.neurons):
            if not grid or grid[0] < 1 or any(after <= before for before, after in itertools.pairwise(grid)):
                raise ValueError("lengths, heads and neurons must be ascending, from 1 on, and not empty")
        for table, columns in ((self.attention_ms, self.heads), (self.ffn_ms, self.neurons)):
            if len(table) != len(self.lengths) or any(len(row) != len(columns) for row in table):
                raise ValueError("a table's rows follow the lengths and its columns the grid")
        if not len(self.rest_ms) == len(self.whole_ms) == len(self.lengths):
            raise ValueError("rest_ms and whole_ms have one entry for each length")
        if min(*self.rest_ms, *self.whole_ms, *itertools.chain(*self.attention_ms, *self.ffn_ms)) < 0:
            raise ValueError("no latency is negative")
        return self


def read_table(file: Path) -> LatencyTable | None:
    """The table in a file; None where it is missing, cut off, edited or of another schema, so that it is measured again."""
    try:
        return LatencyTable.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def write_table(table: LatencyTable, file: Path) -> None:
    """Writes a table atomically."""
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as handle:
        handle.write(table.model_dump_json(indent=1))
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)


@dataclass(frozen=True)
class LatencyCosts:
    """Mean milliseconds over queries of the given lengths: the `Costs` of `size_search.py`, with `rest` and `whole`.

    Linear between points of the table; below the first point as at the first, where overhead dominates; above the last
    point in proportion to it.

    Args:
        lengths: padded tokens of each query, one or more, as from `layer_latency.served_lengths`.

    Raises:
        ValueError: there are no lengths, or one is below 1.
    """

    table: LatencyTable
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError("costs need the lengths of one or more queries, each of 1 token or more")

    def attention(self, heads: int) -> float:
        """Milliseconds of the attention half of a layer with this many heads.

        Raises:
            ValueError: `heads` is below 1.
        """
        return interpolated(self.table.heads, self._attention, heads)

    def ffn(self, neurons: int) -> float:
        """Milliseconds of the FFN half of a layer with this many neurons.

        Raises:
            ValueError: `neurons` is below 1.
        """
        return interpolated(self.table.neurons, self._ffn, neurons)

    @cached_property
    def rest(self) -> float:
        """Milliseconds outside the encoder layers."""
        return float(self._weights @ np.array(self.table.rest_ms))

    @cached_property
    def whole(self) -> float:
        """Milliseconds of the whole model that the table was measured for, timed as one and not summed."""
        return float(self._weights @ np.array(self.table.whole_ms))

    @cached_property
    def _weights(self) -> Array:
        """Weight of each table row in the mean over the lengths."""
        rows = np.eye(len(self.table.lengths))
        shares = [[interpolated(self.table.lengths, row, length) for row in rows] for length in self.lengths]
        return np.asarray(np.mean(shares, axis=0))

    @cached_property
    def _attention(self) -> Array:
        return np.asarray(self._weights @ np.array(self.table.attention_ms))

    @cached_property
    def _ffn(self) -> Array:
        return np.asarray(self._weights @ np.array(self.table.ffn_ms))


def interpolated(grid: Sequence[int], values: Sequence[float] | Array, at: int) -> float:
    """The value at a size: linear between points, constant below the first, in proportion to the last above it.

    Args:
        grid: ascending sizes.
        values: the value at each size.

    Raises:
        ValueError: `at` is below 1.
    """
    if at < 1:
        raise ValueError(f"a size is 1 or more, not {at}")
    return float(np.interp(at, grid, values)) * max(1.0, at / grid[-1])
