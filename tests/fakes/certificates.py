"""Certificates that tests sign with: a root, certificates that it issues, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Holder:
    """A certificate with its private key, and their files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    file: Path
    key_file: Path


def new_key(file: Path, curve: ec.EllipticCurve | None = None) -> Path:
    """Writes a private key, and its public half beside it as .pub."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    file.write_bytes(private_pem(key))
    file.with_suffix(".pub").write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return file


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM form."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def issue(
    folder: Path,
    name: str,
    by: Holder | None = None,
    *,
    years: tuple[int, int] = (2020, 2040),
    is_authority: bool = False,
    signs: bool | None = True,
    email: str | None = None,
) -> Holder:
    """Makes a certificate of CN=`name`, self-signed if no issuer is given.

    Args:
        years: it is valid from the start of the first year to the start of the second.
        signs: whether its key is for signatures; None leaves the key usage out.
        email: the subject's address, as sigstore writes it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start, end = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if signs is not None:
        builder = builder.add_extension(usage(signs=signs, is_authority=is_authority), critical=True)
    if email:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=True)
    certificate = builder.sign(by.key if by else key, hashes.SHA256())
    file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    file.write_bytes(certificate.public_bytes(PEM))
    key_file.write_bytes(private_pem(key))
    return Holder(certificate, key, file, key_file)


def usage(*, signs: bool, is_authority: bool) -> x509.KeyUsage:
    """The usage of a key: signatures, or certificates, or encrypting keys alone."""
    return x509.KeyUsage(
        digital_signature=signs and not is_authority,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
