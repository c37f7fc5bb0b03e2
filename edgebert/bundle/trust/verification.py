"""What model-signing does here: it hashes the files of a bundle, and checks that a signature is for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgebert.bundle.trust.envelope import LEFT_BY_THE_HUB, SIGN_AGAIN, SIGNATURE, Envelope
from edgebert.bundle.trust.folders import as_file
from edgebert.errors import TrustError


def verify(folder: Path, envelope: Envelope, use: Callable[[Any, Path], Any], trusted: bytes) -> None:
    """Lets model-signing check that a trusted key or certificate signed exactly the files of a folder.

    Args:
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
            # The caller compared the names in the signature with the files; what the Hub left there is not signed.
            config.set_hashing_config(hashing_config()).set_ignore_unsigned_files(True)
            config.verify(folder, signature)
        except Exception as error:  # cryptography, OpenSSL, sigstore and their parsers raise many classes
            raise TrustError(f"{folder / SIGNATURE} does not hold: {_reason(error)}", hint=SIGN_AGAIN) from error


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
