"""Where the report goes: checked before anything is measured, for what took long must not be lost at the end."""

from __future__ import annotations

import os
from pathlib import Path

from edgebert.errors import InputError
from edgebert.manifest import MANIFEST
from edgebert.paths import local_path
from edgebert.progress import Progress
from edgebert.report_file import read_report


def check_out(path: Path, progress: Progress, *, force: bool) -> None:
    """Raises InputError where the report cannot be written, or would take the place of something else."""
    folder = local_path(str(path), Path.cwd()).parent
    if path.is_dir():
        raise InputError(f"{path} is a folder.", hint=f"Name a file in it: --out {path / 'bench.json'}")
    if inside := next((parent for parent in path.absolute().parents if (parent / MANIFEST).is_file()), None):
        raise InputError(f"{path} lies in the bundle {inside}, which holds only what its manifest lists.", hint="Use --out.")
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"{path} cannot be written: {existing} does not let it.", hint="Name another place with --out.")
    if not path.exists() or force:
        return
    if not _is_ours(path):
        raise InputError(f"{path} is there already, and bench did not write it.", hint="Name another --out, or add --force.")
    progress.note(f"{path} is there already: it is replaced when the measurements are done")


def _is_ours(path: Path) -> bool:
    try:
        return all(entry.stage == "bench" for entry in read_report(path).entries)
    except InputError:
        return False
