"""Payload: a bundle that is trusted here, as contents that can be sent, and a count of the bytes that were."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgebert.bundle.manifest import MANIFEST, BundleManifest
from edgebert.bundle.read import UNLISTED, read_bundle
from edgebert.bundle.trust.envelope import SIGNATURE, read_envelope
from edgebert.bundle.trust.policy import Signer, check_trust
from edgebert.core.store import hash_file
from edgebert.devices.agent.protocol import Advance, Note, Piece, Received, RequestedFile
from edgebert.devices.transport.base import Channel, OnEvent
from edgebert.errors import BundleError

CHUNK_BYTES = 64 * 1024
"""Bytes that are read and sent at a time."""


@dataclass(frozen=True)
class Payload:
    """A bundle that is shipped."""

    folder: Path
    manifest: BundleManifest
    signer: Signer
    files: tuple[RequestedFile, ...]
    """Every file: those that the manifest lists, the manifest and the signature."""
    key: str | None = None
    """Fingerprint of the key that signed it; None if it was not signed with a key."""

    @property
    def contents(self) -> dict[str, RequestedFile]:
        """sha256 -> one of the files with that content, which is sent once."""
        return {file.sha256: file for file in self.files}

    @property
    def size_bytes(self) -> int:
        """Bytes of all contents."""
        return sum(file.size for file in self.contents.values())

    @property
    def identity(self) -> str:
        """sha256 of the manifest, which names the bundle."""
        return next(file.sha256 for file in self.files if file.path == MANIFEST)

    def missing(self, bytes_there: Mapping[str, int]) -> tuple[Piece, ...]:
        """The pieces to send, small contents first, so that a short connection completes many of them.

        Args:
            bytes_there: sha256 -> bytes that the device claims to hold; wrong claims do no harm here.
        """
        offsets = {sha256: max(0, bytes_there.get(sha256, -1)) for sha256 in self.contents}
        pieces = [
            Piece(sha256=file.sha256, size=file.size, offset=offsets[file.sha256])
            for file in self.contents.values()
            # An empty content that the device does not name is absent too.
            if file.sha256 not in bytes_there or offsets[file.sha256] < file.size
        ]
        return tuple(sorted(pieces, key=lambda piece: (piece.size, piece.sha256)))

    async def body(self, pieces: Sequence[Piece], on_bytes: Callable[[int], None]) -> AsyncIterator[bytes]:
        """The bytes of the pieces, one after the other.

        Args:
            on_bytes: called with the size of every chunk before it is sent.

        Raises:
            BundleError: a file has changed since it was read.
        """
        for piece in pieces:
            path = self.folder / self.contents[piece.sha256].path
            left = piece.size - piece.offset
            try:
                with path.open("rb") as file:
                    file.seek(piece.offset)
                    while left and (chunk := file.read(min(CHUNK_BYTES, left))):
                        left -= len(chunk)
                        on_bytes(len(chunk))
                        yield chunk
            except OSError as error:
                raise BundleError(f"{path} cannot be read any more: {error.strerror}.", hint="Ship again.") from error
            if left:
                raise BundleError(f"{path} became shorter while it was sent.", hint="Ship a bundle that nobody writes to.")


def load_payload(path: Path) -> Payload:
    """Reads a bundle, or the bundle in the folder of a run, and checks that it is trusted here.

    Raises:
        BundleError: it is not a bundle, is incomplete, or was altered.
        TrustError: it is not signed by a key that is trusted here.
    """
    inner = path / "bundle"
    folder = inner if not (path / MANIFEST).exists() and (inner / MANIFEST).is_file() else path
    manifest = read_bundle(folder)
    listed = [RequestedFile(path=name, sha256=entry.sha256, size=entry.size) for name, entry in manifest.files.items()]
    beside = [
        RequestedFile(path=name, sha256=hash_file(folder / name), size=(folder / name).stat().st_size)
        for name in UNLISTED
        if (folder / name).is_file()
    ]
    files = (*listed, *beside)
    signer = check_trust(folder, {file.path: file.sha256 for file in files if file.path != SIGNATURE})
    envelope = read_envelope(folder / SIGNATURE)
    return Payload(folder, manifest, signer, files, envelope.hint if envelope and envelope.kind == "key" else None)


@dataclass
class Sent:
    """Bytes that were sent over all connections to one device. Contents that had to be sent twice count twice."""

    content_bytes: int = 0
    protocol_bytes: int = 0
    """Bytes of requests, events and answers, without the contents."""


class Counted:
    """A channel that counts the bytes of the protocol in both directions. Contents are counted where they are read."""

    def __init__(self, channel: Channel, sent: Sent) -> None:
        self._channel, self._sent = channel, sent

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:

        def heard(event: Note | Advance | Received) -> None:
            self._count(event)
            if on_event:
                on_event(event)

        self._count(request)
        value = await self._channel.ask(request, body=body, on_event=heard)
        self._sent.protocol_bytes += len(json.dumps({"event": "result", "value": value}, separators=(",", ":")).encode()) + 1
        return value

    def _count(self, message: BaseModel) -> None:
        self._sent.protocol_bytes += len(message.model_dump_json().encode()) + 1
