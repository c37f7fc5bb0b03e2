"""Runtime and Session: the one seam between edgebert and whatever runs a graph."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from edgebert.errors import MissingPackage
from edgebert.runtimes.target import Target

Array = npt.NDArray[Any]


class Session(ABC):
    """An opened model. Several threads may use it at once."""

    @abstractmethod
    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch: int64 arrays of shape (batch, length) in, output name -> array out.

        Inputs that the graph does not have are left out.
        """

    def prepare(self, shapes: Sequence[tuple[int, int]]) -> None:  # noqa: B027 - most runtimes have nothing to prepare
        """Compiles what the given (batch, length) shapes need, so that no query pays for it."""


class Runtime(ABC):
    """A way to run a model file. Subclasses are stateless; the registry holds one of each."""

    name: ClassVar[str]
    format: ClassVar[str]
    """Format of the artifacts that it opens."""
    model_file: ClassVar[str]
    """Name of the file to open inside such an artifact."""
    package: ClassVar[str]
    extra: ClassVar[str]

    @abstractmethod
    def open(self, model: Path, target: Target) -> Session:
        """Opens a model file.

        Raises:
            MissingPackage: the runtime is not installed.
            EdgebertError: the file is not one that it can open.
        """

    def available(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.package) is not None

    def require(self) -> None:
        """Raises MissingPackage when it is not."""
        if not self.available():
            raise MissingPackage(self.package, needed_for=f"The runtime {self.name}", extra=self.extra)
