"""The recipes and small data sets that ship with edgebert."""

from __future__ import annotations

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """`recipes` or `calibration`: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def sentences() -> list[str]:
    """Varied English sentences, CC0; see calibration/sentences-en/manifest.json."""
    text = (shipped_folder("calibration") / "sentences-en" / "sentences.txt").read_text(encoding="utf-8")
    return text.splitlines()
