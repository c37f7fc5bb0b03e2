"""Artifact: an immutable folder of files with a manifest, and the hashes that say what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgebert.core.files import read_regular
from edgebert.core.strict import Frozen
from edgebert.errors import StoreError

MANIFEST = "artifact.json"
HASH_BLOCK = 1 << 20
AGAIN = "Run `edgebert store gc --altered` to drop altered artifacts; the next run makes them again."


class FileEntry(Frozen):
    """One file of an artifact."""

    sha256: str
    size: int


class MadeBy(Frozen):
    """The stage, its version and its parameters, and the libraries that it ran on."""

    name: str
    version: int
    parameters: dict[str, Any]
    packages: dict[str, str]
    seconds: float = 0.0


class ArtifactManifest(Frozen):
    """The content of artifact.json."""

    key: str
    format: str
    sha256: str
    files: dict[str, FileEntry]
    parent: str | None
    made_by: MadeBy
    facts: dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """An immutable folder. `parent` is the key of the artifact that it was made from."""

    path: Path
    manifest: ArtifactManifest

    @property
    def key(self) -> str:
        """Hash of everything that made it."""
        return self.manifest.key

    @property
    def format(self) -> str:
        """`transformers`, `onnx`, `openvino`, `data` or `measurement`."""
        return self.manifest.format

    @property
    def sha256(self) -> str:
        """Hash of its content: the sha256 over the sorted names and hashes of its files."""
        return self.manifest.sha256

    @property
    def parent(self) -> str | None:
        """Key of the source artifact."""
        return self.manifest.parent

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts that its stage recorded while making it."""
        return self.manifest.facts

    @property
    def size(self) -> int:
        """Size of all its files, in bytes."""
        return sum(entry.size for entry in self.manifest.files.values())

    @property
    def made(self) -> str:
        """When it was made, in UTC: `2026-11-30T21:05:00Z`."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((self.path / MANIFEST).stat().st_mtime))

    def verify(self) -> None:
        """Hashes every file again, and compares the manifest with its folder's name, its own hashes and its seal.

        Raises:
            StoreError: a file is missing, extra or altered, or the manifest is, or it belongs to another artifact.
        """
        if self.path.name != self.key:
            raise StoreError(f"{self.path} holds the artifact {self.key[:12]}, which is another one.", hint=AGAIN)
        found = hash_folder(self.path)
        for name in sorted(found.keys() | self.manifest.files.keys()):
            if found.get(name) != self.manifest.files.get(name):
                raise StoreError(f"{self.path / name} was altered after it was written.", hint=AGAIN)
        if content_hash(found) != self.sha256 or not seal_holds(self.path):
            raise StoreError(f"{self.path / MANIFEST} was altered after it was written.", hint=AGAIN)

    def copy_file(self, name: str, to: Path) -> None:
        """Copies one of its files, hashing what is copied: hours may have passed since it was verified.

        Raises:
            StoreError: the file was altered after it was written.
        """
        digest = hashlib.sha256()
        with (self.path / name).open("rb") as source, to.open("wb") as target:
            while block := source.read(HASH_BLOCK):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != self.manifest.files[name].sha256:
            hint = "Run the same command again: it is made again, with everything that was made from it."
            raise StoreError(f"{self.path / name} was altered after it was written.", hint=hint)


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_json(value: object) -> str:
    """sha256 of a value in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_folder(folder: Path) -> dict[str, FileEntry]:
    """Name relative to the folder -> hash and size, for every file below it but the manifest."""
    return {
        file.relative_to(folder).as_posix(): FileEntry(sha256=hash_file(file), size=file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).as_posix() != MANIFEST
    }


def content_hash(files: Mapping[str, FileEntry]) -> str:
    """One hash for a set of files."""
    return hash_json({name: entry.sha256 for name, entry in files.items()})


def seal_of(folder: Path) -> Path:
    """The file with the sha256 of an artifact's manifest: beside the folder of all artifacts, because its own is full."""
    return folder.parent.parent / "seals" / f"{folder.name}.sha256"


def seal_holds(folder: Path) -> bool:
    """Whether the manifest is as it was sealed. Stores made before there were seals have none."""
    seal = seal_of(folder)
    return not seal.is_file() or seal.read_bytes().strip() == hash_file(folder / MANIFEST).encode()


def write_manifest(folder: Path, manifest: ArtifactManifest) -> str:
    """Writes artifact.json and flushes all files. Returns its sha256."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    sync_folder(folder)
    return hash_file(folder / MANIFEST)


def read_manifest(folder: Path) -> ArtifactManifest:
    """Reads artifact.json.

    Raises:
        StoreError: it is missing or does not parse.
    """
    try:
        return ArtifactManifest.model_validate_json(read_regular(folder / MANIFEST))
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"{folder / MANIFEST} cannot be read: {error.__class__.__name__}.",
            hint="Run `edgebert store gc --altered`; the next run makes the artifact again.",
        ) from error


def write_durably(file: Path, text: str) -> None:
    """Replaces a file: after a power cut, the old one or the new one is there whole."""
    partial = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        with partial.open("x", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flushes every file, so that a power cut after the rename cannot leave an empty one."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
