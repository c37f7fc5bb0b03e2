"""Versions of installed packages."""

from __future__ import annotations

import importlib.metadata


def package_version(name: str) -> str:
    """Version of an installed package by its import name; `none` when it is not there."""
    distributions = {
        "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    }
    for distribution in distributions.get(name, (name, name.replace("_", "-"))):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"
