"""Whether this machine trusts a bundle: a pin has to match its signature, or trust.toml has to allow unsigned bundles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.trust.config import Trust, load_trust, pinned_key
from edgebert.bundle.trust.envelope import SIGN_AGAIN, SIGNATURE, Envelope, read_envelope
from edgebert.bundle.trust.keys import OWN_KEY, PublicKey, own_public_key
from edgebert.bundle.trust.receipts import read_receipt, receipt_key, write_receipt
from edgebert.bundle.trust.verification import verify
from edgebert.errors import InputError, TrustError

UNSIGNED = "unsigned"
TRUST_IT = "If you trust it, get its public key from whoever signed (not from the bundle): edgebert keys trust FILE --name NAME"


@dataclass(frozen=True)
class Signer:
    """Who vouches for a bundle."""

    name: str
    """Name of the pin; `own key` for this user's key, `unsigned` where trust.toml allows an unsigned bundle."""
    identity: str
    """Fingerprint of the key, subject of the certificate, or sigstore identity; `unsigned` without a signature."""


def check_trust(folder: Path, files: Mapping[str, str], *, at: int | None = None) -> Signer:
    """Checks the signature of a bundle.

    Args:
        files: name -> sha256 of each of its files, with edgebert.json, without edgebert.sig. The caller compares contents with
            these hashes before it uses them.
        at: descriptor of the folder; by default it is found by its path.

    Raises:
        TrustError: there is no signature, it is for other content, or its signer is not trusted here.
    """
    trust = load_trust()
    envelope = read_envelope(folder / SIGNATURE, at=at)
    if envelope is None:
        return _unsigned(folder, trust)
    key = receipt_key(files[MANIFEST], envelope.data, trust.digest)
    _compare(folder, envelope.files, files)
    if found := read_receipt(key):
        return Signer(found["name"], found["identity"])
    signer = _check(folder, envelope, trust)
    write_receipt(key, asdict(signer))
    return signer


def _unsigned(folder: Path, trust: Trust) -> Signer:
    if trust.unsigned == "load":
        return Signer(UNSIGNED, UNSIGNED)
    raise TrustError(
        f"{folder} is not signed: it has no {SIGNATURE}.",
        hint="Sign it where it was made: edgebert keys sign BUNDLE. A machine that is to take unsigned bundles says so "
        'in its trust.toml: unsigned = "load"',
    )


def _compare(folder: Path, signed: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Refuses a signature that is not for exactly these files."""
    for name in sorted(signed.keys() | files.keys()):
        if name not in signed:
            raise TrustError(f"{folder / SIGNATURE} does not cover {name}.", hint=SIGN_AGAIN)
        if signed[name] != files.get(name):
            raise TrustError(f"{folder / SIGNATURE} is of another content: {name!a} is not as it was signed.", hint=SIGN_AGAIN)


def _check(folder: Path, envelope: Envelope, trust: Trust) -> Signer:
    if envelope.kind == "key":
        return _check_key(folder, envelope, trust)
    if envelope.kind == "certificate":
        from edgebert.bundle.trust.certificates import check_certificate

        return Signer(*check_certificate(folder, envelope, trust.certificates))
    from edgebert.bundle.trust.sigstore import check_sigstore

    return Signer(*check_sigstore(folder, envelope, trust.sigstore))


def _check_key(folder: Path, envelope: Envelope, trust: Trust) -> Signer:
    for name, key in _keys(trust):
        if key.fingerprint == envelope.hint:
            verify(folder, envelope, lambda config, file: config.use_elliptic_key_verifier(public_key=file), key.pem.encode())
            return Signer(name, key.fingerprint)
    raise TrustError(f"{folder} is signed by the key {envelope.hint}, which is not trusted here.", hint=TRUST_IT)


def _keys(trust: Trust) -> Iterator[tuple[str, PublicKey]]:
    """Trusted keys by name. The own key is read last, if no pin matched: while it is damaged, bundles of others still load."""
    for name, pem in trust.keys.items():
        yield name, pinned_key(name, pem)
    try:
        own = own_public_key()
    except InputError as error:
        raise TrustError(
            f"The own key is damaged: {error.message}",
            hint="Move it away and make another: edgebert keys new. What it signed has to be signed again.",
        ) from error
    if own:
        yield OWN_KEY, own
