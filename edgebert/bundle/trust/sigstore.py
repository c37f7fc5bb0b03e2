"""Checks signatures made through sigstore: its certificate authority vouches for the signer's identity."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from edgebert.bundle.trust.config import Sigstore
from edgebert.bundle.trust.envelope import Envelope
from edgebert.bundle.trust.verification import verify
from edgebert.errors import EdgebertError, EnvironmentFault, TrustError

HOST = "tuf-repo-cdn.sigstore.dev"
"""Server of sigstore's root certificates, for signing and, without a `trust_config`, for checking."""
PATIENCE_S = 5.0
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def check_sigstore(folder: Path, envelope: Envelope, pins: Mapping[str, Sigstore]) -> tuple[str, str]:
    """Name of the pin whose identity signed, and the identity.

    Raises:
        TrustError: the identity is not pinned, or the signature does not match.
        EnvironmentFault: there is no network, and no `trust_config` to check without one.
    """
    identity = identity_of(envelope.leaf)
    refused: EdgebertError | None = None
    for name, pin in pins.items():
        if pin.identity != identity:
            continue
        try:
            _verify(folder, envelope, name, pin)
        except (TrustError, EnvironmentFault) as error:  # another pin may have the same identity and another issuer
            refused = refused or error
        else:
            return name, identity
    if refused is not None:
        raise refused
    raise TrustError(
        f"{folder} is signed by {identity} by way of sigstore, who is not trusted here.",
        hint="If you trust it: edgebert keys trust --sigstore IDENTITY --issuer URL --name NAME",
    )


def identity_of(der: bytes) -> str:
    """Identity in a certificate of sigstore: a mail address or a URI; a question mark without one.

    Only a check of the signature shows whether it is true.
    """
    from cryptography.x509 import RFC822Name, SubjectAlternativeName, UniformResourceIdentifier, load_der_x509_certificate

    try:
        names = load_der_x509_certificate(der).extensions.get_extension_for_class(SubjectAlternativeName).value
        found = [*names.get_values_for_type(RFC822Name), *names.get_values_for_type(UniformResourceIdentifier)]
    except Exception:  # cryptography raises many classes, and its Rust part adds others
        return "?"
    return found[0] if len(found) == 1 else "?"


def reachable(otherwise: str) -> None:
    """Checks that sigstore can be reached, because its own client waits for minutes if not.

    Args:
        otherwise: hint of the error: what to do without sigstore.

    Raises:
        EnvironmentFault: it cannot be reached.
    """
    if any(os.environ.get(name) for name in PROXIES):
        return  # the proxy opens the connection
    try:
        socket.create_connection((HOST, 443), timeout=PATIENCE_S).close()
    except OSError as error:
        raise EnvironmentFault(f"sigstore cannot be reached: {HOST}: {error.strerror or error}.", hint=otherwise) from error


def _verify(folder: Path, envelope: Envelope, name: str, pin: Sigstore) -> None:
    if pin.trust_config is None:
        reachable(f"Check it without a network: sigstore.{name}.trust_config in trust.toml names a client trust configuration.")
        verify(
            folder,
            envelope,
            lambda config, _: config.use_sigstore_verifier(identity=pin.identity, oidc_issuer=pin.issuer),
            b"",
        )
        return
    verify(
        folder,
        envelope,
        lambda config, file: config.use_sigstore_verifier(identity=pin.identity, oidc_issuer=pin.issuer, trust_config=file),
        pin.trust_config,
    )
