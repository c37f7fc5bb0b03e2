"""Artifact: an immutable folder of files with a manifest. ArtifactStore: the artifacts, by the key of what made them.

Layout of a store:

    artifacts/<key>/            a finished artifact: its files and artifact.json
    work/<key>/                 checkpoints, with which a stage that was killed goes on
    tmp/<key>-<pid>-<random>/   an artifact being written; renamed into artifacts/ when whole
    locks/<key>.lock            held by the process that makes <key>
    leases/<hash>.json          the artifacts that one output folder was made from; gc keeps them

A key is the sha256 of everything that decides the result, so an artifact that is there is never made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgebert.core.strict import Frozen
from edgebert.errors import EdgebertError, StoreError

MANIFEST = "artifact.json"
HASH_BLOCK = 1 << 20


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

    def verify(self) -> None:
        """Hashes every file again.

        Raises:
            StoreError: a file is missing, extra or altered.
        """
        found = hash_folder(self.path)
        for name in sorted(found.keys() | self.manifest.files.keys()):
            if found.get(name) != self.manifest.files.get(name):
                raise StoreError(
                    f"{self.path / name} was altered after it was written.",
                    hint="Run `edgebert store gc --altered` to drop altered artifacts; the next run makes them again.",
                )


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


@dataclass(frozen=True)
class Draft:
    """Where a stage writes: `out` becomes the artifact, `work` survives a kill and is dropped afterwards."""

    out: Path
    work: Path


class ArtifactStore:
    """The artifacts of one machine. Several processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lease: Lease | None = None

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            StoreError: the store's folder cannot be written.
        """
        with store_faults(self.root):
            for folder in ("artifacts", "work", "tmp", "locks", "leases"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / "tmp"):
                pass

    def get(self, key: str) -> Artifact | None:
        """The artifact of that key, or None."""
        path = self.root / "artifacts" / key
        if not (path / MANIFEST).is_file():
            return None
        if self._lease:
            self._lease.add(key)
        return Artifact(path, read_manifest(path))

    @contextlib.contextmanager
    def lease(self, out: Path) -> Iterator[None]:
        """Within it, every artifact in use is kept for this process; after a successful end, for the output folder."""
        self._lease = Lease(self.root / "leases", out.absolute())
        try:
            yield
            self._lease.hand_over()
        finally:
            self._lease.drop()
            self._lease = None

    def lineage(self, artifact: Artifact) -> list[Artifact]:
        """The artifact and its chain of parents, nearest first."""
        chain = [artifact]
        while (parent := chain[-1].parent) and (found := self.get(parent)):
            chain.append(found)
        return chain

    def get_or_make(
        self, key: str, *, format: str, parent: str | None, made_by: MadeBy, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        """Returns the artifact, made now if it is not there. `make` fills `draft.out` and returns the facts."""
        if found := self.get(key):
            return found
        with store_faults(self.root), self._lock(key):
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
        (draft.out / MANIFEST).write_text(manifest.model_dump_json(indent=1))
        sync_folder(draft.out)
        target = self.root / "artifacts" / manifest.key
        if self._lease:
            self._lease.add(manifest.key)
        shutil.rmtree(target, ignore_errors=True)  # only what lost its manifest can be there
        draft.out.replace(target)
        shutil.rmtree(draft.work, ignore_errors=True)
        return Artifact(target, manifest)

    @contextlib.contextmanager
    def _draft(self, key: str) -> Iterator[Draft]:
        work = self.root / "work" / key
        work.mkdir(parents=True, exist_ok=True)
        out = Path(tempfile.mkdtemp(prefix=f"{key[:16]}-{os.getpid()}-", dir=self.root / "tmp"))
        out.chmod(0o755)
        try:
            yield Draft(out, work)
        finally:
            shutil.rmtree(out, ignore_errors=True)
            with contextlib.suppress(OSError):
                work.rmdir()  # only when empty: checkpoints stay

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.root / "locks" / f"{key}.lock"):
            yield

    def artifacts(self) -> list[Artifact]:
        """Every artifact, oldest first. A folder with an unreadable manifest is left out."""
        found = []
        for folder in sorted((self.root / "artifacts").glob("*"), key=lambda path: path.stat().st_mtime):
            with contextlib.suppress(StoreError):
                found.append(Artifact(folder, read_manifest(folder)))
        return found

    def verify(self) -> list[str]:
        """One line for every artifact that differs from its manifest."""
        faults = []
        for folder in sorted((self.root / "artifacts").glob("*")):
            try:
                Artifact(folder, read_manifest(folder)).verify()
            except StoreError as error:
                faults.append(error.message)
        return faults

    def remove(self, artifact: Artifact) -> None:
        """Drops one artifact; its key never has half of one."""
        with store_faults(self.root):
            grave = Path(tempfile.mkdtemp(dir=self.root / "tmp")) / "artifact"
            with contextlib.suppress(FileNotFoundError):  # another process removed it first
                artifact.path.replace(grave)
            shutil.rmtree(grave.parent, ignore_errors=True)

    def remove_altered(self) -> int:
        """Drops every artifact that fails its verification. Returns their number."""
        count = 0
        for folder in sorted((self.root / "artifacts").glob("*")):
            try:
                Artifact(folder, read_manifest(folder)).verify()
            except StoreError:
                shutil.rmtree(folder)
                count += 1
        return count

    def leased(self, *, finished: bool = True) -> set[str]:
        """Keys that running processes use and, unless `finished` is False, that existing output folders were made from."""
        keys: set[str] = set()
        for file in (self.root / "leases").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                lease = json.loads(file.read_text())
                at_work = lease["pid"] is not None and is_running(lease["pid"])
                if at_work or (finished and lease["pid"] is None and (Path(lease["out"]) / "run.json").is_file()):
                    keys.update(lease["keys"])
        return keys

    def collect(self, *, everything: bool = False) -> tuple[int, int]:
        """Drops the artifacts that no output folder was made from, and the files that killed runs left.

        Returns:
            Number of artifacts, and of bytes in all.
        """
        from filelock import FileLock, Timeout

        count = freed = 0
        keep = self.leased(finished=not everything)
        for artifact in self.artifacts():
            if artifact.key not in keep:
                count, freed = count + 1, freed + artifact.size
                self.remove(artifact)
        for folder in [*(self.root / "work").glob("*"), *(self.root / "tmp").glob("*")]:
            key = next((lock.stem for lock in (self.root / "locks").glob(f"{folder.name[:16]}*.lock")), None)
            try:
                with FileLock(self.root / "locks" / f"{key or folder.name}.lock", timeout=0):
                    freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                    shutil.rmtree(folder, ignore_errors=True) if folder.is_dir() else folder.unlink()
            except Timeout:
                continue  # a run is at work there
        return count, freed


class Lease:
    """The keys that a run uses: in a file of its process while it runs, in a file of its output folder when it is done."""

    def __init__(self, folder: Path, out: Path) -> None:
        name = hash_json(str(out))[:32]
        self._mine, self._final = folder / f"{name}-{os.getpid()}.json", folder / f"{name}.json"
        self._out = out
        self._keys: set[str] = set()

    def add(self, key: str) -> None:
        """Adds one key."""
        if key in self._keys:
            return
        self._keys.add(key)
        with store_faults(self._mine.parent.parent):
            self._write(self._mine, os.getpid())

    def hand_over(self) -> None:
        """Keeps the keys for the output folder from now on, instead of those of the run before."""
        with store_faults(self._final.parent.parent):
            self._write(self._final, None)

    def drop(self) -> None:
        """Releases the keys of the process."""
        self._mine.unlink(missing_ok=True)

    def _write(self, file: Path, pid: int | None) -> None:
        lease = {"out": str(self._out), "pid": pid, "keys": sorted(self._keys)}
        partial = file.with_suffix(f".{os.getpid()}")
        try:
            partial.write_text(json.dumps(lease))
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Whether a process of that number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_manifest(folder: Path) -> ArtifactManifest:
    """Reads artifact.json.

    Raises:
        StoreError: it is missing or does not parse.
    """
    try:
        return ArtifactManifest.model_validate_json((folder / MANIFEST).read_text())
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"{folder / MANIFEST} cannot be read: {error.__class__.__name__}.",
            hint="Run `edgebert store gc --altered`; the next run makes the artifact again.",
        ) from error


def sync_folder(folder: Path) -> None:
    """Flushes every file, so that a power cut after the rename cannot leave an empty one."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


@contextlib.contextmanager
def store_faults(path: Path, option: str = "--store or EDGEBERT_HOME") -> Iterator[None]:
    """Turns an operating system's error about a path into a StoreError with a way on.

    Args:
        option: the option that names another path, for the message.
    """
    try:
        yield
    except EdgebertError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = f"Free some space (`edgebert store gc`), or name another folder with {option}."
            raise StoreError(f"No space left for {path}: {error.strerror}.", hint=hint) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = f"Name a folder that you may write with {option}."
            raise StoreError(f"{path} cannot be written: {error.strerror}.", hint=hint) from error
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise StoreError(f"{path} cannot be used: {error.strerror}.", hint=f"Name a shorter path with {option}.") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            hint = f"Name a folder with {option}."
            raise StoreError(f"{path} cannot be a folder: a file stands in its way.", hint=hint) from error
        raise
