"""Signs a bundle: with the own key, another key, a certificate, or an identity that sigstore checks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgebert.bundle.trust.envelope import SIGNATURE
from edgebert.bundle.trust.folders import write_private
from edgebert.bundle.trust.keys import OWN_KEY, ensure_own_key, own_key_file, public_half, read_small
from edgebert.bundle.trust.policy import Signer
from edgebert.bundle.trust.verification import hashing_config
from edgebert.errors import EnvironmentFault, InputError

USE_A_KEY = "Sign with a key, which needs no network: edgebert keys sign BUNDLE"


def sign_bundle(folder: Path) -> Signer:
    """Signs a bundle with the own key, which is made if there is none. The caller has checked the bundle.

    Raises:
        EnvironmentFault: the key cannot be made or read, or the signature cannot be written.
    """
    key = ensure_own_key()
    _sign(folder, lambda config: config.use_elliptic_key_signer(private_key=own_key_file()))
    return Signer(OWN_KEY, key.fingerprint)


def sign_with_key(folder: Path, key: Path) -> Signer:
    """Signs a bundle with a private key.

    Raises:
        InputError: the file is not an unencrypted private key of a supported curve.
        EnvironmentFault: the signature cannot be written.
    """
    public = public_half(_read(key), key)
    _sign(folder, lambda config: config.use_elliptic_key_signer(private_key=key))
    return Signer(key.name, public.fingerprint)


def sign_with_certificate(folder: Path, key: Path, certificate: Path, chain: Sequence[Path] = ()) -> Signer:
    """Signs a bundle with the private key of a certificate.

    Args:
        chain: the certificates between this one and a root that devices pin.

    Raises:
        InputError: a file is not a key or certificate, or the certificate is not for the key.
        EnvironmentFault: the signature cannot be written.
    """
    from edgebert.bundle.trust.certificates import key_of, subject_of

    if public_half(_read(key), key) != key_of(_read(certificate), str(certificate)):
        raise InputError(f"{certificate} is not the certificate of {key}.", hint="Name those that belong together.")
    for link in chain:
        subject_of(_read(link), str(link))
    # model-signing wants a chain, and ignores one that it does not need.
    links = list(chain) or [certificate]
    _sign(
        folder,
        lambda config: config.use_certificate_signer(private_key=key, signing_certificate=certificate, certificate_chain=links),
    )
    return Signer(certificate.name, subject_of(_read(certificate), str(certificate)))


def sign_with_sigstore(folder: Path, *, identity_token: str | None = None) -> Signer:
    """Signs a bundle with an identity that sigstore checks in the browser, on a CI server, or with a token.

    Raises:
        EnvironmentFault: sigstore cannot be reached, or refuses.
    """
    from edgebert.bundle.trust.envelope import read_envelope
    from edgebert.bundle.trust.sigstore import identity_of, reachable

    reachable(USE_A_KEY)
    try:
        _sign(
            folder,
            lambda config: config.use_sigstore_signer(
                identity_token=identity_token, use_ambient_credentials=not identity_token
            ),
        )
    except (InputError, EnvironmentFault):
        raise
    except Exception as error:  # sigstore, TUF, requests and their parsers raise many classes
        raise EnvironmentFault(
            f"sigstore did not sign: {(str(error) or type(error).__name__).splitlines()[0]}", hint=USE_A_KEY
        ) from error
    envelope = read_envelope(folder / SIGNATURE)
    assert envelope is not None
    return Signer("sigstore", identity_of(envelope.leaf))


def _sign(folder: Path, use: Callable[[Any], Any]) -> None:
    """Lets model-signing hash and sign the folder, and writes the signature atomically."""
    from model_signing import signing

    new: Any = signing.Config  # its constructor has no types
    config = use(new()).set_hashing_config(hashing_config())
    try:
        with tempfile.TemporaryDirectory(prefix="edgebert-") as work:
            config.sign(folder, Path(work) / SIGNATURE)
            write_private(folder / SIGNATURE, (Path(work) / SIGNATURE).read_bytes(), 0o644)
    except OSError as error:
        if error.errno is None:  # requests derives its errors from OSError
            raise
        raise EnvironmentFault(
            f"{folder / SIGNATURE} cannot be written: {error.strerror}.", hint="Make room, or sign a copy that can be written."
        ) from error


def _read(path: Path) -> bytes:
    try:
        return read_small(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Name a file in PEM form.") from error
