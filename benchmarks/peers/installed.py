"""Sizes of what is installed in the environment that runs this: one JSON document, distribution -> bytes."""

from __future__ import annotations

import importlib.metadata
import json
import sys

SEED = ("pip", "setuptools")
"""What a virtual environment brings before anything is installed."""


def sizes() -> dict[str, int]:
    """Of every distribution's files, compiled Python included."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name not in SEED:
            places = (distribution.locate_file(file) for file in distribution.files or ())
            found[name] = sum(index.stat().st_size for index in places if index.is_file())
    return found


if __name__ == "__main__":
    json.dump(sizes(), sys.stdout)
