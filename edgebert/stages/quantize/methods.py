"""The ways to quantise. A method is a function (source file, target folder, settings) -> facts.

Adding one: a file, a line in METHODS, its name in MethodName, and its parameters in APPLIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgebert.core.libraries import is_installed
from edgebert.stages.quantize import dynamic, neural_compressor, nncf, nncf_accuracy, static, weight_only

if TYPE_CHECKING:
    pass

MethodName = Literal["auto", "dynamic", "static", "nncf", "nncf-accuracy", "neural-compressor", "weight-only"]
AUTO = "auto"
"""Not a method: a search over them."""
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
"""Parameter -> the methods that it says something to."""


@dataclass(frozen=True)
class Method:
    """One way to quantise."""

    name: str
    format: str
    """Of its result, and of its source where that is a graph."""
    source_file: str
    """Empty for methods whose source is a Transformers folder."""
    calibrated: bool
    packages: tuple[str, ...]
    run: Callable[..., Mapping[str, Any]]
    searched: tuple[tuple[tuple[str, Any], ...], ...] = ()
    """Fields of Settings that `auto` tries it with; none where it is not for that."""
    scored: bool = False
    """Whether it looks at the score on the eval set."""

    @property
    def source_format(self) -> str:
        """Of its source."""
        return self.format if self.source_file else "transformers"

    def missing_packages(self) -> list[str]:
        """Those that are not installed."""
        return [name for name in self.packages if not is_installed(name)]


PT2E = ("torch", "transformers", "optimum", "onnx", "onnxscript", "onnxruntime", "neural_compressor", "torchao")
METHODS = (
    Method("dynamic", "onnx", "model.onnx", False, ("onnx", "onnxruntime"), dynamic.quantize, ((),)),
    Method(
        "static", "onnx", "model.onnx", True, ("onnx", "onnxruntime"), static.quantize, ((), (("graph_format", "qoperator"),))
    ),
    Method("nncf", "openvino", "openvino_model.xml", True, ("openvino", "nncf"), nncf.quantize, ((),)),
    Method("nncf-accuracy", "openvino", "openvino_model.xml", True, ("openvino", "nncf"), nncf_accuracy.quantize, scored=True),
    Method("neural-compressor", "onnx", "", True, PT2E, neural_compressor.quantize, scored=True),
    Method("weight-only", "onnx", "model.onnx", False, ("onnx", "onnxruntime"), weight_only.quantize),
)
