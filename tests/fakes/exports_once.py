"""Exports of equal models, made once in a run of tests: torch.onnx.export takes seconds even for a tiny model.

What is saved for the next test is what the exporter made of a model with the same classes, attributes and weights; the
comparison with torch that follows an export is never left out. A test of the exporter itself takes the fixture `real_exports`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "EDGEBERT_TEST_EXPORTS"
"""Environment variable: the folder of the graphs that were made. Unset: every export is made."""


PLAIN = (bool, int, float, str, tuple, type(None))
"""Kinds of settings that a module's attributes may be."""


def content(module: Any, task: Any) -> str:
    """Hash of all that the graph is made of: the modules' classes and settings, the configuration, and the weights."""
    from torch import nn

    found = hashlib.sha256(repr((module.inputs, task.name, task.graph_outputs)).encode())
    settings = {name: value for name, value in module.model.config.to_dict().items() if name != "_name_or_path"}
    found.update(json.dumps(settings, sort_keys=True, default=repr).encode())
    for name, part in module.model.named_modules():
        plain = {key: _named(value) for key, value in vars(part).items() if isinstance(value, PLAIN) or callable(value)}
        plain.pop("training", None)
        found.update(repr((name, type(part).__qualname__, sorted(plain.items()))).encode())
    for name, tensor in (*module.model.named_parameters(), *module.model.named_buffers()):
        value = nn.Parameter(tensor, requires_grad=False).detach().contiguous()
        found.update(repr((name, tuple(value.shape), value.dtype)).encode())
        found.update(value.numpy().tobytes())
    return found.hexdigest()


def _named(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else repr(value)


def once(real: Callable[..., Any]) -> Callable[..., Any]:
    """An `onnx_program` that exports a model only if no other test did."""

    def onnx_program(module: Any, task: Any, name: str, inputs: Any = None, **options: Any) -> Any:
        import onnx

        folder = os.environ.get(FOLDER)
        key = content(module, task) if folder and inputs is None else None
        if key is None:
            return real(module, task, name, inputs, **options)
        file = Path(folder or "") / f"{key}.onnx"
        if not file.is_file():
            made = file.with_name(f"{key}.{os.getpid()}")
            onnx.save(real(module, task, name, **options), made)
            made.rename(file)
        return onnx.load(file)

    return onnx_program


def install() -> None:
    """Has this process export equal models once."""
    from edgebert.stages.export import onnx_graph

    install_in(onnx_graph)


def install_in(onnx_graph: Any) -> None:
    """The same, given the module."""
    onnx_graph.onnx_program = once(onnx_graph.onnx_program)
