"""Changes of files, by a seed: values of parsed files, bytes, and what is no file at all."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANY = 100_000
"""Depth or length that no real file has."""


@dataclass(frozen=True)
class Mutation:
    """A change of files, and whether what was changed must be refused."""

    name: str
    change: Callable[[Path, random.Random], object]
    must_refuse: bool = False


def nested(depth: int) -> str:
    """Lists in lists, as JSON or YAML."""
    return "[" * depth + "]" * depth


def values(draw: random.Random) -> Any:
    """A value that no reader expects."""
    return draw.choice(
        (None, True, -1, 0, 10**10, 10**309, -1e308, float("nan"), "", "x" * 10_000, "\x00", "../../etc/passwd", [], {}, [[[]]])
    )


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values of a parsed file."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from nodes(item, (*path, key))


def change_value(tree: Any, draw: random.Random) -> str:
    """Replaces, drops, renames or doubles one value. Returns what was done."""
    path = draw.choice(list(nodes(tree)))
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    how = draw.choice(("replace", "replace", "replace", "drop", "rename"))
    if how == "replace":
        holder[path[-1]] = value = values(draw)
        return f"{'.'.join(map(str, path))} = {value!r:.30}"
    item = holder.pop(path[-1])
    if how == "rename" and isinstance(holder, dict):
        holder[f"{path[-1]}_"] = item
    return f"{how} {'.'.join(map(str, path))}"


def in_json(name: str) -> Callable[[Path, random.Random], str]:
    """Changes a value of a JSON file."""
    return _in_parsed(name, json.loads, json.dumps)


def in_yaml(name: str) -> Callable[[Path, random.Random], str]:
    """Changes a value of a YAML file."""
    import yaml

    return _in_parsed(name, yaml.safe_load, yaml.safe_dump)


def _in_parsed(name: str, read: Callable[[str], Any], write: Callable[[Any], str]) -> Callable[[Path, random.Random], str]:
    def change(folder: Path, draw: random.Random) -> str:
        tree = read((folder / name).read_text())
        done = change_value(tree, draw)
        (folder / name).write_text(write(tree))
        return done

    return change


def in_bytes(name: str) -> Callable[[Path, random.Random], str]:
    """Flips bits of a file, shortens it, doubles or zeroes a piece, or puts random bytes into it."""

    def change(folder: Path, draw: random.Random) -> str:
        file = folder / name
        content = bytearray(file.read_bytes())
        at = draw.randrange(len(content))
        how = draw.choice(("flip", "cut", "double", "zero", "insert", "empty"))
        piece = slice(at, at + draw.randint(1, 200))
        if how == "flip":
            content[at] ^= 1 << draw.randrange(8)
        elif how == "zero":
            content[piece] = bytes(1 + len(content[piece]))
        elif how == "double":
            content[at:at] = content[piece]
        elif how == "insert":
            content[at:at] = draw.randbytes(20)
        else:
            del content[at if how == "cut" else 0 :]
        file.write_bytes(content)
        return f"{how} at {at}"

    return change


def replaced(name: str, content: str | bytes) -> Callable[[Path, random.Random], object]:
    """Another content of a file."""
    return lambda folder, draw: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def special(name: str) -> Callable[[Path, random.Random], str]:
    """Puts what is no file in the position of a file."""

    def change(folder: Path, draw: random.Random) -> str:
        file, how = (
            folder / name,
            draw.choice(("pipe", "folder", "link to itself", "link to /dev/zero", "link to nothing", "no rights")),
        )
        if how == "no rights":
            file.chmod(0)
            return how
        file.unlink()
        if how == "pipe":
            os.mkfifo(file)
        elif how == "folder":
            file.mkdir()
        else:
            file.symlink_to({"link to itself": name, "link to /dev/zero": "/dev/zero"}.get(how, "nothing"))
        return how

    return change
