"""Facts that a runtime states about itself: its options, its settings to tune, its names in a Hub folder, its measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from edgebert.core.strict import Strict

ONNX = "onnx"
"""Format of the FP32 graph that PyTorch exports, from which the graphs of other runtimes are made."""
Container = Literal["onnx", "xml", "closed"]
"""How a graph's file can name other files: as external data of ONNX, as a .bin beside an .xml, or not at all."""


class Named(Protocol):
    """What a target knows of its runtime."""

    @property
    def name(self) -> str:
        """The name that targets have."""
        ...

    @property
    def title(self) -> str:
        """Its name in sentences."""
        ...

    @property
    def options(self) -> type[RuntimeOptions]:
        """The model of its options."""
        ...


class RuntimeOptions(Strict):
    """Options of a runtime, flat among the fields of its targets. FP32 runs with their defaults."""

    default_bucket: ClassVar[int] = 1
    """Length bucket in tokens of a target that states none."""


@dataclass(frozen=True)
class Tunable:
    """A setting that `quantize: {method: auto}` tries."""

    what: str
    """Its name in the record of the search."""
    fields: Mapping[str, Any]
    """Fields of the target that it sets. A tuple is added to the target's own."""
    changes_answers: bool = False
    """Whether answers may differ: then it is undone where they miss a gate."""


@dataclass(frozen=True)
class HubNames:
    """Where clients of the Hub look for a runtime's graphs."""

    folder: str
    stem: str
    """Name of the FP32 graph without its ending, and the start of others' names."""
    best: str
    """File name of the best INT8 graph."""


@dataclass(frozen=True)
class LayerEffort:
    """How many rounds, sizes and seconds a table of layer latencies takes."""

    rounds: int
    heads: int | None
    """Most numbers of heads to measure; None: all."""
    widths: int
    """Most numbers of neurons to measure."""
    seconds: float
    """Time for all timed queries of a table, without warm-up, compilation and starting processes."""
