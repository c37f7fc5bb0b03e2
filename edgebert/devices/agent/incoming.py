"""Incoming: receives contents. One that was cut off stays as `.part`; the next shipment appends to it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from edgebert.bundle.device_folder import Root
from edgebert.core.store import hash_file
from edgebert.devices.agent import contents
from edgebert.devices.agent.contents import check_files, sizes_of
from edgebert.devices.agent.disk import MARGIN, fault, free_bytes, remove, require, sync, write_durably
from edgebert.devices.agent.protocol import Have, Held, Piece, Receive, Received
from edgebert.devices.agent.wire import EventLines, StandardInput
from edgebert.errors import DeviceError, DeviceLost

LEFT = "left.json"
"""File with the name and size of everything that lay here after the last installation."""


def whole(root: Root, sha256: str) -> Path:
    """Path of a content that has arrived."""
    return root.incoming / sha256


def part(root: Root, sha256: str) -> Path:
    """Path of a content that has arrived in part."""
    return root.incoming / f"{sha256}.part"


def have(root: Root, request: Have) -> Held:
    """Bytes of each requested content on the device; every complete one is read and hashed."""
    sizes = sizes_of(tuple(check_files(request.files).values()))
    arrived = {sha256: count for sha256, size in sizes.items() if (count := _arrived(root, sha256, size)) is not None}
    lacking = {sha256: size for sha256, size in sizes.items() if arrived.get(sha256) != size}
    held = {**arrived, **{sha256: sizes[sha256] for sha256 in contents.in_slots(root, lacking)}}
    to_come = sum(size - held.get(sha256, 0) for sha256, size in sizes.items())
    if to_come + MARGIN > free_bytes(root.incoming):
        _drop_others(root, sizes)
    return Held(bytes_there=held)


def _arrived(root: Root, sha256: str, size: int) -> int | None:
    """Bytes of a content in `incoming`, None for none. Wrong files are removed."""
    if contents.holds(whole(root, sha256), sha256, size):
        return size
    remove(whole(root, sha256))
    begun = contents.regular_size(part(root, sha256))
    if begun and begun < size:
        return begun
    if begun == size and _finish(root, sha256):
        return size
    remove(part(root, sha256))
    return None


def receive(root: Root, request: Receive, body: StandardInput, events: EventLines) -> None:
    """Receives the pieces, one after the other. Complete contents are kept, whatever happens to the others.

    Raises:
        DeviceLost: the body ended early; the bytes that arrived are kept.
        DeviceError: a content arrived damaged, does not continue its part here, or more bytes came than were announced.
        StoreError: the disk is full; the bytes that arrived are kept.
    """
    _check_pieces(request.pieces)
    total = sum(piece.size - piece.offset for piece in request.pieces)
    require(root.incoming, total)
    faults: list[str] = []
    with events.step("receive", total) as step:
        for piece in request.pieces:
            problem = _write_piece(root, piece, _counted(body, piece, step.advance))
            if problem:
                faults.append(problem)
                events.note(problem)
            else:
                events.send(Received(sha256=piece.sha256))
    if body.goes_on():
        raise DeviceError("More bytes came than were announced; what was announced has arrived whole.", hint="Ship again.")
    if faults:
        raise DeviceError(
            f"{len(faults)} of {len(request.pieces)} contents did not arrive whole: {faults[0]}",
            hint="Ship again: only these are sent anew.",
        )


def _check_pieces(pieces: Collection[Piece]) -> None:
    if len({piece.sha256 for piece in pieces}) < len(pieces):
        raise DeviceError("A content is announced twice in one request.")
    if strange := next((piece for piece in pieces if piece.offset > piece.size), None):
        raise DeviceError(f"{strange.sha256[:12]} is announced with an offset behind its end.")


def _counted(body: StandardInput, piece: Piece, advance: Callable[[float], None]) -> Iterator[bytes]:
    """Blocks of one piece, each reported to `advance`.

    Raises:
        DeviceLost: the body ended before the piece did.
    """
    left = piece.size - piece.offset
    for block in body.read(left):
        left -= len(block)
        yield block
        advance(len(block))
    if left:
        raise DeviceLost(
            f"The connection ended {left} bytes before the end of {piece.sha256[:12]}.",
            hint="Ship again: it goes on from there.",
        )


def _write_piece(root: Root, piece: Piece, blocks: Iterator[bytes]) -> str | None:
    """Writes one piece into its file. Returns the fault of a bad one, whose bytes are skipped: the next piece follows them."""
    path = part(root, piece.sha256)
    present = contents.regular_size(path)
    if present is None:
        remove(path)
    if piece.offset > (present or 0):
        for _ in blocks:
            pass
        return f"{piece.sha256[:12]} goes on at byte {piece.offset}, but {present or 0} bytes of it are here."
    left = piece.size - piece.offset
    try:
        with path.open("ab") as file:
            file.truncate(piece.offset)
            for block in blocks:
                file.write(block)
                left -= len(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise fault(error, root.incoming, missing=max(left - free_bytes(root.incoming), 1)) from error
    if not _finish(root, piece.sha256):
        return f"{piece.sha256[:12]} arrived with another content, and was removed."
    return None


def _finish(root: Root, sha256: str) -> bool:
    """Renames a part of full length to its final name; removes it where the hash is wrong. Returns whether it was right."""
    path = part(root, sha256)
    try:
        right = hash_file(path) == sha256
    except OSError:
        right = False
    if right:
        path.replace(whole(root, sha256))
        sync(root.incoming)
    else:
        remove(path)
    return right


def _drop_others(root: Root, keep: Collection[str]) -> None:
    """Makes room: removes the contents of other bundles."""
    for file in root.incoming.iterdir():
        if file.name.partition(".")[0] not in keep:
            remove(file)


def clear(root: Root, used: Collection[str]) -> None:
    """Cleans up after an installation: removes the contents that it used, and those that lay here after the previous
    installation and have not grown since."""
    for sha256 in used:
        remove(whole(root, sha256))
        remove(part(root, sha256))
    before = _left(root)
    now = {file.name: file.lstat().st_size for file in root.incoming.iterdir() if file.name != LEFT}
    for name in [name for name, size in now.items() if before.get(name) == size]:
        remove(root.incoming / name)
        del now[name]
    write_durably(root.incoming / LEFT, json.dumps(now) + "\n")


def _left(root: Root) -> dict[str, int]:
    try:
        left = json.loads((root.incoming / LEFT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return left if isinstance(left, dict) else {}
