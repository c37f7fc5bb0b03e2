"""Leases: the artifacts that runs use, so that `gc` keeps them.

    leases/<name>-<random>.json   keys of a run at work: while somebody holds the lock of <name>-<random>.lock
    leases/<name>.json            keys of a finished run: while its output folder exists
    locks/leases                  shared by runs that take a key, held alone by a collection

A lease of a version before these locks names a process instead, whose number says nothing in another container.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgebert.core.artifact import hash_json, write_durably
from edgebert.core.faults import store_faults
from edgebert.core.files import read_regular
from edgebert.core.locks import is_held, locked, take

DAY_S = 86_400
UNLOCKED_S = 7 * DAY_S
"""Seconds that a lease without a lock counts after it was last written: of an older version's run, which may be at work."""
ELSEWHERE_S = 30 * DAY_S
"""Seconds that a lease of a run that finished on another host counts where its folder cannot be seen."""


class Lease:
    """The keys that a run uses: in a file of its own while it runs, in a file of its output folder when it is done."""

    def __init__(self, folder: Path, out: Path) -> None:
        self._folder, self._out = folder, out
        name = f"{hash_json(str(out))[:32]}-{secrets.token_hex(8)}"
        self._mine, self._lock = folder / f"{name}.json", folder / f"{name}.lock"
        self._keys: set[str] = set()
        self._held: int | None = None

    def open(self) -> None:
        """Takes the lock that shows that the run is at work."""
        with store_faults(self._folder.parent), taking(self._folder):
            self._held = take(self._lock)

    def take_if(self, key: str, there: Callable[[], bool]) -> bool:
        """Adds the key of an artifact that is there; a collection comes before or after, never between.

        Args:
            there: whether the artifact is there.

        Returns:
            What `there` returned.
        """
        with store_faults(self._folder.parent), taking(self._folder):
            if not there():
                return False
            if key not in self._keys:
                self._keys.add(key)
                self._write(self._mine, {"pid": os.getpid(), "lock": self._lock.name})
        return True

    def hand_over(self, replaced: Path | None) -> None:
        """Keeps the keys for the output folder from now on, instead of those of the run before.

        Args:
            replaced: where the run is that was in the output folder before, if there was one.
        """
        former = _steps_of(replaced) if replaced else set()
        with store_faults(self._folder.parent), taking(self._folder):
            before = self._folder / f"{hash_json(str(self._out))[:32]}.json"
            mine = self._folder / f"{hash_json([platform.node(), str(self._out)])[:32]}.json"
            self._write(mine, {"pid": None})
            if not _read(before).get("host"):  # the same folder's, of an older version
                before.unlink(missing_ok=True)
            for file in self._folder.glob("*.json"):
                if former and file != mine and self._is_of(_read(file), former):
                    file.unlink(missing_ok=True)

    def drop(self) -> None:
        """Releases the keys of the run."""
        self._mine.unlink(missing_ok=True)
        if self._held is not None:
            self._lock.unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    def _is_of(self, lease: dict[str, Any], former: set[str]) -> bool:
        """Whether it is of the run that was replaced: each start of a container has another host name, but other containers
        may have another folder at this path."""
        finished = lease.get("pid", 0) is None and lease["out"] == str(self._out)
        return finished and former <= set(lease["keys"])

    def _write(self, file: Path, how: dict[str, Any]) -> None:
        lease = {"out": str(self._out), "host": platform.node(), **how, "keys": sorted(self._keys)}
        write_durably(file, json.dumps(lease))


@contextlib.contextmanager
def taking(folder: Path) -> Iterator[None]:
    """Within it, no collection begins or is under way."""
    with locked(folder.parent / "locks" / "leases", shared=True):
        yield


@contextlib.contextmanager
def collecting(folder: Path) -> Iterator[None]:
    """Within it, no run takes a key."""
    with locked(folder.parent / "locks" / "leases"):
        yield


def leased_keys(folder: Path, *, finished: bool = True) -> set[str]:
    """Keys that runs at work use and, unless `finished` is False, that existing output folders were made from."""
    keys: set[str] = set()
    for file in folder.glob("*.json"):
        lease = _read(file)
        if _is_at_work(file, lease) or (finished and _is_kept(file, lease)):
            keys.update(lease["keys"])
    return keys


def runs_of(folder: Path) -> dict[str, list[str]]:
    """Key -> output folders of the runs at work and of the finished runs that use it."""
    runs: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.json")):
        lease = _read(file)
        if _is_at_work(file, lease) or _is_kept(file, lease):
            for key in lease["keys"]:
                runs[key] = sorted({*runs.get(key, ()), lease["out"]})
    return runs


def clear(folder: Path) -> None:
    """Removes the leases of runs that ended without finishing, and of output folders that are gone."""
    for file in folder.glob("*.json"):
        lease = _read(file)
        if not _is_at_work(file, lease) and not _is_kept(file, lease):
            file.unlink(missing_ok=True)
    for lock in folder.glob("*.lock"):
        if not lock.with_suffix(".json").exists() and not is_held(lock):
            lock.unlink(missing_ok=True)


def _is_at_work(file: Path, lease: dict[str, Any]) -> bool:
    if isinstance(lease.get("lock"), str):
        return is_held(file.parent / Path(lease["lock"]).name)
    return lease.get("pid") is not None and _age(file) < UNLOCKED_S


def _is_kept(file: Path, lease: dict[str, Any]) -> bool:
    if lease.get("pid", 0) is not None:
        return False
    out, elsewhere = Path(lease["out"]), lease.get("host") not in (None, platform.node())
    recent = _age(file) < ELSEWHERE_S
    try:
        return stat.S_ISREG((out / "run.json").stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return elsewhere and recent and not os.path.lexists(out)
    except OSError:  # of another user, or on a share that does not answer
        return recent or not elsewhere


def _steps_of(run: Path) -> set[str]:
    """Keys of the steps of the run in a folder; empty where its record says none."""
    try:
        return {step["key"] for step in json.loads(read_regular(run / "run.json"))["steps"]}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _age(file: Path) -> float:
    """Seconds since the file was written."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _read(file: Path) -> dict[str, Any]:
    """The lease in a file; empty where it holds none."""
    try:
        lease = json.loads(read_regular(file))
    except (OSError, ValueError):
        return {}
    whole = isinstance(lease, dict) and isinstance(lease.get("keys"), list) and isinstance(lease.get("out"), str)
    return lease if whole else {}
