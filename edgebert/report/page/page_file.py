"""The page's file: written as a whole, and never over what is no page of ours."""

from __future__ import annotations

from pathlib import Path

from edgebert.core.atomic_write import write_whole
from edgebert.errors import InputError
from edgebert.report.page.page import GENERATOR

HEAD = 4096
"""Bytes at the beginning of a page that name its generator."""


def check_place(path: Path, *, force: bool) -> None:
    """Looks before the work whether a page may be written there.

    Raises:
        InputError: the place holds something else, or is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder.", hint=f"Name a file: --out {path / 'report.html'}")
    if path.exists() and not force and not is_page(path):
        raise InputError(
            f"{path} exists and is no page of edgebert; it is left alone.",
            hint="Name another file with --out, or overwrite it with --force.",
        )


def is_page(path: Path) -> bool:
    """Whether `edgebert report` wrote the file."""
    try:
        with path.open("rb") as file:
            return f'<meta name="generator" content="{GENERATOR}'.encode() in file.read(HEAD)
    except OSError:
        return False


def write_page(path: Path, text: str, *, force: bool = False) -> None:
    """Writes the page, or nothing.

    Raises:
        InputError: the place holds something else, or cannot be written.
    """
    check_place(path, force=force)
    write_whole(path, text)
