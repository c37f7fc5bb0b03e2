"""Paths that a user wrote, on the command line or in a recipe."""

from __future__ import annotations

from pathlib import Path

from edgebert.errors import InputError

SHOWN_CHARACTERS = 80


def local_path(text: str, base: Path) -> Path:
    """The path, absolute; a relative one counts from `base`.

    Raises:
        InputError: the system refuses it: too long, or `~` of a user that is not there.
    """
    try:
        path = (base / Path(text).expanduser()).resolve()
        path.exists()  # raises where the name is too long
    except (OSError, RuntimeError, ValueError) as error:
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
        raise InputError(f"{shown} is not a path that can be used here: {getattr(error, 'strerror', None) or error}") from error
    return path
