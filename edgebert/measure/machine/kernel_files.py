"""Reads the kernel's files in /proc and /sys, below a root that tests choose. Values that the kernel does not have are None."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KernelFiles:
    """Reads below `root`. Nothing here raises: a file may be absent, forbidden, or fail as it is read."""

    root: Path = Path("/")

    def text(self, path: str) -> str | None:
        """Content of a file without the space around it; a device tree's strings end with NUL. None: it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip(" \t\r\n\0")
        except OSError:
            return None

    def number(self, path: str, base: int = 10) -> int | None:
        """Content of a file that holds one integer."""
        try:
            return int(self.text(path) or "", base)
        except ValueError:
            return None

    def lines(self, path: str) -> list[str]:
        """Lines of a file; none where it cannot be read."""
        return (self.text(path) or "").splitlines()

    def fields(self, path: str) -> dict[str, str]:
        """First word of each line, without a colon at its end -> the rest: cpu.stat, meminfo, vmstat, stat."""
        pairs = (line.split(None, 1) for line in self.lines(path))
        return {pair[0].rstrip(":"): pair[1] for pair in pairs if len(pair) == 2}

    def find(self, pattern: str) -> list[str]:
        """Paths that a pattern matches, in the order of their numbers: cpu2 before cpu10."""
        return sorted(glob.glob(pattern, root_dir=self.root), key=_natural)  # noqa: PTH207 - Path.glob may raise as it reads

    def numbers(self, pattern: str) -> list[int]:
        """The integers in all files that a pattern matches; those that cannot be read are left out."""
        return [value for path in self.find(pattern) if (value := self.number(path)) is not None]

    def cores(self, path: str) -> tuple[int, ...]:
        """Numbers of the cores in a list as the kernel writes it: `0-3,8`. Empty: none, or the kernel does not say."""
        return parse_cores(self.text(path) or "")


THIS_MACHINE = KernelFiles()


def parse_cores(text: str) -> tuple[int, ...]:
    """`0-3,8` -> 0, 1, 2, 3, 8; empty for a text that is no list of cores (kernel doc: cputopology.rst)."""
    if not re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", text.strip()):
        return ()
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return tuple(sorted({core for pair in ends for core in range(pair[0], pair[-1] + 1)}))


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]
