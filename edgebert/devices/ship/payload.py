"""Cargo: a bundle that was read and is trusted here, as contents that can travel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.bundle.manifest import MANIFEST, BundleManifest
from edgebert.bundle.read import UNLISTED, read_bundle
from edgebert.bundle.trust.envelope import SIGNATURE, read_envelope
from edgebert.bundle.trust.policy import Signer, check_trust
from edgebert.core.store import hash_file
from edgebert.devices.agent.protocol import Piece, RequestedFile
from edgebert.errors import BundleError

CHUNK_BYTES = 64 * 1024
"""Read and handed on at a time."""


@dataclass(frozen=True)
class Payload:
    """A bundle on its way."""

    folder: Path
    manifest: BundleManifest
    signer: Signer
    files: tuple[RequestedFile, ...]
    """Every file: those that the manifest lists, the manifest and the signature."""
    key: str | None = None
    """Fingerprint of the key that signed it; None where that was no key."""

    @property
    def contents(self) -> dict[str, RequestedFile]:
        """sha256 -> one of the files that hold it. A content travels once."""
        return {file.sha256: file for file in self.files}

    @property
    def size_bytes(self) -> int:
        """Of all contents."""
        return sum(file.size for file in self.contents.values())

    @property
    def identity(self) -> str:
        """sha256 of the manifest, which names the bundle."""
        return next(file.sha256 for file in self.files if file.path == MANIFEST)

    def missing(self, bytes_there: Mapping[str, int]) -> tuple[Piece, ...]:
        """What has to travel, small contents first, so that a short connection makes many of them whole.

        Args:
            bytes_there: sha256 -> bytes that the device says it holds; it is not trusted to be right.
        """
        offsets = {sha256: max(0, bytes_there.get(sha256, -1)) for sha256 in self.contents}
        pieces = [
            Piece(sha256=file.sha256, size=file.size, offset=offsets[file.sha256])
            for file in self.contents.values()
            # An empty content is as absent as any other where the device does not name it.
            if file.sha256 not in bytes_there or offsets[file.sha256] < file.size
        ]
        return tuple(sorted(pieces, key=lambda piece: (piece.size, piece.sha256)))

    async def body(self, pieces: Sequence[Piece], on_bytes: Callable[[int], None]) -> AsyncIterator[bytes]:
        """The bytes of the pieces, one after the other.

        Args:
            on_bytes: is told the size of every chunk before it is handed on.

        Raises:
            BundleError: a file is no longer what it was when it was read.
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


def load_payload(place: Path) -> Payload:
    """Reads a bundle, or the bundle of a run's folder, and checks that it is trusted here.

    Raises:
        BundleError: it is not a bundle, is incomplete, or was altered.
        TrustError: it is not signed by a key that is trusted here.
    """
    folder = bundle_folder(place)
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


def bundle_folder(place: Path) -> Path:
    """The folder itself, or `bundle` inside of a run's."""
    inner = place / "bundle"
    return inner if not (place / MANIFEST).exists() and (inner / MANIFEST).is_file() else place
