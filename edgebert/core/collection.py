"""Collection: drops what no run needs from a store, while other runs may be at work in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from edgebert.core.artifact import seal_of
from edgebert.core.artifact_folders import TRIAL, artifacts_in, bury, fault_of, folders_in, may_be_whole, move_away
from edgebert.core.faults import store_faults
from edgebert.core.leases import clear, collecting, leased_keys
from edgebert.core.locks import HeldElsewhere, locked


def collect(root: Path, *, everything: bool) -> tuple[int, int]:
    """Drops the artifacts that no run at work and no output folder has a lease for, and what killed runs left.

    Args:
        everything: drop also what output folders were made from.

    Returns:
        Number of artifacts, and of bytes in all.
    """
    leases = root / "leases"
    with store_faults(root):
        (root / "locks").mkdir(exist_ok=True)
        graves: list[Path] = []
        with collecting(leases):  # runs wait meanwhile: nothing is deleted here
            keep = leased_keys(leases, finished=not everything)
            dropped = [artifact for artifact in artifacts_in(root) if artifact.path.name not in keep]
            for artifact in dropped:
                seal_of(artifact.path).unlink(missing_ok=True)
                graves += move_away(root, artifact.path)
            clear(leases)
        for grave in graves:
            shutil.rmtree(grave, ignore_errors=True)
        return len(dropped), sum(artifact.size for artifact in dropped) + sum(_swept(root))


def _swept(root: Path) -> Iterator[int]:
    """Removes the drafts and checkpoints of runs that are not at work. Yields the bytes of each."""
    for trial in (root / "artifacts").glob(f"{TRIAL}*"):
        shutil.rmtree(trial, ignore_errors=True)
    for folder in [*(root / "work").glob("*"), *(root / "tmp").glob("*")]:
        key = next((lock.stem for lock in (root / "locks").glob(f"{folder.name[:16]}*.lock")), None)
        try:
            with locked(root / "locks" / f"{key or folder.name}.lock", wait=False, passing=key is None):
                yield sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                shutil.rmtree(folder, ignore_errors=True) if folder.is_dir() else folder.unlink()
        except (HeldElsewhere, FileNotFoundError):
            continue  # a run is at work there, or another collection is


def remove_altered(root: Path) -> int:
    """Drops every artifact that fails its verification. Returns their number.

    Raises:
        StoreError: one cannot be read, which does not say that it was altered.
    """
    count = 0
    with store_faults(root):
        for folder in filter(fault_of, folders_in(root)):
            with locked(root / "locks" / f"{folder.name}.lock"):
                if fault := fault_of(folder):  # no run has made it again
                    if may_be_whole(fault):
                        raise fault
                    bury(root, folder)
                    count += 1
    return count
