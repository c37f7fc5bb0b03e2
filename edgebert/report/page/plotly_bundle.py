"""plotly.js as a page contains it: compressed, as base64, with the hash by which the browser allows it to run."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from edgebert.errors import MissingPackage

SCRIPT = Path("package_data") / "plotly.min.js"


@dataclass(frozen=True)
class PlotlyBundle:
    """The script, 4.8 MB, in 2 MB."""

    packed: str
    """base64 of the script's gzip."""
    digest: str
    """Hash of the script in the form of a Content-Security-Policy."""


@functools.cache
def plotly_bundle() -> PlotlyBundle:
    """The script of the installed Python package; nothing is fetched.

    Raises:
        MissingPackage: plotly is not installed, or came without its script.
    """
    spec = importlib.util.find_spec("plotly")  # the package itself is not needed, and not imported
    files = [Path(folder) / SCRIPT for folder in spec.submodule_search_locations or ()] if spec else []
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise MissingPackage("plotly", needed_for="Writing the page", extra="compare")
    script = file.read_bytes()
    packed = gzip.compress(script, 9, mtime=0)  # a fixed time, so that the same reports give the same page
    return PlotlyBundle(base64.b64encode(packed).decode("ascii"), csp_hash(script))


def csp_hash(script: bytes) -> str:
    """A script's source expression: https://www.w3.org/TR/CSP3/#match-element-to-source-list."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode('ascii')}'"
