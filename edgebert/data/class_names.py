"""The names that a data set itself gives the numbers in a column: `ClassLabel` of Hugging Face's `datasets`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.data.arrow_files import METADATA, schema_metadata
from edgebert.data.formats import file_format
from edgebert.data.readers import hub_features
from edgebert.data.spec import DataSpec

MOST_NAMES = 100_000


def class_names(spec: DataSpec, path: Path | None, default_split: str = "train") -> dict[str, tuple[str, ...]]:
    """Column of the data set -> the names of its numbers 0, 1, ..., for columns that have such names."""
    if path is None:
        return _names_of_features(hub_features(spec, default_split))
    return names_in(schema_metadata(path, file_format(spec, path)))


def names_in(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names in an Arrow schema's metadata; none where it has none that can be read."""
    try:
        features = json.loads(metadata.get(METADATA, b"{}")).get("info", {}).get("features", {})
    except (ValueError, AttributeError, RecursionError):
        return {}
    return _names_of_features(features)


def _names_of_features(features: Any) -> dict[str, tuple[str, ...]]:
    found = {str(column): _names(feature) for column, feature in features.items()} if isinstance(features, Mapping) else {}
    return {column: names for column, names in found.items() if names}


def _names(feature: Any, depth: int = 0) -> tuple[str, ...]:
    """The names of a ClassLabel, or of the ClassLabels in a list."""
    if isinstance(feature, list) and len(feature) == 1 and depth < 3:
        return _names(feature[0], depth + 1)
    if not isinstance(feature, Mapping) or depth > 3:
        return ()
    if feature.get("_type") != "ClassLabel":
        return _names(feature.get("feature"), depth + 1)
    names = feature.get("names")
    if not isinstance(names, list) or len(names) > MOST_NAMES or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)
