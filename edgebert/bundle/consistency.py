"""Whether a manifest contradicts itself: its files, variants, verdict and goldens. A signature alone does not show that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.errors import BundleError
from edgebert.runtimes import RUNTIMES
from edgebert.tasks import get_task
from edgebert.tasks.base import LISTS

OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal. Labels may have other unprintable ones that names may not, such as a joiner."""


def check_consistency(folder: Path, manifest: BundleManifest) -> None:
    """Refuses a manifest that contradicts itself.

    Raises:
        BundleError: with the first contradiction.
    """
    for fault in _faults(manifest):
        raise BundleError(f"The manifest of {folder} {fault}.", hint="Fetch the bundle again, or compress again.")


def _faults(manifest: BundleManifest) -> Iterator[str]:
    yield from _file_faults(manifest)
    for variant in manifest.variants:
        yield from _variant_faults(variant)
    yield from _verdict_faults(manifest)
    yield from _golden_faults(manifest)


def _file_faults(manifest: BundleManifest) -> Iterator[str]:
    used = {variant.file for variant in manifest.variants} | {"tokenizer.json", "config.json"}
    for name in sorted(used - manifest.files.keys()):
        yield f"uses {name}, but does not list it"
    names = [variant.name for variant in manifest.variants]
    if len(set(names)) < len(names):
        yield "has two variants of one name"
    if strange := next((name for name in (manifest.name, *names) if not name.isprintable()), None):
        yield f"has the name {strange!a}, which cannot be printed"
    if strange := next((label for label in manifest.labels if OBEYED.search(label)), None):
        yield f"has the label {strange!a}, which cannot be printed"


def _variant_faults(variant: ManifestEntry) -> Iterator[str]:
    endings = {runtime.name: runtime.ending for runtime in RUNTIMES}
    if variant.target.runtime not in endings:
        yield f"has {variant.name} for the runtime {variant.target.runtime}, which runs no bundles"
    elif PurePosixPath(variant.file).suffix != endings[variant.target.runtime]:
        yield f"has {variant.name} in {variant.file}, which is no file of {variant.target.runtime}"
    if (variant.role == "baseline") != (variant.status == "BASELINE"):
        yield f"says that {variant.name} is a {variant.role} and {variant.status}"
    if (variant.status == "FAILED") != bool(variant.reasons):
        yield f"says that {variant.name} {variant.status}, with {len(variant.reasons)} reasons against it"


def _verdict_faults(manifest: BundleManifest) -> Iterator[str]:
    selected = manifest.variant(manifest.selected)
    if selected is None:
        yield f"selects {manifest.selected}, which is not one of its variants"
    elif selected.status != manifest.verdict:
        yield f"says that {selected.name} is selected and {selected.status}, and that the verdict is {manifest.verdict}"
    if (manifest.verdict == "FAILED") != bool(manifest.reasons):
        yield f"says {manifest.verdict}, with {len(manifest.reasons)} reasons against it"


def _golden_faults(manifest: BundleManifest) -> Iterator[str]:
    rows, tokens = manifest.goldens.rows, manifest.goldens.token_ids
    if len(rows) > len(tokens):  # a long row may have several windows
        yield f"has {len(rows)} golden rows, and the tokens of {len(tokens)}"
    if any(row.keys() != rows[0].keys() for row in rows) or not rows[0]:
        yield "has golden rows of different columns"
    task = get_task(manifest.task, manifest.task_options)
    columns = {column.name: column for column in task.columns if not column.is_label}
    needed = {name for name, column in columns.items() if column.required and not column.or_else}
    if not needed <= rows[0].keys() <= columns.keys():
        yield f"has golden rows of the columns {', '.join(map(ascii, rows[0]))}, and its task those of {', '.join(columns)}"
    lists = {name for name, column in columns.items() if column.kind in LISTS}
    if strange := next((name for row in rows for name in row if (name in lists) != isinstance(row[name], tuple)), None):
        yield f"has a golden row whose {strange!a} is of another kind"
    if any(not 0 < len(ids) <= manifest.max_length or min(ids) < 0 for ids in tokens):
        yield f"has golden tokens that are none, or more than {manifest.max_length}"
    shapes = {variant.name: _shapes(variant) for variant in manifest.variants}
    first = shapes[manifest.variants[0].name]
    for name, shape in shapes.items():
        if not shape or any(len(of_rows) != len(tokens) or None in of_rows for of_rows in shape.values()):
            yield f"has golden outputs of {name} that are not one array of numbers for each row"
        elif shape != first:
            yield f"has golden outputs of {name} of other shapes than those of {manifest.variants[0].name}"
    for output in task.outputs:
        found = zip(first.get(output.name, ()), tokens, strict=False)
        if any(shape is None or not output.fits(shape, tokens=len(ids), labels=len(manifest.labels)) for shape, ids in found):
            yield f"has {len(manifest.labels)} labels, and golden {output.name} of another number"


def _shapes(variant: ManifestEntry) -> dict[str, tuple[tuple[int, ...] | None, ...]]:
    return {name: tuple(map(_shape, values)) for name, values in variant.golden_outputs.items()}


def _shape(value: Any) -> tuple[int, ...] | None:
    """Shape of nested lists of numbers; None if they do not form an array."""
    if not isinstance(value, list | tuple):
        return () if isinstance(value, int | float) and not isinstance(value, bool) else None
    inner = {_shape(item) for item in value}
    if len(inner) != 1 or None in inner:
        return None
    return (len(value), *(next(iter(inner)) or ()))
