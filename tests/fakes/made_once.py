"""What is expensive to make is made once in a run of tests, whichever of pytest-xdist's workers asks first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run of tests share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder, filled by `make` if nobody has filled it yet. Do not write into it.

    What fails is not kept: the next one who asks tries again, in an empty folder.
    """
    done = folder.with_name(f"{folder.name}.made")
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            done.touch()
    return folder
