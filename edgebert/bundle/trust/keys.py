"""Keys: this user's own, made when it is first needed, and the public keys of others.

    <configuration>/keys/signing.pem   the own private key: ECDSA P-256, PKCS#8, readable by this user only
    <configuration>/keys/signing.pub   its public half, to give to others

A key's fingerprint is the sha256 of its public half as PEM: model-signing writes it into a signature as `hint`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgebert.bundle.trust.folders import config_file, config_folder, others_may_write, write_private
from edgebert.core.files import open_regular
from edgebert.errors import EnvironmentFault, InputError, TrustError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

PEM_LIMIT = 1 << 20
"""Most bytes that a key or certificate file may have."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Elliptic curves that model-signing supports."""
OWN_KEY = "own key"
"""Name of the own key where pins are named."""


@dataclass(frozen=True)
class PublicKey:
    """The public half of a signing key."""

    pem: str
    fingerprint: str
    """sha256 of `pem`, 64 hexadecimal digits."""


def own_key_file() -> Path:
    """Path of the own private key, whether or not it exists.

    Raises:
        EnvironmentFault: this user has no home.
    """
    return config_file("keys/signing.pem")


def own_key_bytes() -> bytes | None:
    """Content of the own private key's file; None where there is none, or this user may not read it.

    Raises:
        TrustError: other users may write the file.
    """
    folder = config_folder()
    if folder is None:
        return None
    try:
        return read_trusted(folder / "keys" / "signing.pem")
    except OSError:
        return None


def own_public_key() -> PublicKey | None:
    """The public half of the own key; None where none was made yet.

    Raises:
        InputError: the file is no key.
    """
    data = own_key_bytes()
    return None if data is None else public_half(data, own_key_file())


def ensure_own_key() -> PublicKey:
    """The public half of the own key, which is made if there is none. Processes that ask at the same time get the same key.

    Raises:
        EnvironmentFault: the configuration folder cannot be written, or other users may read the key.
    """
    path = own_key_file()
    try:
        if not path.exists():
            write_private(path, _new_key(), new=True)
        _refuse_others(path)
        key = public_half(read_small(path), path)
        _hand_out(path.with_suffix(".pub"), key)
    except OSError as error:
        raise _unwritable(path, error) from error
    return key


def replace_own_key() -> tuple[PublicKey, Path]:
    """Makes a new own key and keeps the old one beside it.

    Returns:
        The new key, and the path of the old private key.

    Raises:
        EnvironmentFault: the configuration folder cannot be written.
    """
    path, old = own_key_file(), ensure_own_key()
    kept = path.with_name(f"signing-{old.fingerprint[:12]}.pem")
    try:
        write_private(kept, read_small(path))
        write_private(path, _new_key())
        key = public_half(read_small(path), path)
        _hand_out(path.with_suffix(".pub"), key)
    except OSError as error:
        raise _unwritable(path, error) from error
    return key, kept


def read_public_key(data: bytes, source: str) -> PublicKey:
    """Parses a public key in PEM form.

    Args:
        source: name of the file, for messages.

    Raises:
        InputError: it is not a public key, or not of a curve in CURVES.
    """
    if b"PRIVATE KEY" in data:
        raise InputError(
            f"{source} is a private key.", hint="Give the public one; `edgebert keys show` prints that of the own key."
        )
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except Exception as error:  # cryptography raises many classes, and its Rust part adds others
        raise InputError(
            f"{source} is not a public key in PEM form.", hint="`edgebert keys show` prints one on the machine that signs."
        ) from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise InputError(
            f"{source} is not an elliptic-curve key of P-256, P-384 or P-521.", hint="Other keys do not sign bundles."
        )
    return public_of(key)


def public_half(data: bytes, source: Path) -> PublicKey:
    """The public half of a private key in PEM form.

    Raises:
        InputError: it is not a private key, is encrypted, or not of a curve in CURVES.
    """
    return public_of(_private_key(data, source).public_key())


def read_small(path: Path) -> bytes:
    """Content of a key or certificate file.

    Raises:
        InputError: the file is larger than PEM_LIMIT.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return _limited(path, file)


def read_trusted(path: Path) -> bytes:
    """Content of a key or certificate file that is trusted. Raises what `read_small` raises, and:

    Raises:
        TrustError: other users may write the file.
    """
    with open_regular(path) as file:
        refuse_others(path, os.fstat(file.fileno()))
        return _limited(path, file)


def _limited(path: Path, file: BinaryIO) -> bytes:
    data = file.read(PEM_LIMIT + 1)
    if len(data) > PEM_LIMIT:
        raise InputError(f"{path} is too large for a key or a certificate.")
    return data


def refuse_others(path: Path, status: os.stat_result) -> None:
    """Refuses a file that says whom to trust if other users may write it.

    Raises:
        TrustError: they may write it.
    """
    if others_may_write(status):
        raise TrustError(
            f"Others than this user may write {path}.",
            hint=f"Give it to the user who runs this, and close it: chmod go-w {path}",
        )


def _private_key(data: bytes, source: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data, None)
    except TypeError as error:
        hint = f"Take its password off: openssl pkcs8 -topk8 -nocrypt -in {source} -out KEY"
        raise InputError(f"{source} is encrypted.", hint=hint) from error
    except Exception as error:  # cryptography raises many classes, and its Rust part adds others
        raise InputError(
            f"{source} is not a private key in PEM form.",
            hint="Make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise InputError(
            f"{source} is not an elliptic-curve key of P-256, P-384 or P-521.", hint="Other keys do not sign bundles."
        )
    return key


def public_of(key: object) -> PublicKey:
    """Our public key from one of the package cryptography."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return PublicKey(pem.decode(), hashlib.sha256(pem).hexdigest())


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _hand_out(path: Path, key: PublicKey) -> None:
    with contextlib.suppress(OSError):
        if read_small(path) == key.pem.encode():
            return
    write_private(path, key.pem.encode(), 0o644)


def _refuse_others(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise EnvironmentFault(f"Others may read the private key {path}.", hint=f"Close it: chmod 600 {path}")


def _unwritable(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be read and written: {error.strerror}.", hint="Name a folder that can, with XDG_CONFIG_HOME."
    )
