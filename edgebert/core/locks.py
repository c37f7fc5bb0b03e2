"""Locks that the kernel holds. They end with the process that took them, however it ends, and they hold across containers that
share a folder, where the number of a process says nothing: in a container, edgebert is always process 1."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from edgebert.errors import StoreError

BUSY = (errno.EAGAIN, errno.EACCES)
"""What flock(2) reports where somebody else holds the lock."""
LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""What it reports on a file system without locks, such as a network share whose lock service does not run."""


class HeldElsewhere(Exception):
    """Somebody else holds the lock."""


def take(path: Path, *, shared: bool = False, wait: bool = True) -> int:
    """Makes the file where there is none, and locks it.

    Args:
        shared: others may hold it too, as long as all of them share it.
        wait: wait for those who hold it.

    Returns:
        The descriptor that holds the lock until it is closed.

    Raises:
        HeldElsewhere: somebody holds it, and `wait` is False.
        StoreError: the file system has no locks.
        OSError: the file cannot be opened.
    """
    while True:
        descriptor = _opened(path)
        try:
            _lock(descriptor, path, shared=shared, wait=wait)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it before has removed the file: a lock on it would exclude nobody


def _opened(path: Path) -> int:
    """Opens a lock's file, for reading alone where another user made it: flock(2) needs no more on a disk of this machine."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        raise


def _lock(descriptor: int, path: Path, *, shared: bool, wait: bool) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in BUSY and not wait:
            raise HeldElsewhere from error
        if error.errno in LOCKLESS:
            raise StoreError(
                f"{path} cannot be locked: {error.strerror}.",
                hint=f"Without locks, two runs could destroy each other's work: name a folder elsewhere than {path.parent}.",
            ) from error
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True, passing: bool = False) -> Iterator[None]:
    """Holds the lock of a file; see `take`.

    Args:
        passing: whether the file is removed at the end, for locks that nobody looks for later.
    """
    descriptor = take(path, shared=shared, wait=wait)
    try:
        yield
    finally:
        if passing:
            path.unlink(missing_ok=True)  # while it is held: see `_is_at`
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock of a file alone; not where there is no such file.

    It asks for a share, and makes no file: those who ask at the same time do not take each other for a holder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:  # another user's, who may be at work
        return True
    try:
        _lock(descriptor, path, shared=True, wait=False)
    except HeldElsewhere:
        return True
    finally:
        os.close(descriptor)
    return False
