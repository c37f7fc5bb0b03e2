"""Runtime and Session: the one seam between edgebert and whatever runs a graph."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy.typing as npt

from edgebert.errors import MissingPackage
from edgebert.runtimes.facts import Container, HubNames, LayerEffort, RuntimeOptions, Tunable
from edgebert.runtimes.target import Target

Array = npt.NDArray[Any]
Held = Mapping[str, Path]
"""Name of a graph's file, and of each file that it loads, relative to its folder -> a path that opens a checked copy."""
Shapes = Mapping[str, list[Any]]
"""Name of an input -> its sizes, whole numbers where they are fixed; empty where any size will do."""


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
    """A way to run a model file. Subclasses are stateless and light to import; the registry holds one of each."""

    name: ClassVar[str]
    title: ClassVar[str]
    """Its name in sentences."""
    options: ClassVar[type[RuntimeOptions]] = RuntimeOptions

    format: ClassVar[str]
    """Format of the artifacts that it opens."""
    model_file: ClassVar[str]
    """Name of the file to open inside such an artifact."""
    file_title: ClassVar[str]
    """What such a file is called in sentences, such as `an ONNX file`."""
    opens: ClassVar[tuple[str, ...]] = ()
    """Endings of the files that it opens, its own first."""
    container: ClassVar[Container] = "closed"
    hub: ClassVar[HubNames]

    package: ClassVar[str]
    extra: ClassVar[str]
    """Extra of edgebert that installs it on the machine that compresses."""
    device_extra: ClassVar[str | None] = None
    """Extra of edgebert that a device needs for it; None where the base install has it."""
    converter_packages: ClassVar[tuple[str, ...]] = ()
    """Packages that `convert` needs."""

    operators: ClassVar[frozenset[str]] = frozenset()
    """Rewrites of the graph whose operators this runtime has and others do not."""
    compiles_each_shape: ClassVar[bool] = False
    """Whether the first query of each (batch, length) compiles a graph."""
    products_reader: ClassVar[str | None] = None
    """Name of the module that reads which products ran in INT8: functions `executed` and `int8_product`. None: INT8 coverage
    is not reported."""
    layer_effort: ClassVar[LayerEffort] = LayerEffort(rounds=4, heads=5, widths=6, seconds=20)

    @abstractmethod
    def open(self, model: Path, target: Target, held: Held | None = None) -> Session:
        """Opens a model file.

        Args:
            held: the copies to open instead of the files at and beside `model`, which may be exchanged meanwhile.

        Raises:
            MissingPackage: the runtime is not installed.
            EdgebertError: the file is not one that it can open.
        """

    def open_for_answers(self, model: Path, target: Target, held: Held | None = None) -> Session:
        """Opens a model file for work whose latency nobody reads, such as scoring. The answers are those of `open`, but threads
        sleep while they wait: on a busy machine, threads that wait in a loop take the cores from those that work."""
        return self.open(model, self.with_spinning(target, False), held)

    def refuses(self, task: str, model_type: str) -> str | None:
        """Why models of a family (its `model_type`) for a task do not go to this runtime; None where they do."""
        return None

    def convert(self, graph: Path, folder: Path) -> None:
        """Writes `model_file` into the folder from an FP32 ONNX graph. Not called for a runtime that opens ONNX.

        Raises:
            StageError: the graph cannot be converted.
        """
        raise NotImplementedError(f"{self.name} makes no graph of its own format")

    def tunables(self, target: Target) -> Sequence[Tunable]:
        """Settings that may be faster on the target."""
        return ()

    def with_spinning(self, target: Target, spinning: bool) -> Target:
        """The target with threads that wait for work in a loop, or asleep; as it is where the runtime knows no difference."""
        return target

    def input_shapes(self, model: Path, target: Target, held: Held | None = None) -> Shapes:
        """Shapes of a model's inputs; empty where it takes any.

        Args:
            held: as in `open`.

        Raises:
            EdgebertError: the file is not one that it can open.
        """
        return {}

    @property
    def ending(self) -> str:
        """Ending of its own files, with the dot."""
        return PurePosixPath(self.model_file).suffix

    def available(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.package) is not None

    def require(self) -> None:
        """Raises MissingPackage when it is not."""
        if not self.available():
            raise MissingPackage(self.package, needed_for=f"The runtime {self.name}", extra=self.extra)

    def import_package(self) -> None:
        """Imports its package, as a service does when it starts: before the process is kept to some cores.

        Raises:
            MissingPackage: it is not installed.
        """
        self.require()
        importlib.import_module(self.package)
