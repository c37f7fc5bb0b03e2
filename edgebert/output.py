"""The run's output folder: built aside, put in place as a whole, so that nothing half-written is ever there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgebert.artifact import is_running, store_faults
from edgebert.errors import InputError

MARK = "run.json"


@contextlib.contextmanager
def output_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside the target; when the block ends well, it replaces the target.

    Raises:
        InputError: the target holds something that no run wrote.
        StoreError: the place cannot be written.
    """
    target = target.absolute()
    with store_faults(target, "--out"):
        if target.exists() and not (target / MARK).is_file() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(
                f"{target} exists and was not written by a run; it is left alone.", hint="Name another folder with --out."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-{os.getpid()}-", dir=target.parent))
        draft.chmod(0o755)
        try:
            yield draft
            _replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            sweep(target)


def _replace(draft: Path, target: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-{os.getpid()}-", dir=target.parent))
    with contextlib.suppress(FileNotFoundError):
        target.replace(old / "old")
    draft.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def sweep(target: Path) -> None:
    """Removes the drafts of runs that were killed."""
    for leftover in target.parent.glob(f".{target.name}-*-*"):
        owner = leftover.name.removeprefix(f".{target.name}-").split("-")[0]
        if owner.isdigit() and not is_running(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)
