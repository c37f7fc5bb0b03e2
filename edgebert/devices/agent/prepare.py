"""Makes a root ready for work, and clears away what agents left that were killed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from edgebert.bundle.device_folder import LAYOUT, Root, check_marker
from edgebert.devices.agent.durable import draft_of, sync, write_durably
from edgebert.devices.agent.lock import locked
from edgebert.devices.agent.remove import remove
from edgebert.devices.agent.switch import recover


@contextlib.contextmanager
def at_work(root: Root, doing: str) -> Iterator[None]:
    """Holds the root, made where it is not there, as the last request that came to its end left it.

    Raises:
        DeviceError: the folder is something else, or another agent holds it.
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
