"""A progress that keeps its notes."""

from __future__ import annotations

from edgebert.core.progress import Silent


class Notes(Silent):
    """Shows nothing; `lines` has every note."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)
