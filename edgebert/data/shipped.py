"""Sets of sentences that come with edgebert, one in each of some languages: `path: shipped://sentences-de` in a recipe."""

from __future__ import annotations

from pathlib import Path

from edgebert.core.files import shipped_folder

SCHEME = "shipped://"
FILE = "sentences.txt"
AS_TEXT = {"header": "none", "columns": {"text": "1"}}
"""How such a file is read: a sentence a line."""


def is_shipped(path: object) -> bool:
    """Whether a recipe's path names a set that comes with edgebert."""
    return isinstance(path, str) and path.startswith(SCHEME)


def shipped_sets() -> tuple[str, ...]:
    """Names of all sets, from a to z."""
    return tuple(sorted(file.parent.name for file in shipped_folder("calibration").glob(f"*/{FILE}")))


def shipped_file(path: str) -> Path:
    """The file of a set.

    Raises:
        ValueError: there is no such set.
    """
    name = path.removeprefix(SCHEME)
    if name not in shipped_sets():
        raise ValueError(f"no set {name!r} comes with edgebert; there are {', '.join(shipped_sets())}")
    return shipped_folder("calibration") / name / FILE
