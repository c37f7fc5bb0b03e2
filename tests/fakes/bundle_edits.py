"""Changes to a bundle's manifest, as somebody makes them who cannot sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgebert.bundle.manifest import MANIFEST
from edgebert.core.store import hash_file


def edited(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrites the manifest; whether that is signed is another matter."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def listed_again(bundle: Path, *changed: str) -> None:
    """Makes the manifest vouch for files as they are now."""
    entries = {name: {"sha256": hash_file(bundle / name), "size": (bundle / name).stat().st_size} for name in changed}
    edited(bundle, lambda manifest: manifest["files"].update(entries))
