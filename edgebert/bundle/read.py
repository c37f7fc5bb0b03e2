"""Reads a bundle folder: checks files, consistency, signature and graphs before any runtime opens them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from edgebert.bundle.consistency import check_consistency
from edgebert.bundle.files import Stamp, check_files, list_files, read_plain_file, size_limit, stamp
from edgebert.bundle.graph_files import check_graph
from edgebert.bundle.manifest import MANIFEST, BundleManifest, parse_manifest
from edgebert.bundle.trust.envelope import LEFT_BY_THE_HUB as LEFT_BY_THE_HUB
from edgebert.bundle.trust.envelope import SIGNATURE, strict_json
from edgebert.bundle.trust.policy import Signer, check_trust
from edgebert.errors import BundleError
from edgebert.runtimes.serving import Serving
from edgebert.tasks import TASKS, get_task

UNLISTED = (MANIFEST, SIGNATURE)


def read_bundle(folder: Path) -> BundleManifest:
    """Reads and checks a bundle, before any runtime parses a byte of it.

    Raises:
        BundleError: it is not a bundle; a file is missing, unlisted, not a plain file or altered; or a graph loads other files.
        TrustError: it is not signed by anybody whom this machine trusts.
    """
    return read_signed_bundle(folder)[0]


def read_signed_bundle(folder: Path) -> tuple[BundleManifest, Signer]:
    """As `read_bundle`, with the signer."""
    manifest, signer, _ = _signed(folder)
    return manifest, signer


def read_stamped_bundle(folder: Path) -> tuple[BundleManifest, dict[str, Stamp]]:
    """As `read_bundle`, with the stamps of the files: compare them with `stamps_of` after a runtime has opened the files."""
    manifest, _, stamps = _signed(folder)
    return manifest, stamps


def stamps_of(folder: Path, names: Iterable[str]) -> dict[str, Stamp]:
    """The stamps that files of a bundle have now; a missing file has none."""
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            found[name] = stamp(folder / name)
    return found


def _signed(folder: Path) -> tuple[BundleManifest, Signer, dict[str, Stamp]]:
    manifest, hashes, stamps = _whole(folder)
    signer = check_trust(folder, hashes)  # before graphs are parsed, whose maker decides how long that takes
    _check_graphs(folder, manifest)
    return manifest, signer, stamps


def read_whole_bundle(folder: Path) -> tuple[BundleManifest, dict[str, str]]:
    """As `read_bundle` without a check of the signature, for a bundle that is about to be signed.

    Returns:
        The manifest, and name -> sha256 of every file, with edgebert.json, without the signature.

    Raises:
        BundleError: as `read_bundle`.
    """
    manifest, hashes, _ = _whole(folder)
    _check_graphs(folder, manifest)
    return manifest, hashes


def _whole(folder: Path) -> tuple[BundleManifest, dict[str, str], dict[str, Stamp]]:
    """The manifest, and the sha256 and stamps of the files, which match it."""
    manifest, sha256 = _read_manifest(folder)
    present = list_files(folder, LEFT_BY_THE_HUB)
    stamps = check_files(folder, manifest.files, {name: size for name, size in present.items() if name not in UNLISTED})
    return manifest, {**{name: entry.sha256 for name, entry in manifest.files.items()}, MANIFEST: sha256}, stamps


def _check_graphs(folder: Path, manifest: BundleManifest) -> None:
    for name in sorted({variant.file for variant in manifest.variants}):
        check_graph(folder, name, manifest.files)


def read_manifest(folder: Path) -> BundleManifest:
    """Reads and checks edgebert.json alone; no other file, and no signature.

    Raises:
        BundleError: there is no such file, or it is not valid.
    """
    return _read_manifest(folder)[0]


def _read_manifest(folder: Path) -> tuple[BundleManifest, str]:
    """The manifest, and the sha256 of its file."""
    _require_bundle(folder)
    data = read_plain_file(folder / MANIFEST, size_limit(MANIFEST))
    try:
        manifest = parse_manifest(strict_json(data))
        if manifest.task not in [task.name for task in TASKS]:
            raise BundleError(f"{folder} is for the task {manifest.task}, which this version of edgebert does not know.")
        check_consistency(folder, manifest)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST} is not valid: {error}") from error
    return manifest, hashlib.sha256(data).hexdigest()


def _require_bundle(folder: Path) -> None:
    makes = "`edgebert compress` writes one to runs/<recipe>/bundle."
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is invalid on every system
        raise BundleError(f"There is no bundle folder {folder}.", hint=makes)
    if not os.path.lexists(folder / MANIFEST):
        inner = folder / "bundle"
        hint = f"Did you mean {inner}?" if (inner / MANIFEST).is_file() else makes
        raise BundleError(f"{folder} has no {MANIFEST}, so it is not a bundle.", hint=hint)


def serving_of(folder: Path, manifest: BundleManifest) -> Serving:
    """How text becomes input of the bundle's models."""
    return Serving(
        task=get_task(manifest.task),
        labels=manifest.labels,
        max_length=manifest.max_length,
        pad_id=manifest.pad_id,
        tokenizer=folder / "tokenizer.json",
    )
