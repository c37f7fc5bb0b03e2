"""Reads a bundle folder: checks names, consistency, signature, contents and graphs before any runtime opens them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebert.bundle.consistency import check_consistency
from edgebert.bundle.files import check_contents, check_names, read_plain_file, size_limit
from edgebert.bundle.folder import BundleFolder
from edgebert.bundle.manifest import MANIFEST, BundleManifest, parse_manifest
from edgebert.bundle.opened import OpenBundle, check_graphs
from edgebert.bundle.trust.envelope import LEFT_BY_THE_HUB as LEFT_BY_THE_HUB
from edgebert.bundle.trust.envelope import SIGNATURE, strict_json
from edgebert.bundle.trust.policy import Signer, check_trust
from edgebert.errors import BundleError, InputError
from edgebert.tasks import TASKS, get_task

UNLISTED = (MANIFEST, SIGNATURE)


@contextmanager
def open_bundle_folder(folder: Path) -> Iterator[OpenBundle]:
    """A bundle whose manifest, names, sizes and signature were checked, to open its files from.

    The manifest lists the hash of each file, and the signature is for all of these. A content is compared with its hash when
    the `OpenBundle` takes it, so that what nobody opens is not read.

    Raises:
        BundleError: it is not a bundle; a file is missing, unlisted, of another size, or not a plain file.
        TrustError: it is not signed by anybody whom this machine trusts.
    """
    with _opened(folder) as opened:
        manifest, hashes = _listed(opened)
        signer = check_trust(folder, hashes, at=opened.descriptor)
        with OpenBundle(opened, manifest, hashes[MANIFEST], signer) as bundle:
            yield bundle


def read_bundle(folder: Path) -> BundleManifest:
    """Reads and checks a bundle with all its contents, before any runtime parses a byte of it.

    Raises:
        BundleError: it is not a bundle; a file is missing, unlisted, not a plain file or altered; or a graph loads other files.
        TrustError: it is not signed by anybody whom this machine trusts.
    """
    return read_signed_bundle(folder)[0]


def read_signed_bundle(folder: Path) -> tuple[BundleManifest, Signer]:
    """As `read_bundle`, with the signer."""
    with _opened(folder) as opened:
        manifest, hashes = _whole(opened)
        # Before graphs are parsed, whose maker decides how long that takes.
        signer = check_trust(folder, hashes, at=opened.descriptor)
        check_graphs(opened, manifest)
    return manifest, signer


def read_whole_bundle(folder: Path) -> tuple[BundleManifest, dict[str, str]]:
    """As `read_bundle` without a check of the signature, for a bundle that is about to be signed.

    Returns:
        The manifest, and name -> sha256 of every file, with edgebert.json, without the signature.

    Raises:
        BundleError: as `read_bundle`.
    """
    with _opened(folder) as opened:
        manifest, hashes = _whole(opened)
        check_graphs(opened, manifest)
    return manifest, hashes


def read_manifest(folder: Path) -> BundleManifest:
    """Reads and checks edgebert.json alone; no other file, and no signature.

    Raises:
        BundleError: there is no such file, or it is not valid.
    """
    with _opened(folder) as opened:
        return _read_manifest(opened)[0]


def _opened(folder: Path) -> BundleFolder:
    _require_bundle(folder)
    return BundleFolder(folder)


def _whole(folder: BundleFolder) -> tuple[BundleManifest, dict[str, str]]:
    """The manifest, and the sha256 of the files, whose contents match it."""
    manifest, hashes = _listed(folder)
    check_contents(folder, manifest.files)
    return manifest, hashes


def _listed(folder: BundleFolder) -> tuple[BundleManifest, dict[str, str]]:
    """The manifest, whose names and sizes match the files, and the sha256 that every file should have."""
    manifest, sha256 = _read_manifest(folder)
    present = folder.sizes(LEFT_BY_THE_HUB)
    check_names(folder, manifest.files, {name: size for name, size in present.items() if name not in UNLISTED})
    return manifest, {**{name: entry.sha256 for name, entry in manifest.files.items()}, MANIFEST: sha256}


def _read_manifest(folder: BundleFolder) -> tuple[BundleManifest, str]:
    """The manifest, and the sha256 of its file."""
    data = read_plain_file(folder, MANIFEST, size_limit(MANIFEST))
    try:
        manifest = parse_manifest(strict_json(data))
        if manifest.task not in [task.name for task in TASKS]:
            raise BundleError(f"{folder.path} is for the task {manifest.task}, which this version of edgebert does not know.")
        get_task(manifest.task, manifest.task_options)
        check_consistency(folder.path, manifest)
    except (ValueError, RecursionError, InputError) as error:
        raise BundleError(f"{folder.path / MANIFEST} is not valid: {error}") from error
    return manifest, hashlib.sha256(data).hexdigest()


def _require_bundle(folder: Path) -> None:
    makes = "`edgebert compress` writes one to runs/<recipe>/bundle."
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is invalid on every system
        raise BundleError(f"There is no bundle folder {folder}.", hint=makes)
    if not os.path.lexists(folder / MANIFEST):
        inner = folder / "bundle"
        hint = f"Did you mean {inner}?" if (inner / MANIFEST).is_file() else makes
        raise BundleError(f"{folder} has no {MANIFEST}, so it is not a bundle.", hint=hint)
