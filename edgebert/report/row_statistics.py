"""RowStatistics: what each eval example adds to a metric of answers, packed, with the reduction that makes a value of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import core_schema

from edgebert.core.strict import Frozen
from edgebert.report.packed import MOST, pack, unpack
from edgebert.tasks.reductions import REDUCTIONS, Rows, number_labels, reduce_rows

ENCODING = "float64-shuffle-zlib"
"""float64, little-endian, bytes shuffled and deflated; base64."""


LARGEST = 1e15
"""Largest absolute statistic: sums of 5 * 10^7 of them, and their products, stay finite."""


class Numbers:
    """An immutable array of finite float64, of shape (count,). Reads a JSON list or the packed form; writes the packed form."""

    __slots__ = ("values",)

    def __init__(self, values: npt.ArrayLike) -> None:
        """Takes finite numbers.

        Raises:
            ValueError: they are no list of finite numbers.
        """
        try:
            array = np.asarray(values, dtype=np.float64)
        except OverflowError:
            raise ValueError("statistics are a list of finite numbers") from None
        if array.ndim != 1 or array.size > MOST or not (np.abs(array) <= LARGEST).all():  # NaN is not, either
            raise ValueError(f"statistics are a list of finite numbers, at most {LARGEST:.0e}")
        self.values = array.copy()
        self.values.setflags(write=False)

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())

    def packed(self) -> dict[str, Any]:
        """The form in files: `count`, `encoding` and `data`."""
        return {"count": len(self), "encoding": ENCODING, "data": pack(self.values.astype("<f8"))}

    @classmethod
    def _validated(cls, value: Any) -> Numbers:
        if isinstance(value, Numbers):
            return value
        if isinstance(value, Mapping):
            return cls(unpack(dict(value), ENCODING, "<f8"))
        if isinstance(value, list | tuple) and all(type(item) in (int, float) for item in value):
            return cls(value)
        raise ValueError("statistics are a list of finite numbers")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validates lists, packed forms and Numbers; every dump has the packed form."""
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(cls.packed)
        )


class RowStatistics(Frozen):
    """The statistics of all eval examples for one metric."""

    reduction: str
    """Name of the way from the statistics to the metric's value."""
    columns: tuple[Numbers, ...]
    """The columns of the statistics, each with a number for each example."""

    @field_validator("reduction")
    @classmethod
    def _is_known(cls, reduction: str) -> str:
        if reduction not in REDUCTIONS:
            raise ValueError(f"{reduction!r} is no reduction that this edgebert knows; update it")
        return reduction

    @model_validator(mode="after")
    def _columns_fit(self) -> RowStatistics:
        if not REDUCTIONS[self.reduction].fits(len(self.columns)) or len(set(map(len, self.columns))) != 1:
            raise ValueError(f"the columns of statistics are not those of {self.reduction}")
        if REDUCTIONS[self.reduction].of_labels and not number_labels(self.rows):
            raise ValueError("the columns of statistics are no numbers of labels")
        return self

    @classmethod
    def of(cls, reduction: str, rows: Rows) -> Self:
        """Statistics of shape (examples, columns)."""
        return cls(reduction=reduction, columns=tuple(Numbers(column) for column in rows.T))

    @property
    def rows(self) -> Rows:
        """The statistics, of shape (examples, columns)."""
        return np.stack([column.values for column in self.columns], axis=1)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.columns[0])

    def value(self) -> float | None:
        """The metric's value over all examples; None without examples."""
        return reduce_rows(self.reduction, self.rows) if self.examples else None

    @property
    def of_shares(self) -> bool:
        """Whether the value is a share of examples: one column of 0 and 1, to which McNemar's test applies."""
        return self.reduction == "mean" and bool(np.isin(self.columns[0].values, (0.0, 1.0)).all())
