"""Whether a slot could serve: what is cheap to see, and what a load would check."""

from __future__ import annotations

from dataclasses import dataclass

from edgebert.bundle.device_folder import Root, SlotName
from edgebert.bundle.manifest import MANIFEST, BundleManifest, VariantEntry
from edgebert.bundle.read import read_bundle, read_manifest
from edgebert.bundle.self_test import obstacle
from edgebert.core.store import hash_file
from edgebert.devices.agent.contents import regular_size
from edgebert.devices.agent.record import Record, read_record
from edgebert.errors import BundleError, EnvironmentFault


@dataclass(frozen=True)
class Checked:
    """A slot that could serve."""

    record: Record
    manifest: BundleManifest
    variant: VariantEntry


def check_slot(root: Root, slot: SlotName, *, thorough: bool) -> Checked:
    """Looks at record, manifest, presence and sizes of all files; where it is to be thorough, at every byte and the signature.

    Raises:
        BundleError: it could not serve.
        EnvironmentFault: its variant cannot run here any more.
    """
    folder = root.slot(slot)
    record = read_record(root, slot)
    manifest = read_bundle(folder) if thorough else _looked_at(root, slot)
    if hash_file(folder / MANIFEST) != record.manifest:
        raise BundleError(f"The record of slot {slot} is of another bundle.", hint="Ship the bundle again.")
    variant = manifest.variant(record.variant)
    if variant is None:
        raise BundleError(f"The bundle in slot {slot} has no variant {record.variant}.", hint="Ship the bundle again.")
    if reason := obstacle(variant):
        raise EnvironmentFault(f"{variant.name} cannot run here any more: {reason}.", hint="Ship the bundle again.")
    return Checked(record, manifest, variant)


def _looked_at(root: Root, slot: SlotName) -> BundleManifest:
    folder = root.slot(slot)
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        if regular_size(folder / name) != entry.size:
            raise BundleError(f"{folder / name} is missing or was altered.", hint="Ship the bundle again.")
    return manifest
