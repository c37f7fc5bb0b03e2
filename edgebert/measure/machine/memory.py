"""Memory of this process."""

from __future__ import annotations

import contextlib
from pathlib import Path

PROCESS = Path("/proc/self")


def peak_rss() -> int | None:
    """Largest resident memory of this process, in bytes; None where the system does not say.

    From VmHWM: `getrusage` would report the parent's peak, which a child inherits across exec on Linux.
    """
    return _field(PROCESS / "status", "VmHWM:")


def forget_peak() -> None:
    """Resets the peak to the memory resident now, where the system allows it (kernel doc: filesystems/proc.rst, clear_refs)."""
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")


def pss() -> int | None:
    """Proportional set size of this process, in bytes: pages that others share count by their share (proc(5), smaps_rollup).

    None where the system does not say.
    """
    return _field(PROCESS / "smaps_rollup", "Pss:")


def _field(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    line = next((line for line in lines if line.startswith(name)), None)
    return int(line.split()[1]) * 1024 if line else None
