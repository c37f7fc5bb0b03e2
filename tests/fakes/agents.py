"""Requests to real agents, each a process of its own, and the shipping of bundles to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.store import hash_file

AGENT = (sys.executable, "-P", "-m", "edgebert.devices.agent.agent")
IMPATIENT = """
import runpy
import edgebert.devices.agent.lock as lock
lock.PATIENCE_S = 0.1
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""
QUICK = {"rounds": 1, "queries": 16, "warmup": 1}
DEBUG = "EDGEBERT_DEBUG"


@dataclass(frozen=True)
class Said:
    """The events that an agent wrote, its exit code and its standard error."""

    events: list[dict[str, Any]]
    code: int
    err: str

    @property
    def value(self) -> dict[str, Any]:
        """The value of the result. Fails if there is none."""
        assert self.events, self.err
        assert self.events[-1]["event"] == "result", self.events[-1]
        return dict(self.events[-1]["value"])

    @property
    def failure(self) -> dict[str, Any]:
        """The error event. Fails if there is none."""
        assert self.events, self.err
        assert self.events[-1]["event"] == "error", self.events[-1]
        return self.events[-1]


def ask(
    root: Path,
    op: str,
    body: bytes = b"",
    *,
    command: Sequence[str] = AGENT,
    env: Mapping[str, str] | None = None,
    **fields: Any,
) -> Said:
    """Sends a request to a fresh agent, and closes its standard input."""
    request = {"op": op, **({} if op == "pin" else {"root": str(root)}), **fields}
    return raw(json.dumps(request).encode() + b"\n" + body, command=command, env=env)


def raw(data: bytes, *, command: Sequence[str] = AGENT, env: Mapping[str, str] | None = None) -> Said:
    """Sends any bytes to a fresh agent."""
    environment = {name: value for name, value in os.environ.items() if name != DEBUG}
    done = subprocess.run(command, input=data, capture_output=True, check=False, env={**environment, **(env or {})})
    return Said([json.loads(line) for line in done.stdout.splitlines()], done.returncode, done.stderr.decode())


def files_of(bundle: Path) -> list[dict[str, Any]]:
    """The files of a bundle as requests name them."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    return [
        {"path": file.relative_to(bundle).as_posix(), "sha256": hash_file(file), "size": file.stat().st_size} for file in files
    ]


def send(root: Path, bundle: Path) -> int:
    """Has a device receive what it lacks of a bundle. Returns the bytes that were sent."""
    there = ask(root, "have", files=files_of(bundle)).value["bytes_there"]
    pieces, body = pieces_of(bundle, there)
    if pieces:
        ask(root, "receive", body, pieces=pieces).value  # noqa: B018 - it must be a result
    return len(body)


def pieces_of(bundle: Path, there: Mapping[str, int]) -> tuple[list[dict[str, Any]], bytes]:
    """The pieces to announce and the bytes to send if the device has this many bytes of each content."""
    pieces: list[dict[str, Any]] = []
    body = b""
    for item in files_of(bundle):
        offset = there.get(item["sha256"], 0)
        if item["sha256"] in {piece["sha256"] for piece in pieces} or (item["sha256"] in there and offset == item["size"]):
            continue
        pieces.append({"sha256": item["sha256"], "size": item["size"], "offset": offset})
        body += (bundle / item["path"]).read_bytes()[offset:]
    return pieces, body


def install(root: Path, bundle: Path, **options: Any) -> Said:
    """Has a device install what it received."""
    fields = {"device": "attic", "trial": QUICK, "files": files_of(bundle)}
    return ask(root, "install", **{**fields, **options})


def ship(root: Path, bundle: Path, **options: Any) -> Said:
    """Sends and installs a bundle."""
    send(root, bundle)
    return install(root, bundle, **options)


def tree(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, with its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hash_file(path)
    return found
