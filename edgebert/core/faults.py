"""Faults of the machine, named for what they are: a full disk, a share that is gone, missing rights, limits of processes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgebert.errors import EdgebertError, EnvironmentFault, StoreError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
GONE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENXIO, errno.ENODEV)
"""What a disk reports that fails, or a network share whose server does not answer."""
LIMITS = {
    errno.EMFILE: ("This process may open no more files", "Raise its limit: ulimit -n 4096"),
    errno.ENFILE: ("This machine can open no more files", "End some processes."),
    errno.ENOMEM: ("There is no memory left", "End other processes, or give this one more memory."),
}
NO_THREADS = "This user or container may start no more threads or processes"
MORE_THREADS = """\
Raise the limit (ulimit -u, or a container's --pids-limit), or have libraries start fewer threads: \
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"""
NO_FOLDER = "The current folder was deleted"
OTHER_FOLDER = "Change to a folder that exists: cd"


def _is_gone(folder: Path) -> bool:
    """Whether a folder is not there, and no file is in its stead or in that of a folder above it."""
    return not folder.is_dir() and not any(path.is_file() for path in (folder, *folder.parents))


@contextlib.contextmanager
def store_faults(path: Path, option: str = "--store or EDGEBERT_HOME", *, base: Path | None = None) -> Iterator[None]:
    """Turns an operating system's error about a path into a StoreError with a way on.

    Args:
        option: the option that names another path, for the message.
        base: the folder that has to exist meanwhile; by default the path.
    """
    try:
        yield
    except EdgebertError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and _is_gone(base or path):
            hint = f"Run again, or name another with {option}."
            raise StoreError(f"{base or path} is gone: somebody moved or removed it.", hint=hint) from error
        if fault := _path_fault(error, path, option) or limit_fault(error):
            raise fault from error
        raise


def _path_fault(error: OSError, path: Path, option: str) -> StoreError | None:
    path, option = _place(error, path, option)
    if error.errno in FULL:
        hint = f"Free some space (`edgebert store gc`), or name another folder with {option}."
        return StoreError(f"No space left for {path}: {error.strerror}.", hint=hint)
    if error.errno in FORBIDDEN:
        hint = f"Name a folder that you may write with {option}."
        return StoreError(f"{path} cannot be written: {error.strerror}.", hint=hint)
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return StoreError(f"{path} cannot be used: {error.strerror}.", hint=f"Name a shorter path with {option}.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StoreError(f"{path} cannot be a folder: a file stands in its way.", hint=f"Name a folder with {option}.")
    if error.errno in (errno.EXDEV, errno.EBUSY):
        hint = f"Its parts must be on one file system: name a folder inside of it, or on one disk, with {option}."
        return StoreError(f"{path} cannot be replaced: {error.strerror}.", hint=hint)
    if error.errno in GONE:
        return StoreError(f"{path} cannot be used: {error.strerror}.", hint="Is the disk, or the network share, still there?")
    return None


def _place(error: OSError, path: Path, option: str) -> tuple[Path, str]:
    """The path that the error is about, and what names another: a library may have failed at a file of its own elsewhere."""
    named = error.filename
    if not isinstance(named, str) or not Path(named).is_absolute() or Path(named).is_relative_to(path.parent):
        return path, option
    return Path(named), "HOME or TMPDIR" if error.errno in FORBIDDEN + FULL else option


def limit_fault(error: BaseException) -> EnvironmentFault | None:
    """The fault of an error that says that this process, user or machine has reached a limit; None for other errors."""
    if isinstance(error, MemoryError):
        return EnvironmentFault(f"{LIMITS[errno.ENOMEM][0]}.", hint=LIMITS[errno.ENOMEM][1])
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return no_threads()
    if not isinstance(error, OSError):
        return None
    if error.errno in LIMITS:
        what, hint = LIMITS[error.errno]
        return EnvironmentFault(f"{what}.", hint=hint)
    return no_threads() if error.errno == errno.EAGAIN else None


def no_threads() -> EnvironmentFault:
    """The fault of a process that can start no thread or process."""
    return EnvironmentFault(f"{NO_THREADS}.", hint=MORE_THREADS)


def machine_fault(error: BaseException) -> EnvironmentFault | None:
    """The machine's fault behind any error, found in the chain of what caused it; None where it is none of the machine's."""
    for cause in _chain(error):
        if isinstance(cause, EnvironmentFault):
            return None if cause is error else cause
        if fault := limit_fault(cause):
            return fault
        if isinstance(cause, FileNotFoundError) and "No usable temporary directory" in str(cause):
            return EnvironmentFault("There is no folder for temporary files that this user may write.", hint="Name one: TMPDIR")
        if isinstance(cause, OSError) and cause.errno in FORBIDDEN and _is_of_the_home(cause.filename):
            hint = "Name a home that this user may write: HOME, XDG_CONFIG_HOME and XDG_CACHE_HOME."
            return EnvironmentFault(f"{cause.filename} cannot be written: {cause.strerror}.", hint=hint)
        if isinstance(cause, OSError) and cause.errno in FULL + GONE:
            what = cause.filename or "A file"
            hint = "Make room." if cause.errno in FULL else "Is the disk, or the network share, still there?"
            return EnvironmentFault(f"{what} cannot be read or written: {cause.strerror}.", hint=hint)
    return None


def _is_of_the_home(name: object) -> bool:
    """Whether a path is a hidden one in the user's home, where libraries and programs keep what is theirs: `~/.cache`."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() fails for a user without one
    if not isinstance(name, str) or not Path(name).is_relative_to(home):
        return False
    return any(part.startswith(".") for part in Path(name).relative_to(home).parts[:1])


def _chain(error: BaseException) -> Sequence[BaseException]:
    chain = [error]
    while (cause := _cause(chain[-1])) and cause not in chain:
        chain.append(cause)
    return chain


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def folder_fault() -> EnvironmentFault | None:
    """The fault of a process whose current folder was deleted; None where it is there."""
    try:
        Path.cwd()
    except OSError:
        return EnvironmentFault(f"{NO_FOLDER}.", hint=OTHER_FOLDER)
    return None
