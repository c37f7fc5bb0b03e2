"""Processes that measure, seen from outside."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie, as what nobody waits for stays in a container without an init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def measuring(parent: int) -> set[int]:
    """Processes that measure, of that one."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return {int(line.split()[0]) for line in listed.stdout.splitlines() if "edgebert.measure.latency.worker" in line}


def wait_for(condition: Callable[[], Any]) -> Any:
    """What the condition gives as soon as it is true; 30 seconds at most."""
    ends = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.02)
    return found
