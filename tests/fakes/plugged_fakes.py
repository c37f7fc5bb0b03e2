"""Runs the command line in fresh processes whose registries have fakes in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FAKES = Path(__file__).parent
Run = Callable[..., subprocess.CompletedProcess[str]]


def command_line(folder: Path, *lines: str) -> Run:
    """The command line, in a folder, with a store there.

    Args:
        lines: what a registry's tuple has besides: `module TUPLE module_of_the_fake ItsClass class|instance`.
    """
    environment = {
        **os.environ,
        "EDGEBERT_HOME": str(folder / "store"),
        "EDGEBERT_TEST_LINES": "\n".join(lines),
        "PYTHONPATH": os.pathsep.join(map(str, (FAKES / "plugged", FAKES))),
    }

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgebert", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
        assert done.returncode == code, f"{arguments}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done

    return run
