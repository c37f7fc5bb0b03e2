"""The quantisation methods. A method is a function (source file, target folder, settings) -> facts.

To add one: a file, a line in METHODS, its name in MethodName, and its parameters in APPLIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgebert.core.packages import is_installed
from edgebert.stages.quantize import dynamic, neural_compressor, nncf, nncf_accuracy, static, weight_only

MethodName = Literal["auto", "dynamic", "static", "nncf", "nncf-accuracy", "neural-compressor", "weight-only"]
AUTO = "auto"
"""Name of the search over the methods, which recipes write like a method."""
APPLIES: dict[str, tuple[str, ...]] = {
    "ranges": ("static",),
    "percentile": ("static",),
    "graph_format": ("static",),
    "reduce_range": ("dynamic", "static", "nncf", "nncf-accuracy", "neural-compressor"),
    "per_channel": ("dynamic", "static", "nncf", "nncf-accuracy", "neural-compressor"),
    "max_drop": ("nncf-accuracy", "neural-compressor"),
    "bits": ("weight-only",),
    "block_size": ("weight-only",),
    "accuracy_level": ("weight-only",),
}
"""Parameter -> the methods that use it."""


@dataclass(frozen=True)
class Method:
    """A quantisation method."""

    name: str
    format: str
    """Format of its result, and of its source where that is a graph."""
    source_file: str
    """File name of its source; empty for a Transformers folder."""
    calibrated: bool
    packages: tuple[str, ...]
    run: Callable[..., Mapping[str, Any]]
    searched: tuple[tuple[tuple[str, Any], ...], ...] = ()
    """Fields of Settings that `auto` tries it with, one tuple a try; empty where `auto` does not try it."""
    scored: bool = False
    """Whether it uses the score on the eval set."""

    @property
    def source_format(self) -> str:
        """Format of its source."""
        return self.format if self.source_file else "transformers"

    def missing_packages(self) -> list[str]:
        """Its packages that are not installed."""
        return [name for name in self.packages if not is_installed(name)]


NEURAL_COMPRESSOR_PACKAGES = (
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "neural_compressor",
    "torchao",
)
METHODS = (
    Method("dynamic", "onnx", "model.onnx", False, ("onnx", "onnxruntime"), dynamic.quantize, ((),)),
    Method(
        "static", "onnx", "model.onnx", True, ("onnx", "onnxruntime"), static.quantize, ((), (("graph_format", "qoperator"),))
    ),
    Method("nncf", "openvino", "openvino_model.xml", True, ("openvino", "nncf"), nncf.quantize, ((),)),
    Method("nncf-accuracy", "openvino", "openvino_model.xml", True, ("openvino", "nncf"), nncf_accuracy.quantize, scored=True),
    Method("neural-compressor", "onnx", "", True, NEURAL_COMPRESSOR_PACKAGES, neural_compressor.quantize, scored=True),
    Method("weight-only", "onnx", "model.onnx", False, ("onnx", "onnxruntime"), weight_only.quantize),
)
