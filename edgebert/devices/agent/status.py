"""Status: describes the device, says which slot serves, and checks whether a slot could."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edgebert.bundle.device_folder import SLOTS, Root, SlotName, check_marker
from edgebert.bundle.manifest import MANIFEST, BundleManifest, ManifestEntry
from edgebert.bundle.read import read_bundle, read_manifest
from edgebert.bundle.self_test import obstacle
from edgebert.bundle.trust.config import trusted_fingerprints
from edgebert.core.packages import package_version
from edgebert.core.store import hash_file
from edgebert.devices.agent.contents import regular_size
from edgebert.devices.agent.disk import free_bytes
from edgebert.devices.agent.protocol import PROTOCOL, About, Kind, Slot, Status
from edgebert.devices.agent.record import SHIP_AGAIN, Record, read_record
from edgebert.errors import BundleError, EdgebertError, EnvironmentFault
from edgebert.measure.machine.environment import read_environment
from edgebert.runtimes import RUNTIMES
from edgebert.tasks import get_task
from edgebert.version import __version__

UNKNOWN = "unknown"
NO_CONTENT = "0" * 64
"""Stands for the hash of a missing file."""


def read_status(root: Root, *, thorough: bool = False) -> Status:
    """Reads the slots of a root and writes nothing; a root that does not exist serves nothing.

    Raises:
        DeviceError: the folder holds something else.
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
    """The slot's record, else one made of what is known without it."""
    try:
        return read_record(root, name)
    except BundleError:
        try:
            manifest = hash_file(root.slot(name) / MANIFEST)
        except OSError:
            manifest = NO_CONTENT
        return Record(bundle=UNKNOWN, manifest=manifest, variant=UNKNOWN, p50_ms=None, signed_by=UNKNOWN, installed=UNKNOWN)


def read_about(root: Root) -> About:
    """Describes this machine and a root, which need not exist. Nothing is written.

    Raises:
        DeviceError: the folder holds something else, or was made by a newer edgebert.
        TrustError: the device's own trust.toml cannot be read.
    """
    check_marker(root)
    slot, environment = root.serving(), read_environment()
    return About(
        protocol=PROTOCOL,
        edgebert_version=__version__,
        python=platform.python_version(),
        machine=platform.machine(),
        cpu=environment.cpu,
        isas=environment.isa,
        runtimes={item.name: package_version(item.package) for item in RUNTIMES if item.available()},
        free_bytes=free_bytes(root.folder),
        trusted=trusted_fingerprints(),
        serving=hash_file(root.slot(slot) / MANIFEST) if slot else None,
    )


def read_kind(root: Root) -> Kind:
    """The kind of the model that serves. A bundle that is damaged is of none: it is replaced by whatever comes.

    Raises:
        DeviceError: the folder holds something else, or was made by a newer edgebert.
    """
    check_marker(root)
    slot = root.serving()
    try:
        return kind_of(read_manifest(root.slot(slot))) if slot else Kind()
    except BundleError:
        return Kind()


def kind_of(manifest: BundleManifest) -> Kind:
    """The kind of a bundle's models."""
    return Kind(
        bundle=manifest.name,
        task=manifest.task,
        inputs=manifest.inputs,
        labels=manifest.labels,
        options=get_task(manifest.task, manifest.task_options).options.of_answers(),
        made=manifest.made,
    )


def check_slot(root: Root, slot: SlotName, *, thorough: bool) -> ManifestEntry:
    """Checks the record, the manifest, and presence and size of every file; if thorough, also every byte and the signature.

    Returns:
        The variant that serves from the slot.

    Raises:
        BundleError: the slot could not serve.
        EnvironmentFault: its variant cannot run here any more.
    """
    folder = root.slot(slot)
    record = read_record(root, slot)
    manifest = read_bundle(folder) if thorough else _check_sizes(folder)
    if hash_file(folder / MANIFEST) != record.manifest:
        raise BundleError(f"The record of slot {slot} is of another bundle.", hint=SHIP_AGAIN)
    variant = manifest.variant(record.variant)
    if variant is None:
        raise BundleError(f"The bundle in slot {slot} has no variant {record.variant}.", hint=SHIP_AGAIN)
    if reason := obstacle(variant):
        raise EnvironmentFault(f"{variant.name} cannot run here any more: {reason}.", hint=SHIP_AGAIN)
    return variant


def _check_sizes(folder: Path) -> BundleManifest:
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        if regular_size(folder / name) != entry.size:
            raise BundleError(f"{folder / name} is missing or was altered.", hint=SHIP_AGAIN)
    return manifest
