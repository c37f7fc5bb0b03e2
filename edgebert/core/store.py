"""ArtifactStore: the artifacts, by the key of what made them.

Layout of a store:

    artifacts/<key>/            a finished artifact: its files and artifact.json
    seals/<key>.sha256          the hash of its artifact.json; older artifacts have none
    work/<key>/                 checkpoints, with which a stage that was killed goes on
    tmp/<key>-<random>/         an artifact being written; renamed into artifacts/ when whole
    locks/<key>.lock            held by the process that makes <key>
    leases/                     the artifacts that runs use; see `leases`
    caches/                     what libraries keep; see `library_caches`

A key is the sha256 of everything that decides the result, so an artifact that is there is not made again: unless its hashes
say that it is no longer what was written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgebert.core.artifact import (
    HASH_BLOCK,
    MANIFEST,
    Artifact,
    ArtifactManifest,
    FileEntry,
    MadeBy,
    content_hash,
    hash_file,
    hash_folder,
    hash_json,
    read_manifest,
    seal_of,
    sync_folder,
    write_durably,
    write_manifest,
)
from edgebert.core.artifact_folders import artifacts_in, bury, fault_of, folders_in, try_to_move
from edgebert.core.collection import collect, remove_altered
from edgebert.core.faults import store_faults
from edgebert.core.leases import Lease, runs_of
from edgebert.core.locks import locked
from edgebert.errors import StoreError

__all__ = [
    "HASH_BLOCK",
    "MANIFEST",
    "Artifact",
    "ArtifactManifest",
    "ArtifactStore",
    "Draft",
    "FileEntry",
    "MadeBy",
    "content_hash",
    "hash_file",
    "hash_folder",
    "hash_json",
    "read_manifest",
    "store_faults",
    "sync_folder",
]


@dataclass(frozen=True)
class Draft:
    """Where a stage writes: `out` becomes the artifact, `work` survives a kill and is dropped afterwards."""

    out: Path
    work: Path


class ArtifactStore:
    """The artifacts of one machine. Several processes and containers may share it.

    What is used is hashed first, once for each ArtifactStore: an artifact that was altered counts as missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.note: Callable[[str], None] = lambda line: None
        """Called with one line about each artifact that was altered."""
        self._lease: Lease | None = None
        self._verified: dict[str, Artifact | None] = {}
        """Key -> the artifact; None where it was altered."""
        self._noted: set[Path] = set()
        """Folders of altered artifacts that were noted."""

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            StoreError: the store's folder cannot be written, or its parts are on several disks.
        """
        with store_faults(self.root):
            for folder in ("artifacts", "seals", "work", "tmp", "locks", "leases"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / "tmp"):
                pass
            try_to_move(self.root)

    def find(self, key: str) -> Artifact | None:
        """The artifact of that key by its manifest and the sizes of its files, or None: for a plan, which reads no contents."""
        path = self.root / "artifacts" / key
        with contextlib.suppress(StoreError, OSError):
            artifact = Artifact(path, read_manifest(path))
            if all((path / name).stat().st_size == entry.size for name, entry in artifact.manifest.files.items()):
                return artifact
        return None

    def get(self, key: str) -> Artifact | None:
        """The artifact of that key, or None where there is none, or it was altered after it was written."""
        path = self.root / "artifacts" / key
        is_there = (path / MANIFEST).is_file
        if not (self._lease.take_if(key, is_there) if self._lease else is_there()):
            self._verified.pop(key, None)
            return None
        if key not in self._verified:
            self._verified[key] = self._read(path)
        return self._verified[key]

    def _read(self, path: Path) -> Artifact | None:
        """The artifact in a folder if it is as it was written; else None, with a note."""
        try:
            with store_faults(self.root):
                artifact = Artifact(path, read_manifest(path))
                artifact.verify()
            return artifact
        except FileNotFoundError:  # somebody removes it at this moment
            return None
        except StoreError as error:
            if isinstance(error.__cause__, OSError) and path.exists():  # unreadable: that does not say that it was altered
                raise
            if path not in self._noted:
                self._noted.add(path)
                self.note(f"{error.message} It is made again.")
            return None

    @contextlib.contextmanager
    def lease(self, out: Path) -> Iterator[Callable[[Path | None], None]]:
        """Within it, every artifact in use is kept for this run. Yields what keeps them for the output folder: `hand_over`."""
        lease = Lease(self.root / "leases", Path(os.path.realpath(out)))
        lease.open()
        self._lease = lease
        try:
            yield lease.hand_over
        finally:
            self._lease = None
            lease.drop()

    def lineage(self, artifact: Artifact) -> list[Artifact]:
        """The artifact and its chain of parents, nearest first."""
        chain = [artifact]
        while (parent := chain[-1].parent) and (found := self.get(parent)):
            chain.append(found)
        return chain

    def get_or_make(
        self, key: str, *, format: str, parent: str | None, made_by: MadeBy, make: Callable[[Draft], Mapping[str, object]]
    ) -> Artifact:
        """Returns the artifact, made now if it is not there or was altered. `make` fills `draft.out` and returns the facts."""
        if found := self.get(key):
            return found
        with store_faults(self.root), locked(self.root / "locks" / f"{key}.lock"):
            self._verified.pop(key, None)
            if found := self.get(key):  # another process made it while this one waited
                return found
            with self._draft(key) as draft:
                started = time.perf_counter()
                facts = dict(make(draft))
                made_by = made_by.model_copy(update={"seconds": round(time.perf_counter() - started, 3)})
                files = hash_folder(draft.out)
                manifest = ArtifactManifest(
                    key=key, format=format, sha256=content_hash(files), files=files, parent=parent, made_by=made_by, facts=facts
                )
                return self._commit(draft, manifest)

    def _commit(self, draft: Draft, manifest: ArtifactManifest) -> Artifact:
        target = self.root / "artifacts" / manifest.key
        seal = seal_of(target)
        seal.parent.mkdir(exist_ok=True)
        write_durably(seal, write_manifest(draft.out, manifest) + "\n")
        if self._lease:
            self._lease.take_if(manifest.key, lambda: True)
        bury(self.root, target)  # what was altered or lost its manifest
        draft.out.replace(target)
        shutil.rmtree(draft.work, ignore_errors=True)
        artifact = self._verified[manifest.key] = Artifact(target, manifest)
        return artifact

    @contextlib.contextmanager
    def _draft(self, key: str) -> Iterator[Draft]:
        work = self.root / "work" / key
        work.mkdir(parents=True, exist_ok=True)
        out = Path(tempfile.mkdtemp(prefix=f"{key[:16]}-", dir=self.root / "tmp"))
        out.chmod(0o755)
        try:
            yield Draft(out, work)
        finally:
            shutil.rmtree(out, ignore_errors=True)
            with contextlib.suppress(OSError):
                work.rmdir()  # only when empty: checkpoints stay

    def artifacts(self) -> list[Artifact]:
        """Every artifact, oldest first. A folder with an unreadable manifest is left out."""
        with store_faults(self.root):
            return artifacts_in(self.root)

    def runs(self) -> dict[str, list[str]]:
        """Key -> output folders of the runs that use the artifact."""
        return runs_of(self.root / "leases")

    def verify(self) -> list[str]:
        """One line for every artifact that differs from its manifest."""
        with store_faults(self.root):
            return [fault.message for folder in folders_in(self.root) if (fault := fault_of(folder))]

    def remove(self, artifact: Artifact) -> None:
        """Drops one artifact; its key never has half of one."""
        self._verified.pop(artifact.key, None)
        with store_faults(self.root):
            bury(self.root, artifact.path)

    def remove_altered(self) -> int:
        """Drops every artifact that fails its verification. Returns their number."""
        self._verified.clear()
        return remove_altered(self.root)

    def collect(self, *, everything: bool = False) -> tuple[int, int]:
        """Drops the artifacts that no output folder was made from, and the files and leases that killed runs left.

        Returns:
            Number of artifacts, and of bytes in all.
        """
        return collect(self.root, everything=everything)
