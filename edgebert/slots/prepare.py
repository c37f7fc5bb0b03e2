"""Makes a root ready for work, and clears away what agents left that were killed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from edgebert.slots.durable import sync, write_durably
from edgebert.slots.lock import locked
from edgebert.slots.remove import remove
from edgebert.slots.root import LAYOUT, Root, check_marker
from edgebert.slots.switch import recover


@contextlib.contextmanager
def at_work(root: Root, doing: str) -> Iterator[None]:
    """Holds the root, made where it is not there, as the last request that came to its end left it.

    Raises:
        DeviceError: the folder is something else, or another agent holds it.
        StoreError: it cannot be locked.
        OSError: it cannot be written.
    """
    _make(root)
    with locked(root, doing):
        recover(root)
        remove(root.staging)
        yield


def _make(root: Root) -> None:
    marked = check_marker(root)
    for folder in (root.folder, root.slots, root.incoming, root.reports):
        folder.mkdir(parents=True, exist_ok=True)
    if not marked:
        write_durably(root.marker, json.dumps({"layout": LAYOUT}) + "\n")
        sync(root.folder.parent)
