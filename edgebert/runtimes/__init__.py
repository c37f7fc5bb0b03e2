"""The runtimes. A recipe can target those in RUNTIMES. Adding one: a file here, a line in RUNTIMES, a test file."""

from __future__ import annotations

from edgebert.runtimes.base import Runtime
from edgebert.runtimes.onnxruntime import OnnxRuntime
from edgebert.runtimes.openvino import OpenVino
from edgebert.runtimes.target import read_runtimes_from
from edgebert.runtimes.torch import Torch

RUNTIMES: tuple[Runtime, ...] = (
    OnnxRuntime(),
    OpenVino(),
)
MEASURED_ALONE: tuple[Runtime, ...] = (Torch(),)
"""Runtimes that a model can be measured on and that no recipe targets: PyTorch, for a Transformers folder as it is."""


def measured_runtimes() -> tuple[Runtime, ...]:
    """Runtimes that a model can be measured on."""
    return (*RUNTIMES, *MEASURED_ALONE)


read_runtimes_from(measured_runtimes)


def get_runtime(name: str) -> Runtime:
    """The runtime of that name."""
    return next(runtime for runtime in measured_runtimes() if runtime.name == name)


def runtime_of_format(graph_format: str) -> Runtime:
    """The runtime that a format of graphs is made for."""
    return next(runtime for runtime in RUNTIMES if runtime.format == graph_format)


def openers(ending: str) -> list[Runtime]:
    """Runtimes that open a file of that ending, the one that it is made for first."""
    able = [runtime for runtime in RUNTIMES if ending in runtime.opens]
    return sorted(able, key=lambda runtime: runtime.ending != ending)
