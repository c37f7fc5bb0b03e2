"""The runtimes that a recipe can target. Adding one: a file here, a line in RUNTIMES, a test file."""

from __future__ import annotations

from edgebert.runtimes.base import Runtime
from edgebert.runtimes.onnxruntime import OnnxRuntime
from edgebert.runtimes.openvino import OpenVino

RUNTIMES: tuple[Runtime, ...] = (OnnxRuntime(), OpenVino())


def get_runtime(name: str) -> Runtime:
    """The runtime of that name."""
    return next(runtime for runtime in RUNTIMES if runtime.name == name)
