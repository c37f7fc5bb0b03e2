"""Processes that have only what `pip install edgebert` brings, or less."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

HEAVY = {"torch", "transformers", "datasets", "optimum", "onnx", "onnxscript", "nncf", "accelerate", "pyarrow", "pandas"}
WORKSTATION = HEAVY | {"safetensors", "huggingface_hub", "ruamel", "ijson", "filelock", "jinja2", "asyncssh"}
"""Packages that `pip install edgebert` does not bring."""
SLOW = {"model_signing", "sigstore", "cryptography", "OpenSSL", "requests"}
"""Packages that it brings and that only signatures need: a bundle with a receipt loads without them."""

# Stands before what a subprocess runs: the named packages are as good as not installed.
WITHOUT = """
import sys
from collections.abc import Collection
from importlib.machinery import PathFinder
absent = set({absent!r})
class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in absent else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
for name in absent:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(name + " can still be imported")
"""
COMMAND = """
from edgebert.cli.main import main
main()
"""


def run_python(
    script: str, *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter, with these environment variables beside those of the tests."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **environment})


def on_a_device(
    *arguments: object, absent: Collection[str] = WORKSTATION, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line where these packages are not installed."""
    return run_python(WITHOUT.format(absent=sorted(absent)) + COMMAND, *arguments, cwd=cwd)
