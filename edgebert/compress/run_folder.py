"""The run's output folder: written to a draft beside it and then replaced as a whole, so that it is never half-written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgebert.core.store import is_running, store_faults
from edgebert.errors import InputError

WRITTEN = {"run.json", "report.json", "bundle"}
"""Names of everything in a run folder."""


@contextlib.contextmanager
def output_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside the target; when the block ends well, it replaces the target.

    Raises:
        InputError: the target contains something that no run wrote.
        StoreError: the target cannot be written.
    """
    target = target.absolute()
    with store_faults(target, "--out"):
        if target.exists() and not is_run(target) and (not target.is_dir() or any(target.iterdir())):
            raise InputError(
                f"{target} exists and was not written by a run; it is left alone.", hint="Name another folder with --out."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        draft = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        draft.chmod(0o755)
        try:
            yield draft
            _replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def is_run(folder: Path) -> bool:
    """Whether a run wrote the folder, and everything in it."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return {path.name for path in folder.iterdir()} <= WRITTEN and {"recipe", "steps", "verdict"} <= set(record)
    except (OSError, ValueError, TypeError):
        return False


def _prefix(target: Path) -> str:
    """Prefix of the names of the drafts that this process makes for a target."""
    return f".{target.name}-{os.getpid()}-"


def _replace(draft: Path, target: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    with contextlib.suppress(FileNotFoundError):
        target.replace(old / "old")
    draft.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def sweep(target: Path) -> None:
    """Cleans up after runs that were killed: restores a folder that one had moved aside, and removes drafts."""
    if not target.parent.is_dir():
        return
    draft = re.compile(rf"\.{re.escape(target.name)}-(\d{{1,10}})-[^-]+")
    for leftover in sorted(target.parent.iterdir()):
        owner = draft.fullmatch(leftover.name)
        if owner is None or is_running(int(owner[1])):
            continue
        if (leftover / "old").is_dir() and not target.exists():
            (leftover / "old").replace(target)
        shutil.rmtree(leftover, ignore_errors=True)
