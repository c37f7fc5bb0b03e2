"""Prints the sizes of the packages of this environment: one JSON document, distribution -> bytes."""

from __future__ import annotations

import importlib.metadata
import json
import sys

SEED = ("pip", "setuptools")
"""Packages that a new virtual environment holds."""


def sizes() -> dict[str, int]:
    """Bytes of the files of each distribution, compiled Python included."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name not in SEED:
            places = (distribution.locate_file(file) for file in distribution.files or ())
            found[name] = sum(index.stat().st_size for index in places if index.is_file())
    return found


if __name__ == "__main__":
    json.dump(sizes(), sys.stdout)
