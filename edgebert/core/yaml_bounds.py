"""Bounds on a YAML file: what its parser would need minutes for, and what it would drop in silence."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

MAX_VALUES = 20_000
MAX_DEPTH = 50
MAX_OPEN = 4 * MAX_DEPTH
"""Most brackets open at once, those in texts included."""
MAX_MARKS = 2 * MAX_VALUES
"""Most lines and commas."""
LARGEST = 10**18
BRACKETS = re.compile(r"[\[\]{}]")
PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("seq", "map", "str", "merge"))
Path_ = tuple[str | int, ...]


class UnusableValue(Exception):
    """A value that no setting can have."""

    def __init__(self, path: Path_, fault: str) -> None:
        """Takes the path to the value, and its fault, to follow the path."""
        super().__init__(fault)
        self.path = path


def require_small(text: str) -> None:
    """Raises OverflowError for a text that the parser would need minutes for: its time grows with the square of the nesting."""
    if text.count("\n") + text.count(",") > MAX_MARKS:
        raise OverflowError(f"more than {MAX_VALUES} values")
    depth = 0
    for mark in BRACKETS.finditer(text):
        depth += 1 if mark.group() in "[{" else -1
        if depth > MAX_OPEN:
            raise OverflowError("nested too deeply")


def refuse_tag(node: Any, path: Path_) -> None:
    """Raises UnusableValue for a value with a tag of its own (`!x [1]`), which means nothing here and would be dropped."""
    if isinstance(node, Set):
        raise UnusableValue(path, "is a set; write a list")
    tag = getattr(getattr(node, "tag", None), "value", None)
    if isinstance(tag, str) and tag not in PLAIN_TAGS:
        raise UnusableValue(path, f"has the tag {tag[:60]}, which means nothing here; leave it out")


def refuse_number(number: float, path: Path_) -> None:
    """Raises UnusableValue for a whole number that is too large for any setting, and for the programs that read it again."""
    if isinstance(number, int) and abs(number) >= LARGEST:
        raise UnusableValue(path, f"is a number of more than {len(str(LARGEST)) - 1} digits")
