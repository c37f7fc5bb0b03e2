"""plotly.js as it stands in a page: deflated, as base64, with the hash that lets the browser run what it inflates."""

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
    """A script of 4.8 MB in 2 MB."""

    packed: str
    """base64 of gzip."""
    digest: str
    """Of the script itself, as a Content-Security-Policy names it."""


@functools.cache
def plotly_bundle() -> PlotlyBundle:
    """The script of the installed Python package; nothing is fetched.

    Raises:
        MissingPackage: plotly is not installed, or came without its script.
    """
    found = importlib.util.find_spec("plotly")  # the package itself is not needed, and not imported
    places = [Path(place) / SCRIPT for place in found.submodule_search_locations or ()] if found else []
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise MissingPackage("plotly", needed_for="Writing the page", extra="compare")
    script = file.read_bytes()
    packed = gzip.compress(script, 9, mtime=0)  # mtime: the same page from the same reports
    return PlotlyBundle(base64.b64encode(packed).decode("ascii"), csp_hash(script))


def csp_hash(script: bytes) -> str:
    """A script's source expression: https://www.w3.org/TR/CSP3/#match-element-to-source-list."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode('ascii')}'"
