"""trust.toml: whose bundles this machine takes. Anything that is wrong in it refuses every bundle; it never opens one.

    unsigned = "refuse"                  # or "load", in words

    [keys.build-server]
    pem = '''
    -----BEGIN PUBLIC KEY-----
    ...'''                               # or: file = "build-server.pub"

    [certificates.our-ca]
    file = "/etc/ssl/our-ca.pem"         # a root; whatever it vouches for counts
    subject = "CN=release,O=Example"     # optional: only this one

    [sigstore.release]
    identity = "release@example.org"
    issuer = "https://accounts.google.com"
    trust_config = "sigstore.json"       # optional: check without a network, or an instance of one's own

Files are named from trust.toml's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from edgebert.bundle.trust.folders import config_file, config_folder, write_private
from edgebert.bundle.trust.keys import PublicKey, own_key_bytes, own_public_key, read_public_key, read_trusted, refuse_others
from edgebert.core.strict import Strict
from edgebert.errors import EnvironmentFault, InputError, TrustError

CONFIG_LIMIT = 1 << 20
"""Bytes of trust.toml that are read at most."""
SECTIONS = ("keys", "certificates", "sigstore")
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class Pem(Strict):
    """A key or certificate: a file, or its text."""

    file: str | None = None
    pem: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file is None) == (self.pem is None):
            raise ValueError("give `file` or `pem`, one of them")
        return self


class KeyPin(Pem):
    """A public key that is trusted."""


class CertificatePin(Pem):
    """A root certificate that is trusted, and whom it may vouch for."""

    subject: str | None = None
    """Subject of the signing certificate as RFC 4514 writes it; None for all that the root vouches for."""


class SigstorePin(Strict):
    """An identity that sigstore vouches for."""

    identity: str = Field(min_length=1)
    issuer: str = Field(min_length=1)
    trust_config: str | None = None


class TrustFile(Strict):
    """The whole of trust.toml."""

    unsigned: Literal["refuse", "load"] = "refuse"
    keys: dict[Name, KeyPin] = Field(default_factory=dict)
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
    """A pinned root, and the one subject that it may vouch for, if only one."""

    pem: bytes
    subject: str | None


@dataclass(frozen=True)
class Sigstore:
    """A pinned identity, and the trust configuration to check it with, if not sigstore's own."""

    identity: str
    issuer: str
    trust_config: bytes | None


@dataclass(frozen=True)
class Trust:
    """Whom this machine trusts, with everything that trust.toml names read. No key is parsed yet."""

    unsigned: Literal["refuse", "load"]
    keys: Mapping[str, bytes]
    certificates: Mapping[str, Certificate]
    sigstore: Mapping[str, Sigstore]
    digest: str
    """sha256 over all of it and the own key: another one means that trust changed."""


def load_trust() -> Trust:
    """Reads trust.toml and the files that it names; without one, only the own key is trusted.

    Raises:
        TrustError: something in it is wrong. No bundle loads then.
    """
    data = read_config()
    file = _parsed(data)
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
    """Fingerprints of the keys that are trusted here: the own one first, then the pinned ones.

    Raises:
        TrustError: something in trust.toml is wrong.
    """
    own = own_public_key()
    pinned = (pinned_key(name, pem).fingerprint for name, pem in load_trust().keys.items())
    return tuple(dict.fromkeys([*([own.fingerprint] if own else []), *pinned]))


def pinned_key(name: str, pem: bytes) -> PublicKey:
    """The key of a pin.

    Raises:
        TrustError: trust.toml names something else there.
    """
    try:
        return read_public_key(pem, f"keys.{name}")
    except InputError as error:
        raise _wrong(f"{error.message}") from error


def pin_key(name: str, pem: str) -> str:
    """Trusts a public key from now on. Pinning it again under the same name changes nothing.

    Returns:
        Its fingerprint.

    Raises:
        InputError: it is no public key, or the name is taken.
        TrustError: something in trust.toml is wrong.
        EnvironmentFault: the configuration folder cannot be written.
    """
    key = read_public_key(pem.encode(), "What was given")
    with _locked():
        pins = load_trust().keys
        if name in pins and pinned_key(name, pins[name]).fingerprint == key.fingerprint:
            return key.fingerprint
        _append("keys", name, {"pem": key.pem})
    return key.fingerprint


def pin_certificate(name: str, pem: str, subject: str | None = None) -> None:
    """Trusts whatever a root certificate vouches for, or only one subject of it.

    Raises:
        InputError: the name is taken, or cannot be one.
        TrustError: something in trust.toml is wrong.
        EnvironmentFault: the configuration folder cannot be written.
    """
    with _locked():
        _append("certificates", name, {"pem": pem, **({"subject": subject} if subject else {})})


def pin_sigstore(name: str, identity: str, issuer: str) -> None:
    """Trusts an identity that sigstore vouches for. Raises as `pin_certificate`."""
    with _locked():
        _append("sigstore", name, {"identity": identity, "issuer": issuer})


def unpin(name: str) -> None:
    """Trusts what goes by that name no longer.

    Raises:
        InputError: nothing goes by it, or its entry is not written as `edgebert keys` writes them.
        TrustError: something in trust.toml is wrong.
        EnvironmentFault: the configuration folder cannot be written.
    """
    with _locked():
        data = read_config()
        before = _parsed(data).model_dump()
        section = next((section for section in SECTIONS if name in before[section]), None)
        if section is None:
            raise InputError(f"Nothing is trusted under the name {name}.", hint="`edgebert keys list` shows the names.")
        del before[section][name]
        _write(_without(data.decode(), f"[{section}.{name}]"), before, f"Remove [{section}.{name}]")


def read_config() -> bytes:
    """trust.toml as it is; nothing where there is none.

    Raises:
        TrustError: it cannot be read, is larger than any, or others may write it.
    """
    folder = config_folder()
    if folder is None:
        return b""
    path = folder / "trust.toml"
    try:
        with path.open("rb") as file:
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


def _parsed(data: bytes) -> TrustFile:
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


def _append(section: str, name: str, values: dict[str, str]) -> None:
    data = read_config()
    wanted = _parsed(data).model_dump()
    if any(name in wanted[other] for other in SECTIONS):
        raise InputError(
            f"{name} is trusted already, as something else.", hint=f"Take another name, or: edgebert keys distrust {name}"
        )
    lines = [f"[{section}.{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    kind = {"keys": KeyPin, "certificates": CertificatePin, "sigstore": SigstorePin}[section]
    wanted[section][name] = kind(**values).model_dump()
    text = data.decode()
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    _write(f"{text}{gap}" + "\n".join(lines) + "\n", wanted, f"Add [{section}.{name}]")


def _toml(value: str) -> str:
    """A string as TOML writes it: PEM over several lines, all else as JSON does, whose escapes are TOML's too."""
    if "\n" in value and not set("'\\") & set(value):
        return f"'''\n{value}'''"
    return json.dumps(value, ensure_ascii=True)


def _without(text: str, header: str) -> str:
    """The text without the table of that header. A line of a PEM never starts with a bracket."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        inside = line.strip() == header if line.startswith("[") else inside
        if not inside:
            kept.append(line)
    return "".join(kept)


def _write(text: str, wanted: dict[str, Any], by_hand: str) -> None:
    """Puts a new text in place if it says what is wanted: comments stay, and a form that was not foreseen is left alone."""
    path = config_file("trust.toml")
    try:
        right = _parsed(text.encode()).model_dump() == wanted
    except TrustError:
        right = False
    if not right:
        if not all(_is_name(name) for section in SECTIONS for name in wanted[section]):
            raise InputError("A name holds letters, digits, - and _ only, 64 at most.", hint="Take another with --name.")
        raise InputError(f"{path} is not written as `edgebert keys` writes it.", hint=f"{by_hand} by hand.")
    try:
        write_private(path, text.encode(), 0o644)
    except OSError as error:
        raise _unwritable(path, error) from error


def _is_name(name: str) -> bool:
    return name.replace("-", "a").replace("_", "a").isalnum() and name.isascii() and name[0].isalnum() and len(name) <= 64


def _unwritable(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be written: {error.strerror}.", hint="Name a folder that can, with XDG_CONFIG_HOME."
    )


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One process at a time changes trust.toml."""
    path = config_file("trust.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
