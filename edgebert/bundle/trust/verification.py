"""What model-signing does here: it hashes the files of a bundle that is signed, and checks whose signature a bundle has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from edgebert.bundle.trust.envelope import LEFT_BY_THE_HUB, SIGN_AGAIN, SIGNATURE, Envelope
from edgebert.bundle.trust.folders import as_file
from edgebert.errors import TrustError


def verify(folder: Path, envelope: Envelope, use: Callable[[Any, Path], Any], trusted: bytes) -> None:
    """Lets model-signing check that a trusted key or certificate signed exactly the files that the signature names.

    Args:
        folder: the bundle's folder, for messages. No file of it is read here: the caller compares the hashes in the signature
            with the contents that it opens.
        use: sets the verifier of a model_signing.verifying.Config, given a file.
        trusted: content of that file: the trusted key, certificate or configuration.

    Raises:
        TrustError: the signature does not match.
    """
    from model_signing import verifying

    new: Any = verifying.Config  # its constructor has no types

    with as_file(trusted) as root, as_file(envelope.data) as signature:
        try:
            config = use(new(), root)
            config.set_hashing_config(ComparedByTheCaller(envelope.files)).set_ignore_unsigned_files(True)
            config.verify(folder, signature)
        except Exception as error:  # cryptography, OpenSSL, sigstore and their parsers raise many classes
            raise TrustError(f"{folder / SIGNATURE} does not hold: {_reason(error)}", hint=SIGN_AGAIN) from error


class ComparedByTheCaller:
    """Stands where model-signing hashes a folder, and where it has the hashes of that folder.

    Hashing here would read a whole bundle for the one graph that is opened, and what it reads may be exchanged before a runtime
    opens it.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = dict(files)

    def hash(self, model_path: Path, *, files_to_hash: object = None) -> Self:
        """The hashes, as they were read from the signature."""
        return self

    def add_ignored_paths(self, **paths: object) -> None:
        """Takes what the signature says it left out: the caller knows which files there are."""

    def resource_descriptors(self) -> Iterator[Any]:
        """None: model-signing asks for them only to word a difference."""
        return iter(())

    def __eq__(self, other: object) -> bool:
        """Whether the statement that the signer vouches for names the same files and hashes."""
        stated: Any = other
        return {item.identifier: item.digest.digest_hex for item in stated.resource_descriptors()} == self._files

    __hash__ = None  # type: ignore[assignment]  # compared, never kept in a set


def _reason(error: Exception) -> str:
    """First line of an error; cryptography's InvalidSignature has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "the bytes are not signed by whom they name"


def hashing_config() -> Any:
    """A model_signing.hashing.Config that ignores the signature and what the Hub leaves there, and refuses links."""
    from model_signing import hashing

    new: Any = hashing.Config  # its constructor has no types
    config = new().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=(SIGNATURE, *LEFT_BY_THE_HUB), ignore_git_paths=False)
