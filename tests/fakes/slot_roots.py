"""Device folders for tests, filled without an agent."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from edgebert.bundle.device_folder import LAYOUT, Root, SlotName
from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.read import read_manifest
from edgebert.bundle.trust.sign import sign_bundle
from edgebert.core.store import hash_folder
from edgebert.devices.agent.record import Record
from edgebert.devices.agent.switch import make_link, turn


def make_root(folder: Path) -> Root:
    """One where nothing serves yet."""
    root = Root(folder)
    root.slots.mkdir(parents=True)
    root.marker.write_text(json.dumps({"layout": LAYOUT}))
    return root


def fill(root: Root, slot: SlotName, bundle: Path, variant: str | None = None) -> Path:
    """Puts a copy of a bundle into a slot, in the place of what is there, as the choice of one of its variants."""
    made, old = root.folder / "made", root.folder / "old"
    shutil.copytree(bundle, made)
    if root.slot(slot).exists():
        root.slot(slot).rename(old)
    made.rename(root.slot(slot))
    shutil.rmtree(old, ignore_errors=True)
    manifest = read_manifest(bundle)
    record = Record(
        bundle=manifest.name,
        manifest=hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest(),
        variant=variant or manifest.selected,
        p50_ms=None,
        signed_by="unsigned",
        installed="2026-11-26T00:00:00+00:00",
    )
    root.record(slot).write_text(record.model_dump_json())
    return root.slot(slot)


def switch(root: Root, slot: SlotName) -> None:
    """Has a slot serve."""
    link = root.folder / "link"
    make_link(link, slot)
    turn(root, link)


def with_labels(bundle: Path, place: Path, *labels: str) -> Path:
    """A signed copy that answers with other words."""
    shutil.copytree(bundle, place)
    manifest = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps({**manifest, "labels": labels}))
    return signed(place)


def signed(bundle: Path) -> Path:
    """Has the manifest list the files as they are, and signs it with this user's key."""
    (bundle / "edgebert.sig").unlink(missing_ok=True)
    manifest = json.loads((bundle / MANIFEST).read_text())
    files = {name: entry.model_dump() for name, entry in hash_folder(bundle).items() if name != MANIFEST}
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    sign_bundle(bundle)
    return bundle
