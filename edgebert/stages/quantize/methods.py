"""The ways to quantise. A method is a function (source file, target folder, settings) -> facts.

Adding one: a file, a line in METHODS, its name in MethodName, and its parameters in APPLIES.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgebert.stages.quantize import dynamic, nncf, static

MethodName = Literal["auto", "dynamic", "static", "nncf"]
AUTO = "auto"
"""Not a method: a search over them."""
APPLIES: dict[str, tuple[str, ...]] = {
    "ranges": ("static",),
    "percentile": ("static",),
    "graph_format": ("static",),
    "reduce_range": ("dynamic", "static", "nncf"),
}
"""Parameter -> the methods that it says something to."""


@dataclass(frozen=True)
class Method:
    """One way to quantise."""

    name: str
    format: str
    """Of its source and of its result."""
    source_file: str
    calibrated: bool
    packages: tuple[str, ...]
    run: Callable[..., Mapping[str, Any]]
    searched: tuple[tuple[tuple[str, Any], ...], ...] = ()
    """Fields of Settings that `auto` tries it with; none where it is not for that."""

    def missing_packages(self) -> list[str]:
        """Those that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


METHODS = (
    Method("dynamic", "onnx", "model.onnx", False, ("onnx", "onnxruntime"), dynamic.quantize, ((),)),
    Method(
        "static", "onnx", "model.onnx", True, ("onnx", "onnxruntime"), static.quantize, ((), (("graph_format", "qoperator"),))
    ),
    Method("nncf", "openvino", "openvino_model.xml", True, ("openvino", "nncf"), nncf.quantize, ((),)),
)
