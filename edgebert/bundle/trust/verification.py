"""The check of a signature itself, by model-signing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgebert.bundle.trust.envelope import SIGN_AGAIN, SIGNATURE, Envelope, hashing_config
from edgebert.bundle.trust.folders import as_file
from edgebert.errors import TrustError


def verify(folder: Path, envelope: Envelope, use: Callable[[Any, Path], Any], trusted: bytes) -> None:
    """Lets model-signing check that a signature is by what is trusted, and of the files that lie there.

    Args:
        use: sets the verifier of a model_signing.verifying.Config, given the file of what is trusted.
        trusted: content of that file.

    Raises:
        TrustError: it is not.
    """
    from model_signing import verifying

    new: Any = verifying.Config  # its constructor has no types

    with as_file(trusted) as root, as_file(envelope.data) as signature:
        try:
            config = use(new(), root)
            # What the signature names was compared with what lies there; what the Hub left beside it is nobody's.
            config.set_hashing_config(hashing_config()).set_ignore_unsigned_files(True)
            config.verify(folder, signature)
        except Exception as error:  # of cryptography, OpenSSL, sigstore and their parsers
            raise TrustError(f"{folder / SIGNATURE} does not hold: {_reason(error)}", hint=SIGN_AGAIN) from error


def _reason(error: Exception) -> str:
    """cryptography's InvalidSignature has no words of its own."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "the bytes are not signed by whom they name"
