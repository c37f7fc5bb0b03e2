"""Puts fakes into the registries of every process that has this folder on PYTHONPATH, as a line in the tuple would, and has
equal models exported once.

Workers are fresh processes and inherit PYTHONPATH. Python imports this module when it starts, before any of edgebert.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

LINES = [line.split() for line in os.environ.get("EDGEBERT_TEST_LINES", "").splitlines()]
"""(module of a registry, name of its tuple, module of a fake, name of its class, `class` or `instance`)."""


EXPORTER = "edgebert.stages.export.onnx_graph"


class Registering(Loader):
    """Loads a module, then adds the fakes to its tuple."""

    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        if module.__name__ == EXPORTER:
            importlib.import_module("exports_once").install_in(module)
        for registry, name, fake, cls, kind in LINES:
            if registry == module.__name__:
                found = getattr(importlib.import_module(fake), cls)
                setattr(module, name, (*getattr(module, name), found() if kind == "instance" else found))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Finder(MetaPathFinder):
    """Finds the modules of the registries."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != EXPORTER and not any(registry == name for registry, *_ in LINES):
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None and spec.loader is not None
        spec.loader = Registering(spec.loader)
        return spec


sys.meta_path.insert(0, Finder())
