"""The runtimes. A recipe can target those in RUNTIMES. Adding one: a file here, a line in RUNTIMES, a test file."""

from __future__ import annotations

from edgebert.runtimes.base import Runtime
from edgebert.runtimes.onnxruntime import OnnxRuntime
from edgebert.runtimes.openvino import OpenVino
from edgebert.runtimes.torch import Torch

RUNTIMES: tuple[Runtime, ...] = (OnnxRuntime(), OpenVino())
MEASURED: tuple[Runtime, ...] = (*RUNTIMES, Torch())
"""Runtimes that a model can be measured on: a recipe's targets, and PyTorch for a Transformers folder as it is."""


def get_runtime(name: str) -> Runtime:
    """The runtime of that name."""
    return next(runtime for runtime in MEASURED if runtime.name == name)
