"""Work in forks of this process, which has imported everything: bounded in time, broken off where that is asked for.

A fork starts in milliseconds where a fresh process takes seconds to import torch, so that a thousand runs end within the hour.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.truncate", "open")
"""Audit events of Python that change files; `open` counts where it opens for writing."""


@dataclass(frozen=True)
class BreakOff:
    """Where a run breaks off: `seconds` after its start, or before its change number `change` of a file (from 1).

    `how` is `kill` (SIGKILL to the run and all of its processes) or `full` (the change fails as on a full disk).
    """

    seconds: float | None = None
    change: int | None = None
    how: str = "kill"


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        code: exit code; minus the number of the signal that ended it; None where it was killed at its time limit.
        peak_mb: largest resident memory of the run and of its processes.
        changes: how many changes of files its main process made.
        unsynced: files that its main process wrote and did not sync, which a power cut may take.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    peak_mb: float
    changes: int = 0
    unsynced: tuple[Path, ...] = field(default=())


def bounded(work: Callable[[], object], folder: Path, *, limit: float, broken: BreakOff | None = None) -> Outcome:
    """Runs a function in a fork, in a folder, with no standard input.

    Args:
        limit: seconds after which the run and all of its processes are killed.
    """
    broken = broken or BreakOff()
    with tempfile.TemporaryDirectory() as name:
        notes = Path(name)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _in_the_fork(work, folder, notes, broken)
        code, usage = _wait(child, started, limit, broken.seconds)
        seconds = time.monotonic() - started
        changes, unsynced = _read_notes(notes / "changes")
        out, err = ((notes / stream).read_text(errors="replace") for stream in ("out", "err"))
        return Outcome(code, out, err, seconds, usage.ru_maxrss / 1024, changes, unsynced)


def _in_the_fork(work: Callable[[], object], folder: Path, notes: Path, broken: BreakOff) -> None:
    code = 70
    try:
        os.setsid()
        for stream, target, flags in ((0, os.devnull, os.O_RDONLY), (1, notes / "out", os.O_WRONLY | os.O_CREAT)):
            os.dup2(os.open(target, flags), stream)
        os.dup2(os.open(notes / "err", os.O_WRONLY | os.O_CREAT), 2)
        os.chdir(folder)
        _watch(os.open(notes / "changes", os.O_WRONLY | os.O_CREAT | os.O_APPEND), broken)
        code = int(work() or 0)  # type: ignore[call-overload]
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, started: float, limit: float, moment: float | None) -> tuple[int | None, Any]:
    """Waits for the run; kills its whole session at the moment or at the limit."""
    until = started + (limit if moment is None else min(moment, limit))
    while time.monotonic() < until:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            _kill_session(child)  # processes that outlived it
            return os.waitstatus_to_exitcode(status), usage
        time.sleep(0.005)
    _kill_session(child)
    _, status, usage = os.wait4(child, 0)
    return (os.waitstatus_to_exitcode(status) if moment is not None and moment < limit else None), usage


def _kill_session(leader: int) -> None:
    """SIGKILL to every process of a session, those included that made a process group of their own."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            if session == leader:
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, IndexError, ValueError):
            continue


def _watch(notes: int, broken: BreakOff) -> None:
    """Notes every change of a file and every sync of this process, and breaks off before the one that is asked for."""
    sync, counted = os.fsync, 0

    def note(kind: str, *paths: object) -> None:
        absolute = (os.path.abspath(os.fsdecode(path)) for path in paths)  # type: ignore[arg-type] # noqa: PTH100 - links stay
        os.write(notes, ("\t".join([kind, *absolute]) + "\n").encode())

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal counted
        if event not in CHANGES or (event == "open" and not _writes(arguments)):
            return
        counted += 1
        if counted == broken.change:
            if broken.how == "kill":
                os.killpg(0, signal.SIGKILL)
            raise OSError(errno.ENOSPC, "No space left on device")
        if event in ("open", "os.rename"):
            note(event, *arguments[: 1 if event == "open" else 2])
        else:
            note("other")

    def synced(file: Any) -> None:
        sync(file)
        number = file if isinstance(file, int) else file.fileno()
        note("sync", Path(f"/proc/self/fd/{number}").readlink())

    os.fsync = synced
    sys.addaudithook(heard)


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    if not isinstance(path, str | bytes | os.PathLike) or os.fsdecode(path).startswith(("/proc/", "/dev/")):
        return False
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and flags & os.O_TMPFILE != os.O_TMPFILE


def _read_notes(file: Path) -> tuple[int, tuple[Path, ...]]:
    """How many changes were noted, and which files were written and not synced, at the paths where they are now."""
    lines = [line.split("\t") for line in file.read_text(errors="replace").splitlines()] if file.is_file() else []
    written: dict[str, None] = {}
    for kind, *paths in lines:
        if kind == "open":
            written[paths[0]] = None
        elif kind == "sync":
            written.pop(paths[0], None)
        elif kind == "os.rename":
            source, target = paths
            written = {target + path[len(source) :] if _below(path, source) else path: None for path in written}
    unsynced = tuple(path for path in map(Path, written) if path.is_file() and not path.is_symlink())
    return sum(line[0] != "sync" for line in lines), unsynced


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)
