"""Files: text written as a whole or not at all, paths as users write them, and the folders that ship with the package."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

from edgebert.errors import InputError


def write_whole(path: Path, text: str, *, option: str = "--out") -> None:
    """Writes the text beside the file and then replaces the file by it; into a device or a pipe directly.

    Args:
        option: the option that names the file, for the message.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8", newline="\n")
        else:
            _replace(Path(os.path.realpath(path)), text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", hint=f"Name another file with {option}.") from error


def _replace(path: Path, text: str) -> None:
    """`open` gives the draft the rights that the umask leaves, which a temporary file would not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".edgebert-{secrets.token_hex(8)}"
    try:
        with draft.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading. What is no file is not waited for: a pipe that nobody writes would never end.

    Raises:
        OSError: it cannot be opened, or is a pipe, a socket, a device or a folder, as `strerror` says.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"it is {KINDS.get(kind, 'something else')}, not a file", str(path))


def read_regular(path: Path) -> bytes:
    """Content of a file. Raises what `open_regular` raises."""
    with open_regular(path) as file:
        return file.read()


SHOWN_CHARACTERS = 80
"""Most characters of a path in a message."""


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


def shipped_folder(name: str) -> Path:
    """`recipes` or `calibration`: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def sentences() -> list[str]:
    """Varied English sentences, CC0; see calibration/sentences-en/manifest.json."""
    text = (shipped_folder("calibration") / "sentences-en" / "sentences.txt").read_text(encoding="utf-8")
    return text.splitlines()
