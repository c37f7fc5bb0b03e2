"""Packages of others: whether they are installed and in which version, their telemetry, what they print and log.

The hint for a package that is missing is in `MissingPackage` of errors.py.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


def switch_off_telemetry() -> None:
    """Makes `import openvino_telemetry` fail, which openvino and nncf take as "do not send"; tells the Hub client so."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DISABLE_TELEMETRY", "1")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within it, libraries neither print nor warn; errors still rise as exceptions.

    Standard output belongs to the command's result and standard error to its progress, so a library's own progress
    bars go to a buffer. `EDGEBERT_DEBUG=1` lets everything through.
    """
    switch_off_telemetry()
    if os.environ.get("EDGEBERT_DEBUG"):
        yield
        return
    previously_disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _switch_off_progress_bars()
            yield
    finally:
        logging.disable(previously_disabled)


def _switch_off_progress_bars() -> None:
    for module in ("transformers.utils.logging", "datasets.utils.logging"):
        if module.split(".")[0] in sys.modules:
            with contextlib.suppress(ImportError, AttributeError):
                importlib.import_module(module).disable_progress_bar()


def is_installed(name: str) -> bool:
    """Whether a package can be imported.

    A namespace package such as optimum has no file of its own, and other distributions add to it (edgebert adds a command):
    it counts only when its own distribution is installed.
    """
    spec = importlib.util.find_spec(name)
    return spec is not None and (spec.origin is not None or package_version(name) != "none")


def package_version(name: str) -> str:
    """Version of an installed package by its import name; `none` when it is not there."""
    import importlib.metadata  # slow to import, and few processes ask

    other = "onnxruntime-gpu" if name == "onnxruntime" else name.replace("_", "-")
    for distribution in (name, other):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"
