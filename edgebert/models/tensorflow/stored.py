"""StoredArray: where the values of a tensor lie in a file of TensorFlow. They are read when they are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.errors import SourceError
from edgebert.models.tensorflow.crc32c import masked_crc32c
from edgebert.models.weight_files import FETCH_AGAIN, MOST_DIMENSIONS, WIDTHS

FORMS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}
"""dtype of safetensors -> NumPy's form of its bytes; NumPy has no bfloat16."""


@dataclass(frozen=True)
class StoredArray:
    """Values in a row in a file, little endian."""

    dtype: str
    """As safetensors names it: a key of FORMS."""
    shape: tuple[int, ...]
    file: Path
    offset: int
    crc: int | None = None
    """Masked CRC-32C of the bytes; None where the file has none."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * WIDTHS[self.dtype]

    def require_inside(self, name: str) -> None:
        """Raises SourceError unless the file holds all of the bytes."""
        if len(self.shape) > MOST_DIMENSIONS or self.offset < 0 or self.offset + self.size > self.file.stat().st_size:
            raise SourceError(f"{self.file} does not hold the whole of {name[:80]}.", hint=FETCH_AGAIN)

    def read(self, name: str) -> npt.NDArray[Any]:
        """The values; bfloat16 as float32.

        Raises:
            SourceError: the bytes are not all there, or not those that the checksum is of.
        """
        self.require_inside(name)
        with self.file.open("rb") as handle:
            handle.seek(self.offset)
            content = handle.read(self.size)
        if len(content) != self.size or (self.crc is not None and masked_crc32c(content) != self.crc):
            raise SourceError(f"{self.file} is damaged: the bytes of {name[:80]} do not have their checksum.", hint=FETCH_AGAIN)
        values = np.frombuffer(content, dtype=FORMS[self.dtype]).reshape(self.shape)
        return (values.astype("<u4") << 16).view("<f4") if self.dtype == "BF16" else values
