"""Checks signatures made with a certificate: a pinned root certificate has to vouch for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgebert.bundle.trust.config import Certificate
from edgebert.bundle.trust.envelope import SIGN_AGAIN, SIGNATURE, Envelope
from edgebert.bundle.trust.keys import PublicKey, public_of
from edgebert.bundle.trust.verification import verify
from edgebert.errors import InputError, TrustError

if TYPE_CHECKING:
    from cryptography import x509


def check_certificate(folder: Path, envelope: Envelope, pins: Mapping[str, Certificate]) -> tuple[str, str]:
    """Name of the pin whose root vouches for the signing certificate, and the subject of that certificate.

    Today's date is not compared with the certificate's: it is trusted for as long as its root is pinned, as of the first day of
    its validity. A device's clock is often wrong, and a signature has no date that could be checked.

    Raises:
        TrustError: no pinned root vouches for it, or the signature does not match.
    """
    subject = _signing_subject(folder, envelope.leaf)
    if not pins:
        raise _not_trusted(folder, subject, "no root certificate is pinned here")
    reasons = []
    for name, pin in pins.items():
        if pin.subject is not None and pin.subject != subject:
            reasons.append(f"{name} is for {pin.subject} only")
            continue
        try:
            verify(
                folder,
                envelope,
                lambda config, root: config.use_certificate_verifier(certificate_chain=[root]),
                pin.pem,
            )
        except TrustError as error:
            reasons.append(f"{name}: {error.message.partition('does not hold: ')[2] or error.message}")
            continue
        return name, subject
    raise _not_trusted(folder, subject, "; ".join(reasons))


def subject_of(pem: bytes, source: str) -> str:
    """Subject of the first certificate in the content of a PEM file, written as RFC 4514 does, such as `CN=release`.

    Args:
        source: name of the file, for messages.

    Raises:
        InputError: the file holds no certificate.
    """
    return _first(pem, source).subject.rfc4514_string()


def only_certificate(pem: bytes, source: str) -> tuple[str, str]:
    """The certificate of a PEM file, written anew without the rest of the file, and its subject.

    Raises:
        InputError: the file holds no certificate, or several.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    first, *others = _all(pem, source)
    if others:
        raise InputError(f"{source} holds {1 + len(others)} certificates.", hint="Trust one root at a time: one file for each.")
    return first.public_bytes(Encoding.PEM).decode(), first.subject.rfc4514_string()


def key_of(pem: bytes, source: str) -> PublicKey:
    """Public key of the first certificate of a PEM file. Raises what `subject_of` raises."""
    return public_of(_first(pem, source).public_key())


def _first(pem: bytes, source: str) -> x509.Certificate:
    return _all(pem, source)[0]


def _all(pem: bytes, source: str) -> list[x509.Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem)  # at least one
    except Exception as error:  # cryptography raises many classes, and its Rust part adds others
        raise InputError(
            f"{source} is not a certificate in PEM form.", hint="It starts with -----BEGIN CERTIFICATE-----"
        ) from error


def _signing_subject(folder: Path, der: bytes) -> str:
    from cryptography.x509 import load_der_x509_certificate

    try:
        certificate = load_der_x509_certificate(der)
        signs = _is_for_signing(certificate)
        subject = certificate.subject.rfc4514_string()
    except Exception as error:  # cryptography raises many classes, and its Rust part adds others
        raise TrustError(f"{folder / SIGNATURE} holds no certificate that can be read.", hint=SIGN_AGAIN) from error
    if not signs:
        raise TrustError(
            f"{folder} is signed with the certificate {subject}, which is not for signatures.",
            hint="Sign with one whose key usage is digitalSignature.",
        )
    return subject


def _is_for_signing(certificate: x509.Certificate) -> bool:
    from cryptography.x509 import ExtensionNotFound, KeyUsage

    try:
        return certificate.extensions.get_extension_for_class(KeyUsage).value.digital_signature
    except ExtensionNotFound:
        return False


def _not_trusted(folder: Path, subject: str, reason: str) -> TrustError:
    return TrustError(
        f"{folder} is signed with the certificate {subject}, which is not trusted here: {reason}.",
        hint="If you trust it, pin the root that vouches for it: edgebert keys trust ROOT.pem --name NAME",
    )
