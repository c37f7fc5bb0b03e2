"""Lists and changes whom this machine trusts: pins in trust.toml, which keeps its comments."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgebert.bundle.trust.certificates import subject_of
from edgebert.bundle.trust.config import (
    NAME,
    SECTIONS,
    CertificatePin,
    Pem,
    SigstorePin,
    load_trust,
    parse_config,
    pinned_key,
    read_config,
)
from edgebert.bundle.trust.folders import config_file, write_private
from edgebert.bundle.trust.keys import own_key_file, own_public_key, read_public_key
from edgebert.errors import EnvironmentFault, InputError, TrustError


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


def pin_key(name: str, pem: str) -> str:
    """Adds a pin for a public key in PEM form. Pinning it again under the same name changes nothing.

    Returns:
        Fingerprint of the key.

    Raises:
        InputError: it is not a public key, or the name is taken.
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
    """Adds a pin for a root certificate: every certificate that it vouches for is trusted, or one subject's only.

    Raises:
        InputError: the name is taken, or is not a valid name.
        TrustError: something in trust.toml is wrong.
        EnvironmentFault: the configuration folder cannot be written.
    """
    with _locked():
        _append("certificates", name, {"pem": pem, **({"subject": subject} if subject else {})})


def pin_sigstore(name: str, identity: str, issuer: str) -> None:
    """Adds a pin for an identity that sigstore vouches for. Raises what `pin_certificate` raises."""
    with _locked():
        _append("sigstore", name, {"identity": identity, "issuer": issuer})


def unpin(name: str) -> None:
    """Removes a pin.

    Raises:
        InputError: there is no pin of that name, or it is not written as `edgebert keys` writes pins.
        TrustError: something in trust.toml is wrong.
        EnvironmentFault: the configuration folder cannot be written.
    """
    with _locked():
        data = read_config()
        before = parse_config(data).model_dump()
        section = next((section for section in SECTIONS if name in before[section]), None)
        if section is None:
            raise InputError(f"Nothing is trusted under the name {name}.", hint="`edgebert keys list` shows the names.")
        del before[section][name]
        _write(_without(data.decode(), f"[{section}.{name}]"), before, f"Remove [{section}.{name}]")


def _append(section: str, name: str, values: dict[str, str]) -> None:
    data = read_config()
    wanted = parse_config(data).model_dump()
    if any(name in wanted[other] for other in SECTIONS):
        raise InputError(
            f"{name} is trusted already, as something else.", hint=f"Take another name, or: edgebert keys distrust {name}"
        )
    lines = [f"[{section}.{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    kind = {"keys": Pem, "certificates": CertificatePin, "sigstore": SigstorePin}[section]
    wanted[section][name] = kind(**values).model_dump()
    text = data.decode()
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    _write(f"{text}{gap}" + "\n".join(lines) + "\n", wanted, f"Add [{section}.{name}]")


def _toml(value: str) -> str:
    """A string in TOML: PEM over several lines, other strings as in JSON, whose escapes TOML has too."""
    if "\n" in value and not set("'\\") & set(value):
        return f"'''\n{value}'''"
    return json.dumps(value, ensure_ascii=True)


def _without(text: str, header: str) -> str:
    """A TOML text without the table under a header. No line of a PEM text starts with a bracket."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        inside = line.strip() == header if line.startswith("[") else inside
        if not inside:
            kept.append(line)
    return "".join(kept)


def _write(text: str, wanted: dict[str, Any], by_hand: str) -> None:
    """Replaces trust.toml by a text, if the text parses to what is wanted: a file of an unforeseen form is left alone."""
    path = config_file("trust.toml")
    try:
        right = parse_config(text.encode()).model_dump() == wanted
    except TrustError:
        right = False
    if not right:
        if not all(re.fullmatch(NAME, name) for section in SECTIONS for name in wanted[section]):
            raise InputError("A name holds letters, digits, - and _ only, 64 at most.", hint="Take another with --name.")
        raise InputError(f"{path} is not written as `edgebert keys` writes it.", hint=f"{by_hand} by hand.")
    try:
        write_private(Path(os.path.realpath(path)), text.encode(), 0o644)  # a link, as dotfiles are, stays one
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be written: {error.strerror}.", hint="Name a folder that can, with XDG_CONFIG_HOME."
    )


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Lets one process at a time change trust.toml."""
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
