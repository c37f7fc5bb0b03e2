"""Bundles that are made of a small one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.trust.sign import sign_bundle
from edgebert.core.store import hash_folder
from edgebert.report.file import read_report, write_report
from edgebert.report.gates import Gate

INT8 = "onnx/model_quantized.onnx"


def other_labels(bundle: Path, place: Path, labels: tuple[str, ...] = ("minus", "plus")) -> Path:
    """A bundle that answers with other words, and tells by it which of the two serves."""
    made = Path(shutil.copytree(bundle, place))
    manifest = json.loads((made / MANIFEST).read_text())
    manifest["labels"] = list(labels)
    (made / MANIFEST).write_text(json.dumps(manifest))
    return signed(made)


def other_variant(bundle: Path, place: Path) -> Path:
    """A bundle whose INT8 graph is another file, which answers as the old one does."""
    import onnx

    made = Path(shutil.copytree(bundle, place))
    graph = onnx.load(made / INT8)
    graph.doc_string = "made again"
    onnx.save(graph, made / INT8)
    return signed(made)


def other_gate(bundle: Path, place: Path, gate: Gate) -> Path:
    """A bundle with one gate."""
    made = Path(shutil.copytree(bundle, place))
    report = read_report(made / "report.json")
    write_report(made / "report.json", report.model_copy(update={"gates": (gate,)}))
    return signed(made)


def signed(bundle: Path) -> Path:
    """Has the manifest list the files as they are, and signs it with this user's key."""
    (bundle / "edgebert.sig").unlink(missing_ok=True)
    manifest = json.loads((bundle / MANIFEST).read_text())
    files = hash_folder(bundle)
    manifest["files"] = {name: entry.model_dump() for name, entry in files.items() if name != MANIFEST}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    sign_bundle(bundle)
    return bundle


def lean(bundle: Path, place: Path) -> Path:
    """A bundle with the selected variant alone: half as long to try."""
    made = Path(shutil.copytree(bundle, place))
    manifest = json.loads((made / MANIFEST).read_text())
    for variant in manifest["variants"]:
        if variant["name"] != manifest["selected"]:
            (made / variant["file"]).unlink()
    manifest["variants"] = [variant for variant in manifest["variants"] if variant["name"] == manifest["selected"]]
    (made / MANIFEST).write_text(json.dumps(manifest))
    return signed(made)
