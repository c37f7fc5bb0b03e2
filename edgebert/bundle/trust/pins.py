"""Whose bundles load here, for people and for programs."""

from __future__ import annotations

from typing import Any

from edgebert.bundle.trust.certificates import subject_of
from edgebert.bundle.trust.config import load_trust, pinned_key
from edgebert.bundle.trust.keys import own_key_file, own_public_key
from edgebert.errors import InputError


def current_pins() -> dict[str, Any]:
    """`own` (fingerprint and file, or null), `trusted` (kind, name and identity of each pin), `unsigned` (refuse or load).

    Raises:
        TrustError: something in trust.toml is wrong.
    """
    own, trust = own_public_key(), load_trust()
    pins = [("key", name, pinned_key(name, pem).fingerprint) for name, pem in trust.keys.items()]
    for name, pin in trust.certificates.items():
        pins.append(("certificate", name, f"{pin.subject or 'all'} that {_root(pin.pem, name)} vouches for"))
    pins += [("sigstore", name, f"{pin.identity} as {pin.issuer} knows it") for name, pin in trust.sigstore.items()]
    return {
        "own": {"fingerprint": own.fingerprint, "file": str(own_key_file())} if own else None,
        "trusted": [{"kind": kind, "name": name, "identity": identity} for kind, name, identity in pins],
        "unsigned": trust.unsigned,
    }


def _root(pem: bytes, name: str) -> str:
    try:
        return subject_of(pem, f"certificates.{name}")
    except InputError:
        return "what is no certificate"
