"""Samples: integers, one for each query, in the order in which they were taken. Kept whole, packed in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from edgebert.report.packed import MOST, pack, unpack

ENCODING = "delta-shuffle-zlib"
"""int64 differences, little-endian; the first bytes of all, then the second bytes, and so on; deflated; base64."""
LARGEST = 2**53
"""Largest sample: JSON readers in other languages round beyond it. It is 104 days in nanoseconds."""


class Samples(Sequence[int]):
    """An immutable array of int64 that is not negative. Reads a JSON list or the packed form; writes the packed form."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[int] | npt.NDArray[np.int64] = ()) -> None:
        """Takes integers from 0 to 2^53.

        Raises:
            ValueError: one is not an integer, is negative or is larger.
        """
        array = values if isinstance(values, np.ndarray) else _as_array(list(values))
        if array.size == 0:
            array = array.astype(np.int64)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise ValueError("samples are a list of whole numbers")
        if array.size > MOST:
            raise ValueError(f"{array.size} samples are more than {MOST}")
        if array.size and (array.min() < 0 or array.max() > LARGEST):
            raise ValueError("a sample is negative or larger than 2^53")
        self._values: npt.NDArray[np.int64] = array.astype(np.int64)
        self._values.setflags(write=False)

    @property
    def values(self) -> npt.NDArray[np.int64]:
        """The samples as a read-only array of shape (samples,)."""
        return self._values

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> int | Samples:
        """One sample, or the samples of a slice."""
        return Samples(self._values[index]) if isinstance(index, slice) else int(self._values[index])

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Samples):
            return np.array_equal(self._values, other._values)
        return isinstance(other, tuple | list) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._values.tobytes())

    def __repr__(self) -> str:
        return f"Samples({len(self)})"

    def packed(self) -> dict[str, Any]:
        """The form in files: `count`, `encoding` and `data`."""
        differences = np.diff(self._values, prepend=np.int64(0)).astype("<i8")
        return {"count": len(self), "encoding": ENCODING, "data": pack(differences)}

    @classmethod
    def unpacked(cls, form: Mapping[str, Any]) -> Samples:
        """Reads the form in files, and never inflates more bytes than `count` allows.

        Raises:
            ValueError: it is not that form, or does not hold `count` samples.
        """
        return cls(np.cumsum(unpack(dict(form), ENCODING, "<i8"), dtype=np.int64))

    @classmethod
    def _validated(cls, value: Any) -> Samples:
        if isinstance(value, Samples):
            return value
        if isinstance(value, Mapping):
            return cls.unpacked(value)
        if isinstance(value, list | tuple):
            return cls(value)
        raise ValueError("samples are a list of whole numbers")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validates lists, packed forms and Samples; every dump has the packed form."""
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(cls.packed)
        )


def _as_array(values: list[Any]) -> npt.NDArray[Any]:
    if {bool, np.bool_} & set(map(type, values)):  # beside numbers, NumPy would turn True into 1
        raise ValueError("samples are a list of whole numbers")
    return np.asarray(values)
