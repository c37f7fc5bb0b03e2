"""Lock: one agent at a time works in a root. The kernel releases the lock when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from edgebert.bundle.device_folder import LAYOUT, Root, check_marker
from edgebert.devices.agent.disk import draft_of, remove, sync, write_durably
from edgebert.devices.agent.switch import recover
from edgebert.errors import DeviceError, StoreError

PATIENCE_S = 10.0
"""How long to wait for the lock: an agent that lost its workstation may still be ending when the next request comes."""
RETRY_S = 0.1


@contextlib.contextmanager
def locked(root: Root, doing: str) -> Iterator[None]:
    """Holds the lock of the root.

    Args:
        doing: purpose, shown to another agent that wants the lock.

    Raises:
        DeviceError: another agent holds it.
        StoreError: the file system has no locks.
    """
    handle = os.open(root.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):
            os.fchmod(handle, 0o600)  # whoever may read it may hold it
        _take(handle, root)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": platform.node(), "doing": doing}).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(handle: int, root: Root) -> None:
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                reason = f"{root.lock} cannot be locked: {error.strerror}."
                raise StoreError(reason, hint="Name a root on a local disk.") from error
        else:
            return
        if time.monotonic() > ends:
            raise DeviceError(
                f"Another agent works in {root.folder}: {_holder(handle)}.",
                hint="Wait until it has ended, or end it on the device; then ship again.",
            )
        time.sleep(RETRY_S)


def _holder(handle: int) -> str:
    try:
        held = json.loads(os.pread(handle, 4096, 0))
        host = str(held.get("host", platform.node()))[:80]
        where = "" if host == platform.node() else f" of {host}"  # another container's, in which numbers are others
        return f"process {int(held['pid'])}{where}, {str(held['doing'])[:80]}"
    except (ValueError, KeyError, TypeError):
        return "it does not say which"


@contextlib.contextmanager
def at_work(root: Root, doing: str) -> Iterator[None]:
    """Makes the root where it does not exist, locks it, and undoes what a killed agent left half done.

    Raises:
        DeviceError: the folder holds something else, or another agent holds the lock.
        StoreError: it cannot be locked.
        OSError: it cannot be written.
    """
    check_marker(root)
    root.folder.mkdir(parents=True, exist_ok=True)
    with locked(root, doing):
        _make(root)
        recover(root)
        _sweep(root)
        yield


def _make(root: Root) -> None:
    for folder in (root.slots, root.incoming, root.reports):
        folder.mkdir(exist_ok=True)
    if not check_marker(root):
        write_durably(root.marker, json.dumps({"layout": LAYOUT}) + "\n")
        sync(root.folder.parent)


def _sweep(root: Root) -> None:
    remove(root.staging)
    for folder in (root.folder, root.incoming, root.reports):
        for draft in folder.glob(draft_of(Path("*")).name):
            remove(draft)
