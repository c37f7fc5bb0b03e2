"""The ways to quantise. A method is a function (source file, target folder, settings) -> facts.

Adding one: a file, a line in METHODS, its name in MethodName, and its parameters in APPLIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgebert.stages.quantize import dynamic, nncf, static

MethodName = Literal["dynamic", "static", "nncf"]
APPLIES: dict[str, tuple[str, ...]] = {
    "ranges": ("static",),
    "percentile": ("static",),
    "graph_format": ("static",),
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


METHODS = (
    Method("dynamic", "onnx", "model.onnx", False, ("onnx", "onnxruntime"), dynamic.quantize),
    Method("static", "onnx", "model.onnx", True, ("onnx", "onnxruntime"), static.quantize),
    Method("nncf", "openvino", "openvino_model.xml", True, ("openvino", "nncf"), nncf.quantize),
)
