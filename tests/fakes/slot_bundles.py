"""Small signed bundles for devices: FP32 and one INT8 graph for ONNX Runtime, 0.2 MB, and others made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compressed_run import compressed_run

from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.trust.sign import sign_bundle
from edgebert.core.store import hash_folder
from edgebert.report.file import read_report, write_report
from edgebert.report.gates import Gate

INT8 = "onnxruntime/int8-dynamic"
FP32 = "onnxruntime/fp32"


def small_bundle(model: Path) -> Path:
    """Made once of a model folder of the session. Do not write into it."""
    return compressed_run(model) / "bundle"


def changed(bundle: Path, place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A signed copy whose manifest was changed."""
    made = Path(shutil.copytree(bundle, place))
    return resigned(made, change)


def resigned(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> Path:
    """Lists the files as they are, changes the manifest, and signs it with this user's key."""
    (bundle / "edgebert.sig").unlink(missing_ok=True)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"] = {name: entry.model_dump() for name, entry in hash_folder(bundle).items() if name != MANIFEST}
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    sign_bundle(bundle)
    return bundle


def named(bundle: Path, place: Path, name: str) -> Path:
    """The same under another name: another bundle, whose other files are known."""
    return changed(bundle, place, lambda manifest: manifest.update(name=name))


def gated(bundle: Path, place: Path, *gates: Gate) -> Path:
    """The same with other gates."""
    made = Path(shutil.copytree(bundle, place))
    report = read_report(made / "report.json")
    write_report(made / "report.json", report.model_copy(update={"gates": gates}))
    return resigned(made)


def variant(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """One of a manifest's variants."""
    return next(item for item in manifest["variants"] if item["name"] == name)
