"""trust.toml: whose bundles this machine loads. While anything in it is wrong, no bundle loads.

    unsigned = "refuse"                  # or "load"

    [keys.build-server]
    pem = '''
    -----BEGIN PUBLIC KEY-----
    ...'''                               # or: file = "build-server.pub"

    [certificates.our-ca]
    file = "/etc/ssl/our-ca.pem"         # a root: every certificate that it vouches for is trusted
    subject = "CN=release,O=Example"     # optional: trust this subject only

    [sigstore.release]
    identity = "release@example.org"
    issuer = "https://accounts.google.com"
    trust_config = "sigstore.json"       # optional: for checks without a network, or by a sigstore instance of your own

Relative paths count from the folder of trust.toml.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from edgebert.bundle.trust.folders import config_file, config_folder
from edgebert.bundle.trust.keys import PublicKey, own_key_bytes, own_public_key, read_public_key, read_trusted, refuse_others
from edgebert.core.files import open_regular
from edgebert.core.strict import Strict
from edgebert.errors import InputError, TrustError

CONFIG_LIMIT = 1 << 20
"""Most bytes that trust.toml may have."""
SECTIONS = ("keys", "certificates", "sigstore")
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""What a pin may be called."""
Name = Annotated[str, StringConstraints(pattern=NAME)]


class Pem(Strict):
    """A trusted public key, or a certificate: a file, or its text in PEM form."""

    file: str | None = None
    pem: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file is None) == (self.pem is None):
            raise ValueError("give `file` or `pem`, one of them")
        return self


class CertificatePin(Pem):
    """A trusted root certificate, and the subject that it may vouch for."""

    subject: str | None = None
    """Subject of the signing certificate, written as RFC 4514 does; None for every subject."""


class SigstorePin(Strict):
    """A trusted identity: sigstore has to vouch for it."""

    identity: str = Field(min_length=1)
    issuer: str = Field(min_length=1)
    trust_config: str | None = None


class TrustFile(Strict):
    """The whole of trust.toml."""

    unsigned: Literal["refuse", "load"] = "refuse"
    keys: dict[Name, Pem] = Field(default_factory=dict)
    certificates: dict[Name, CertificatePin] = Field(default_factory=dict)
    sigstore: dict[Name, SigstorePin] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        names = [name for section in SECTIONS for name in getattr(self, section)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} names two things")
        return self


@dataclass(frozen=True)
class Certificate:
    """A pinned root certificate, and the only subject that it may vouch for; None for every subject."""

    pem: bytes
    subject: str | None


@dataclass(frozen=True)
class Sigstore:
    """A pinned identity, and the client trust configuration to check it with; None for sigstore's own."""

    identity: str
    issuer: str
    trust_config: bytes | None


@dataclass(frozen=True)
class Trust:
    """Whom this machine trusts: trust.toml and the content of every file that it names. No key is parsed yet."""

    unsigned: Literal["refuse", "load"]
    keys: Mapping[str, bytes]
    certificates: Mapping[str, Certificate]
    sigstore: Mapping[str, Sigstore]
    digest: str
    """sha256 over trust.toml, the files that it names and the own key. It changes when trust changes."""


def load_trust() -> Trust:
    """Reads trust.toml and the files that it names. Without a trust.toml only the own key is trusted.

    Raises:
        TrustError: something in trust.toml is wrong.
    """
    data = read_config()
    file = parse_config(data)
    folder = config_folder() or Path()
    keys = {name: _content(folder, pin, f"keys.{name}") for name, pin in file.keys.items()}
    certificates = {
        name: Certificate(_content(folder, pin, f"certificates.{name}"), pin.subject) for name, pin in file.certificates.items()
    }
    sigstore = {
        name: Sigstore(pin.identity, pin.issuer, _trust_config(folder, pin, f"sigstore.{name}.trust_config"))
        for name, pin in file.sigstore.items()
    }
    parts = [data, own_key_bytes() or b"", *keys.values(), *(pin.pem for pin in certificates.values())]
    parts += [pin.trust_config or b"" for pin in sigstore.values()]
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    return Trust(file.unsigned, keys, certificates, sigstore, digest)


def trusted_fingerprints() -> tuple[str, ...]:
    """Fingerprints of the keys that this machine trusts: its own key, then the pinned ones.

    Raises:
        TrustError: something in trust.toml is wrong.
    """
    own = own_public_key()
    pinned = (pinned_key(name, pem).fingerprint for name, pem in load_trust().keys.items())
    return tuple(dict.fromkeys([*([own.fingerprint] if own else []), *pinned]))


def pinned_key(name: str, pem: bytes) -> PublicKey:
    """The public key of a pin.

    Raises:
        TrustError: the pin holds no public key.
    """
    try:
        return read_public_key(pem, f"keys.{name}")
    except InputError as error:
        raise _wrong(error.message) from error


def read_config() -> bytes:
    """Content of trust.toml; empty where there is no such file.

    Raises:
        TrustError: the file cannot be read, is larger than 1 MB, or other users may write it.
    """
    folder = config_folder()
    if folder is None:
        return b""
    path = folder / "trust.toml"
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            data = file.read(CONFIG_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}.", hint="No bundle loads until it can be.") from error
    refuse_others(path, status)
    if len(data) > CONFIG_LIMIT:
        raise TrustError(f"{path} is larger than {CONFIG_LIMIT >> 20} MB.", hint="No bundle loads until it is put right.")
    return data


def parse_config(data: bytes) -> TrustFile:
    """Checks the content of trust.toml.

    Raises:
        TrustError: with everything that is wrong in it.
    """
    try:
        return TrustFile.model_validate(tomllib.loads(data.decode()))
    except ValidationError as error:
        raise _wrong("; ".join(map(_problem, error.errors()))) from error
    except (ValueError, RecursionError) as error:
        raise _wrong(f"it is no TOML: {error}") from error


def _problem(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    what = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        what = "there is no such key"
    if error["type"] == "string_pattern_mismatch":
        what = "a name holds letters, digits, - and _ only"
    return f"{where}: {what}" if where else what


def _wrong(what: str) -> TrustError:
    return TrustError(f"{config_file('trust.toml')} is wrong: {what}.", hint="No bundle loads until it is put right.")


def _content(folder: Path, pin: Pem, where: str) -> bytes:
    if pin.pem is not None:
        return pin.pem.encode()
    assert pin.file is not None
    return _read(folder / pin.file, f"{where}.file")


def _trust_config(folder: Path, pin: SigstorePin, where: str) -> bytes | None:
    return None if pin.trust_config is None else _read(folder / pin.trust_config, where)


def _read(path: Path, where: str) -> bytes:
    try:
        return read_trusted(path)
    except (OSError, ValueError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _wrong(f"{where}: {path} cannot be read: {reason}") from error
