"""What bench was told, as its report keeps it: for others to read, so without the folders that files lie in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

NAMES_A_PATH = re.compile(r"(log:|--[a-z-]+=(?:log:)?)?(.*)", re.DOTALL)
"""`log:FILE` and `--out=FILE` name a path after what they say of it."""


NO_PATHS = ("--variant", "--baseline-variant")
"""Options whose values have slashes and are names."""


def command_line(arguments: Sequence[str]) -> str:
    """The command as a shell reads it; of a path only its last part, for folders tell who works where."""
    before = ["", *arguments[:-1]]
    kept = [part if last in NO_PATHS else _without_folders(part) for last, part in zip(before, arguments, strict=True)]
    return shlex.join(["edgebert", *kept])


def _without_folders(argument: str) -> str:
    if argument.startswith(tuple(f"{option}=" for option in NO_PATHS)):
        return argument
    found = NAMES_A_PATH.fullmatch(argument)
    assert found  # it matches anything
    return (found[1] or "") + found[2].rstrip("/").rpartition("/")[2] if "/" in found[2] else argument
