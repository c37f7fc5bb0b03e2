"""Whether a bundle counts here: signed by a key that this machine pins, or let through by its own configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Signer:
    """Who vouches for a bundle."""

    name: str
    """What the pin is called here; `unsigned` where the configuration lets such a bundle through."""
    identity: str
    """Fingerprint of the key, subject of the certificate, or sigstore identity."""


def check_trust(folder: Path) -> Signer:
    """Checks the signature of a bundle whose files are as its manifest says.

    Raises:
        TrustError: there is none, it is of another content, or of nobody who is trusted here.
    """
    raise NotImplementedError
