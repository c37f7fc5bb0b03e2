"""Other processes, observed from outside."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: a container without an init keeps the ones that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def measuring(parent: int) -> set[int]:
    """Children of a process that measure latency."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return {int(line.split()[0]) for line in listed.stdout.splitlines() if "edgebert.measure.latency.worker" in line}


def wait_for(condition: Callable[[], Any]) -> Any:
    """Waits until a condition is true and returns its value. Fails after a minute, which is long even on a busy machine."""
    ends = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.02)
    return found
