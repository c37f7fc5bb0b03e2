"""Addresses of devices: `pi@kitchen:folder`, `ssh://pi@kitchen:2222/folder`, or a folder of this machine."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgebert.core.files import local_path
from edgebert.devices.agent.protocol import DEFAULT_ROOT
from edgebert.errors import InputError

SCHEME = "ssh://"
LONGEST = 1024
FORMS = "Write pi@kitchen, pi@kitchen:folder, ssh://pi@kitchen:2222/folder, or a folder such as ./kitchen."

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class LocalAddress:
    """A folder of this machine."""

    folder: Path


@dataclass(frozen=True)
class SshAddress:
    """A folder of a host that is reached by SSH. ~/.ssh/config decides what is None."""

    host: str
    """Name, alias of ~/.ssh/config, or IP address without brackets."""
    user: str | None = None
    port: int | None = None
    root: str = DEFAULT_ROOT
    """Folder on the host; a relative one is in the home of the user there."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" if self.user else host


def parse_address(text: str, *, base: Path | None = None) -> LocalAddress | SshAddress:
    """Parses an address; connects to nothing.

    Args:
        base: folder of relative local paths; the current folder by default.

    Raises:
        InputError: it is no address, or has a part that an address must not have.
    """
    _check_text(text)
    if text.startswith(SCHEME):
        return _parse_url(text)
    if "://" in text:
        raise InputError(f"{text.partition('://')[0]}:// is no way to a device.", hint=FORMS)
    base = base or Path.cwd()
    if _is_local(text, base):
        return LocalAddress(local_path(text, base))
    return _parse_short(text)


def remote_root(text: str) -> str:
    """Checks a folder on a device: an absolute path, or one relative to the home of the user there.

    Raises:
        InputError: it cannot be used.
    """
    _check_text(text, what="folder")
    if text.startswith("~") and text != "~" and not text.startswith("~/"):
        raise InputError(f"{text!r} is in somebody else's home.", hint="Name the folder from / on, or from your own home.")
    inner = text[1:].lstrip("/") if text.startswith("~") else text
    path = PurePosixPath(inner or ".")
    if ".." in path.parts:
        raise InputError(f"{text!r} leads upwards.", hint="Name the folder from / on, or from your own home.")
    if path in (PurePosixPath("."), PurePosixPath("/")):
        raise InputError(f"{text!r} is no folder of its own.", hint=f"Name one in it, such as {DEFAULT_ROOT}.")
    return str(path)


def _check_text(text: str, what: str = "address") -> None:
    if not text.strip():
        raise InputError(f"The {what} is empty.", hint=FORMS)
    if len(text) > LONGEST:
        raise InputError(f"The {what} {text[:40]!r}... is too long.", hint=FORMS)
    if not text.isprintable() or text != text.strip():
        raise InputError(f"The {what} {text!r} holds characters that cannot stand in one.", hint=FORMS)
    if text.startswith("-"):
        raise InputError(f"{text!r} looks like an option and not like a device.", hint=FORMS)
    if _DRIVE.match(text) or "\\" in text:
        raise InputError(f"{text!r} is a path of Windows.", hint="Devices run Linux; write their paths with /.")


def _is_local(text: str, base: Path) -> bool:
    """Whether the text is a local path: by its form (as with scp, a slash before the first colon), or because it exists."""
    if text.startswith(("/", "~")) or text in (".", "..") or "/" in text.partition(":")[0]:
        return True
    try:
        return (base / text).is_dir()
    except OSError:
        return False


def _parse_url(text: str) -> SshAddress:
    authority, slash, path = text.removeprefix(SCHEME).partition("/")
    if "?" in text or "#" in text:
        raise InputError(f"{_shown(text)} has a part after ? or #, which an address has not.", hint=FORMS)
    user, rest = _split_user(authority, text)
    host, port = _split_port(rest, text)
    if not path:
        root = DEFAULT_ROOT
    elif path.startswith("~"):
        root = remote_root(path)
    else:
        root = remote_root(slash + path)
    return SshAddress(_checked_host(host, text), user, port, root)


def _parse_short(text: str) -> SshAddress:
    if text.startswith("[") or "@[" in text:
        before, _, path = text.partition("]")
        if path and not path.startswith(":"):
            raise InputError(f"{_shown(text)}: after the ] of an IPv6 address only :folder can stand.", hint=FORMS)
        authority, path = f"{before}]" if "]" in text else text, path[1:]
    else:
        at = text.rfind("@", 0, text.find("/") if "/" in text else len(text))
        if at > 0 and ":" in text[:at]:
            _split_user(text, text)  # refuses the password
        if text.count(":") > 1 and _is_ipv6(text[at + 1 :]):
            raise InputError(f"{_shown(text)}: an IPv6 address stands in brackets.", hint=f"[{text[at + 1 :]}]")
        authority, _, path = text.partition(":")
    user, host = _split_user(authority, text)
    return SshAddress(_checked_host(host, text), user, None, remote_root(path) if path else DEFAULT_ROOT)


def _split_user(authority: str, text: str) -> tuple[str | None, str]:
    user, at, host = authority.rpartition("@")
    if not at:
        return None, authority
    if ":" in user:
        raise InputError(
            f"The address of {host or 'a device'} holds a password, which edgebert neither takes nor sends.",
            hint="Let the device know your public key once (ssh-copy-id), and take the password out.",
        )
    if not _USER.fullmatch(user):
        raise InputError(f"{user!r} is no name of a user on a device ({_shown(text)}).", hint=FORMS)
    return user, host


def _split_port(rest: str, text: str) -> tuple[str, int | None]:
    if rest.startswith("["):
        host, bracket, after = rest.partition("]")
        host += bracket
        if after and not after.startswith(":"):
            raise InputError(f"{_shown(text)}: after the ] of an IPv6 address only :port can stand.", hint=FORMS)
        port = after[1:] if after else None
    else:
        if rest.count(":") > 1:
            raise InputError(f"{_shown(text)}: an IPv6 address stands in brackets.", hint="ssh://pi@[fe80::1]:22/folder")
        host, colon, port_text = rest.partition(":")
        port = port_text if colon else None
    if port is None:
        return host, None
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        raise InputError(f"{port!r} is no port ({_shown(text)}).", hint="A port is a number from 1 to 65535.")
    return host, int(port)


def _checked_host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        if not _is_ipv6(host[1:-1]):
            raise InputError(f"{host} is no IPv6 address ({_shown(text)}).", hint=FORMS)
        return host[1:-1]
    if not _HOST.fullmatch(host):
        raise InputError(f"{host!r} is no name of a host ({_shown(text)}).", hint=FORMS)
    return host


def _is_ipv6(text: str) -> bool:
    try:
        scope = ipaddress.IPv6Address(text).scope_id
    except ValueError:
        return False
    return scope is None or re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", scope) is not None


def _shown(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
