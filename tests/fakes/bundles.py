"""One small bundle, changed copies of bundles, signed or not, and device folders that hold them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import compress_recipe, write_recipe
from made_once import made_once

from edgebert.bundle.device_folder import LAYOUT, Root, SlotName
from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.read import read_manifest
from edgebert.bundle.trust.sign import sign_bundle
from edgebert.core.store import hash_file, hash_folder
from edgebert.devices.agent.record import Record
from edgebert.devices.agent.switch import make_link, turn
from edgebert.report.file import read_report, write_report
from edgebert.report.gates import Gate

FP32, INT8 = "onnxruntime/fp32", "onnxruntime/int8-dynamic"
"""The variants of the small bundle."""
INT8_FILE = "onnx/model_quantized.onnx"
"""The graph of its INT8 variant."""

Change = Callable[[dict[str, Any]], object]
"""Edits a manifest in place."""


def small_bundle(model: Path) -> Path:
    """A bundle with FP32 and INT8 for ONNX Runtime, 0.2 MB. It is made once of a model folder of the session, beside that.
    Do not write into it."""

    def make(folder: Path) -> None:
        compress_recipe(write_recipe(folder, model), "measure={rounds: 1, queries: 16, warmup: 1, golden_inputs: 2}")

    return made_once(model.parent / "small", make) / "runs" / "recipe" / "bundle"


def edited(bundle: Path, change: Change) -> None:
    """Changes the manifest as somebody does who cannot sign."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def listed_again(bundle: Path, *files: str) -> None:
    """Has the unsigned manifest list these files as they are now."""
    entries = {name: {"sha256": hash_file(bundle / name), "size": (bundle / name).stat().st_size} for name in files}
    edited(bundle, lambda manifest: manifest["files"].update(entries))


def signed(bundle: Path, change: Change = lambda manifest: None) -> Path:
    """Has the manifest list all files as they are now, changes it, and signs it with this user's key."""
    (bundle / "edgebert.sig").unlink(missing_ok=True)
    files = {name: entry.model_dump() for name, entry in hash_folder(bundle).items() if name != MANIFEST}
    edited(bundle, lambda manifest: manifest.update(files=files))
    edited(bundle, change)
    sign_bundle(bundle)
    return bundle


def changed(bundle: Path, target: Path, change: Change) -> Path:
    """A signed copy with another manifest."""
    return signed(Path(shutil.copytree(bundle, target)), change)


def renamed(bundle: Path, target: Path, name: str) -> Path:
    """A signed copy with another name: another bundle, of which a device has all files but the manifest."""
    return changed(bundle, target, lambda manifest: manifest.update(name=name))


def with_labels(bundle: Path, target: Path, negative: str = "minus", positive: str = "plus") -> Path:
    """A signed copy that answers with other words, which tell which of the two serves."""
    return changed(bundle, target, lambda manifest: manifest.update(labels=[negative, positive]))


def with_gates(bundle: Path, target: Path, *gates: Gate) -> Path:
    """A signed copy with other gates."""
    made = Path(shutil.copytree(bundle, target))
    report = read_report(made / "report.json")
    write_report(made / "report.json", report.model_copy(update={"gates": gates}))
    return signed(made)


def with_other_graph(bundle: Path, target: Path) -> Path:
    """A signed copy whose INT8 graph is another file with the same answers."""
    import onnx

    made = Path(shutil.copytree(bundle, target))
    graph = onnx.load(made / INT8_FILE)
    graph.doc_string = "made again"
    onnx.save(graph, made / INT8_FILE)
    return signed(made)


def with_selected_alone(bundle: Path, target: Path) -> Path:
    """A signed copy that holds the selected variant alone, which a device tries in half the time."""
    made = Path(shutil.copytree(bundle, target))
    variants = json.loads((made / MANIFEST).read_text())["variants"]
    selected = read_manifest(made).selected
    for item in variants:
        if item["name"] != selected:
            (made / item["file"]).unlink()
    return signed(made, lambda manifest: manifest.update(variants=[variant(manifest, selected)]))


def variant(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """A variant of a manifest."""
    return next(item for item in manifest["variants"] if item["name"] == name)


def make_root(folder: Path) -> Root:
    """A device folder where nothing serves yet."""
    root = Root(folder)
    root.slots.mkdir(parents=True)
    root.marker.write_text(json.dumps({"layout": LAYOUT}))
    return root


def fill(root: Root, slot: SlotName, bundle: Path, variant: str | None = None) -> Path:
    """Replaces a slot by a copy of a bundle, with one of its variants as the choice; the selected one if none is named."""
    made, old = root.folder / "made", root.folder / "old"
    shutil.copytree(bundle, made)
    if root.slot(slot).exists():
        root.slot(slot).rename(old)
    made.rename(root.slot(slot))
    shutil.rmtree(old, ignore_errors=True)
    manifest = read_manifest(bundle)
    record = Record(
        bundle=manifest.name,
        manifest=hash_file(bundle / MANIFEST),
        variant=variant or manifest.selected,
        p50_ms=None,
        signed_by="unsigned",
        installed="2026-11-26T00:00:00+00:00",
    )
    root.record(slot).write_text(record.model_dump_json())
    return root.slot(slot)


def switch(root: Root, slot: SlotName) -> None:
    """Makes a slot the one that serves."""
    link = root.folder / "link"
    make_link(link, slot)
    turn(root, link)
