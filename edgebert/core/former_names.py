"""Names of version 0.1: modules that moved are still imported by the names that users and devices of then have.

For one release. A former name is not a copy: `edgebert.recipe` *is* `edgebert.compress.recipe`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

FORMER = {
    "edgebert.artifact": "edgebert.core.store",
    "edgebert.bert": "edgebert.models",
    "edgebert.bert.pruned": "edgebert.models.pruned",
    "edgebert.gates": "edgebert.report.gates",
    "edgebert.manifest": "edgebert.bundle.manifest",
    "edgebert.pipeline": "edgebert.compress.run",
    "edgebert.predictor": "edgebert.bundle.predictor",
    "edgebert.recipe": "edgebert.compress.recipe",
    "edgebert.recipe_file": "edgebert.compress.recipe_file",
    "edgebert.report_file": "edgebert.report.file",
    "edgebert.slots": "edgebert.devices.agent",
    "edgebert.slots.agent": "edgebert.devices.agent.agent",
    "edgebert.verdict": "edgebert.report.verdict",
    "edgebert.watching": "edgebert.bundle.watching_predictor",
}
"""Former name -> the module of today. A workstation of version 0.1 starts the agent on a device as `edgebert.slots.agent`."""


class FormerNames:
    """Finds and loads a module by its former name."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a former name, or None; see `importlib.abc.MetaPathFinder.find_spec`."""
        if name not in FORMER:
            return None
        package = any(former.startswith(f"{name}.") for former in FORMER)
        return ModuleSpec(name, self, is_package=package)  # type: ignore[arg-type]  # a loader by its methods

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Returns None, for an empty module that `exec_module` replaces."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Registers the module of today under the former name."""
        sys.modules[module.__name__] = importlib.import_module(FORMER[module.__name__])

    def get_code(self, name: str) -> CodeType:
        """The code that `python -m` runs for the former name."""
        return compile(f"import runpy; runpy.run_module({FORMER[name]!r}, run_name='__main__', alter_sys=True)", name, "exec")


def forward_former_names() -> None:
    """Lets `import` find modules by their former names."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, FormerNames())  # first, or `edgebert.slots.agent` would be a second copy of the agent


def attributes_of(package: str, *modules: str) -> Callable[[str], Any]:
    """A package's `__getattr__`, for names that version 0.1 had in a module of that name: they are in `modules` now."""

    def find(name: str) -> Any:
        if not name.startswith("__"):
            for module in modules:
                found = importlib.import_module(f"{package}.{module}")
                if hasattr(found, name):
                    return getattr(found, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
