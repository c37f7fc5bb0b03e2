"""What the halves of an encoder layer cost on the target's runtime, in milliseconds: the table, and what it says of a model.

    latency(model) = rest + sum over layers of (attention(heads) + ffn(neurons))

Everything that a query pays whatever its layers (session, embeddings, mask, pooler, classifier) is in `rest`. Weights that
do not fit into the caches make large models slower than this sum. The model that is to be pruned, the largest that matters,
is therefore in the table as it was timed whole.
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
from edgebert.models.sizes import Shape

Precision = Literal["fp32", "int8"]
Array = npt.NDArray[np.float64]


class LatencyTable(Frozen):
    """Milliseconds for one query of `batch` texts. Rows of the three tables follow `lengths`, columns `heads` or `neurons`."""

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
    """Tokens, ascending, as in the two grids below."""
    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    attention_ms: tuple[tuple[float, ...], ...]
    """Of an attention half with so many heads; does not fall as heads are added."""
    ffn_ms: tuple[tuple[float, ...], ...]
    """Of an FFN half with so many neurons; likewise."""
    rest_ms: tuple[float, ...]
    """Of all that is not a layer."""
    whole_ms: tuple[float, ...]
    """Of the model that the table was measured for, as it is."""
    spread: float = 0.0
    """How busy the machine was: by how much a point's middle round lay above its quietest; the median over all points."""

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
    """A table that was written; None where it is missing, cut off, edited or of another schema: it can be measured again."""
    try:
        return LatencyTable.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def write_table(table: LatencyTable, file: Path) -> None:
    """Writes a table, whole or not at all."""
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as handle:
        handle.write(table.model_dump_json(indent=1))
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)


@dataclass(frozen=True)
class LatencyCosts:
    """Mean milliseconds over queries of the given lengths: the `Costs` of `size_search.py`, with the rest and the total.

    Between points of the table: linear. Below the first: as at the first, because there the overhead decides. Above the
    last: in proportion to it.

    Args:
        lengths: tokens of each query as the runtime sees it, padded, as from `layer_latency.served_lengths`; one or more.

    Raises:
        ValueError: there are no lengths, or one is below 1.
    """

    table: LatencyTable
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError("costs need the lengths of one or more queries, each of 1 token or more")

    def attention(self, heads: int) -> float:
        """Of the attention half of a layer with this many heads, in ms.

        Raises:
            ValueError: there is no head.
        """
        return interpolated(self.table.heads, self._attention, heads)

    def ffn(self, neurons: int) -> float:
        """Of the FFN half of a layer with this many neurons, in ms.

        Raises:
            ValueError: there is no neuron.
        """
        return interpolated(self.table.neurons, self._ffn, neurons)

    @cached_property
    def rest(self) -> float:
        """Of everything but the layers, in ms."""
        return float(self._weights @ np.array(self.table.rest_ms))

    @cached_property
    def whole(self) -> float:
        """Of the model that the table was measured for, in ms: timed, not added up."""
        return float(self._weights @ np.array(self.table.whole_ms))

    def total(self, shape: Shape) -> float:
        """Of a whole model, in ms.

        Raises:
            ValueError: the shape's hidden size or head size is not the table's.
        """
        if (shape.hidden_size, shape.head_size) != (self.table.hidden_size, self.table.head_size):
            raise ValueError(
                f"the table was measured at hidden size {self.table.hidden_size} and head size {self.table.head_size}, "
                f"the shape has {shape.hidden_size} and {shape.head_size}"
            )
        return self.rest + sum(map(self.attention, shape.heads)) + sum(map(self.ffn, shape.intermediate_sizes))

    @cached_property
    def _weights(self) -> Array:
        """Share of each row of the table in the mean."""
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
    """The value at a size: linear between points, that of the first below it, in proportion to the last above it.

    Args:
        grid: ascending sizes.
        values: one for each.

    Raises:
        ValueError: `at` is below 1.
    """
    if at < 1:
        raise ValueError(f"a size is 1 or more, not {at}")
    return float(np.interp(at, grid, values)) * max(1.0, at / grid[-1])
