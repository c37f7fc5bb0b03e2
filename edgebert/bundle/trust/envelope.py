"""Reads edgebert.sig: what a signature claims. Whether the claim holds is checked by verification.py."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgebert.errors import TrustError

SIGNATURE = "edgebert.sig"
SIGNATURE_LIMIT = 4 << 20
"""Most bytes that a signature may have: the signature of a thousand files takes a third of one MB."""
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
KINDS: dict[str, Literal["key", "certificate", "sigstore"]] = {
    "publicKey": "key",
    "x509CertificateChain": "certificate",
    "certificate": "sigstore",
}
MATERIAL = {
    "key": {"publicKey"},
    "certificate": {"x509CertificateChain"},
    "sigstore": {"certificate", "tlogEntries", "timestampVerificationData"},
}
"""Kind of signature -> the fields of its verification material."""
OPTIONAL = {"tlogEntries", "timestampVerificationData"}
SIGN_AGAIN = "Sign it again where it was made: edgebert keys sign BUNDLE"


@dataclass(frozen=True)
class Envelope:
    """A signature that was read but not checked."""

    kind: Literal["key", "certificate", "sigstore"]
    hint: str
    """Fingerprint of the key that signed, as the signature claims; empty for other kinds."""
    leaf: bytes
    """The signing certificate in DER form; empty for a key."""
    files: Mapping[str, str]
    """Name -> sha256 of every signed file."""
    data: bytes
    """The signature, written anew from what was read, so that no other reader can understand it differently."""


def read_envelope(path: Path, *, at: int | None = None) -> Envelope | None:
    """Reads a signature file; None where there is no file.

    Args:
        at: descriptor of its folder; by default the folder is found by its path.

    Raises:
        TrustError: it is not an OpenSSF model signature over the sha256 of whole files.
    """
    raw = _read(path, at)
    if raw is None:
        return None
    try:
        return _envelope(raw)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "it lacks what each of them has"
        raise TrustError(f"{path} is no model signature: {reason}.", hint=SIGN_AGAIN) from error


def _read(path: Path, at: int | None) -> bytes | None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags) if at is None else os.open(path.name, flags, dir_fd=at)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}.", hint=SIGN_AGAIN) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError(f"{path} is no file.", hint=SIGN_AGAIN)
        data = file.read(SIGNATURE_LIMIT + 1)
    if len(data) > SIGNATURE_LIMIT:
        raise TrustError(f"{path} is larger than {SIGNATURE_LIMIT >> 20} MB, which no signature is.", hint=SIGN_AGAIN)
    return data


def _envelope(raw: bytes) -> Envelope:
    outer = strict_json(raw)
    _only(outer, {"mediaType", "verificationMaterial", "dsseEnvelope"})
    envelope, material = outer["dsseEnvelope"], outer["verificationMaterial"]
    _only(envelope, {"payload", "payloadType", "signatures"})
    if envelope["payloadType"] != PAYLOAD or len(envelope["signatures"]) != 1:
        raise ValueError("it holds no single signature of a statement")
    (signature,) = envelope["signatures"]
    _only(signature, {"sig", "keyid"}, needed={"sig"})
    _decoded(signature["sig"])
    kinds = [kind for field, kind in KINDS.items() if field in material]
    if len(kinds) != 1:
        raise ValueError("it names no key or certificate, or several")
    _only(material, MATERIAL[kinds[0]] | {"tlogEntries"}, needed=MATERIAL[kinds[0]] - OPTIONAL)
    return Envelope(
        kind=kinds[0],
        hint=_hint(material["publicKey"]) if kinds[0] == "key" else "",
        leaf=_leaf(kinds[0], material),
        files=_signed_files(strict_json(_decoded(envelope["payload"]))),
        data=json.dumps(outer).encode(),
    )


def _hint(material: Mapping[str, Any]) -> str:
    _only(material, {"hint", "rawBytes", "keyDetails"}, needed={"hint"})
    hint = material["hint"]
    if not isinstance(hint, str) or len(hint) != 64 or set(hint) - set("0123456789abcdef"):
        raise ValueError("it does not say by which key it is")
    return hint


def _leaf(kind: str, material: Mapping[str, Any]) -> bytes:
    if kind == "key":
        return b""
    chain = material["x509CertificateChain"]["certificates"] if kind == "certificate" else [material["certificate"]]
    leaf, *_ = [_decoded(link["rawBytes"]) for link in chain]
    return leaf


def _signed_files(statement: Mapping[str, Any]) -> dict[str, str]:
    if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
        raise ValueError(f"it states {statement['predicateType']!r}, not {PREDICATE}")
    how = statement["predicate"]["serialization"]
    if (how["method"], how["hash_type"], how["allow_symlinks"]) != ("files", "sha256", False):
        raise ValueError("it is not of whole files by their sha256, links refused")
    resources: Sequence[Mapping[str, str]] = statement["predicate"]["resources"]
    files = {resource["name"]: resource["digest"] for resource in resources if resource["algorithm"] == "sha256"}
    if len(files) != len(resources):
        raise ValueError("it names a file twice, or not by its sha256")
    return files


def _only(value: Mapping[str, Any], known: set[str], *, needed: set[str] | None = None) -> None:
    """Refuses unknown keys, so that no other reader finds more in a signature than was checked here."""
    if not (known if needed is None else needed) <= value.keys() <= known:
        raise ValueError(f"it has other keys than {', '.join(sorted(known))}")


def _decoded(text: str) -> bytes:
    """Bytes of a base64 text in its canonical form: the last character can carry bits that most readers ignore."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("its base64 is not written in the plain form")
    return data


def strict_json(data: bytes) -> Any:
    """Parses JSON without duplicate keys, NaN or infinity.

    Raises:
        ValueError: it is not such JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(data.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_constant)


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


LEFT_BY_THE_HUB = (".gitattributes", ".git", ".cache")
"""What a Hub repository and the Hub's client put beside the files of a bundle. Nothing reads it, and no signature covers it."""
