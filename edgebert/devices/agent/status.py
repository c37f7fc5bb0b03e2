"""Status: what serves on the device, and what could."""

from __future__ import annotations

import os

from edgebert.bundle.device_folder import SLOTS, Root, SlotName, check_marker
from edgebert.bundle.manifest import MANIFEST
from edgebert.core.store import hash_file
from edgebert.devices.agent.protocol import Slot, Status
from edgebert.devices.agent.record import Record, read_record
from edgebert.devices.agent.slot_check import check_slot
from edgebert.errors import BundleError, EdgebertError

UNKNOWN = "unknown"
NO_CONTENT = "0" * 64
"""In the place of a hash where there is no file."""


def read_status(root: Root, *, thorough: bool = False) -> Status:
    """Looks at a root without touching it; one that is not there yet serves nothing.

    Raises:
        DeviceError: the folder is something else.
    """
    check_marker(root)
    filled = [name for name in SLOTS if os.path.lexists(root.slot(name)) or os.path.lexists(root.record(name))]
    slots = tuple(_slot(root, name, thorough) for name in filled)
    return Status(root=str(root.folder), serving=root.serving(), slots=slots)


def _slot(root: Root, name: SlotName, thorough: bool) -> Slot:
    fault = None
    try:
        check_slot(root, name, thorough=thorough)
    except EdgebertError as error:
        fault = error.message
    except OSError as error:
        fault = f"{error.filename or root.slot(name)} cannot be read: {error.strerror}."
    record = _record(root, name)
    return Slot(slot=name, **record.model_dump(exclude={"schema_version"}), fault=fault)


def _record(root: Root, name: SlotName) -> Record:
    """The slot's own, else what can be told without it."""
    try:
        return read_record(root, name)
    except BundleError:
        try:
            manifest = hash_file(root.slot(name) / MANIFEST)
        except OSError:
            manifest = NO_CONTENT
        return Record(bundle=UNKNOWN, manifest=manifest, variant=UNKNOWN, p50_ms=None, signed_by=UNKNOWN, installed=UNKNOWN)
