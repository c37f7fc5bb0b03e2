"""Host keys: the known ones, and the errors for an unknown or changed one. They are always checked."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.devices.transport.address import SshAddress
from edgebert.errors import DeviceError

if TYPE_CHECKING:
    import asyncssh

OWN_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
STRICT_OFF = "StrictHostKeyChecking in ~/.ssh/config does not change that: edgebert always checks."


class KnownHosts:
    """The keys of known_hosts files. asyncssh calls it with a host; `found` keeps the keys of that host.

    Args:
        named: files that ~/.ssh/config names; None for the usual ones.
    """

    def __init__(self, named: Sequence[str] | None) -> None:
        import asyncssh

        self._files: list[tuple[Path, asyncssh.SSHKnownHosts]] = []
        self.found: list[tuple[Path, Any]] = []
        """Keys of the host, each with its file."""
        self.asked: tuple[str, int | None] | None = None
        for text in [*OWN_FILES, *GLOBAL_FILES] if named is None else named:
            path = Path(text).expanduser()
            try:
                if path.is_file():
                    self._files.append((path, asyncssh.read_known_hosts(str(path))))
            except OSError as error:
                raise DeviceError(f"{path} cannot be read: {error.strerror}.") from error
            except ValueError as error:
                raise DeviceError(f"{path}: {error}.", hint="Mend or drop that line.") from error

    def __call__(self, host: str, address: str, port: int | None) -> tuple[list[Any], list[Any], list[Any]]:
        """Host keys, certificate authorities and revoked keys for a host.

        As in OpenSSH, only keys that are known by the host's name are accepted. Keys known by its address are not: an
        attacker with the key of another host that once had this address would pass for this one. A key that is revoked by
        name or by address is refused.
        """
        self.asked = (host, port)
        names = [name for name in dict.fromkeys((host, address)) if name]
        written = [*names, *(f"[{name}]:{port}" for name in names if port)]
        keys: list[Any] = []
        authorities: list[Any] = []
        revoked: list[Any] = []
        for path, file in self._files:
            match = file.match(host, "", port)
            keys += match[0]
            authorities += match[1]
            for name in written:
                revoked += file.match(name, "", None)[2]
            self.found += [(path, key) for key in match[0]]
        return keys, authorities, revoked


def unknown_key(address: SshAddress, offered: Any, *, port: int, strict_off: bool) -> DeviceError:
    """The error for a host that no known_hosts file names."""
    shown = f" It offers {_described(offered)}." if offered else ""
    login = _login(address, port)
    hint = (
        f"Log in once with `{login}`, and say yes if the fingerprint is the one that the device itself shows "
        f"(there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub). `ssh-keyscan` would accept any host that answers."
    )
    return DeviceError(
        f"The host key of {address} is not known here, so nothing was sent.{shown}",
        hint=f"{hint}\n  {STRICT_OFF}" if strict_off else hint,
    )


def changed_key(address: SshAddress, offered: Any, known: KnownHosts, *, port: int) -> DeviceError:
    """The error for a host whose key is not the known one."""
    file = known.found[0][0]
    kinds = dict.fromkeys(_described(key) for _, key in known.found)
    shown = f"it offers {_described(offered)}" if offered else "it offers none of that kind"
    host, asked_port = known.asked or (address.host, port)
    name = f"[{host}]:{asked_port}" if asked_port else host
    return DeviceError(
        f"THE HOST KEY OF {address} HAS CHANGED, so nothing was sent: {shown}, but {file} knows {', '.join(kinds)}.",
        hint=(
            "Either the device was set up anew, or somebody is in between. Compare the fingerprint on the device itself "
            "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub). If it is right, drop the old key: "
            f"ssh-keygen -f {shlex.quote(str(file))} -R {shlex.quote(name)} and log in once with `{_login(address, port)}`."
        ),
    )


def _described(key: Any) -> str:
    return f"{key.algorithm.decode()} {key.get_fingerprint()}"


def _login(address: SshAddress, port: int) -> str:
    user = f"{address.user}@" if address.user else ""
    return f"ssh -p {port} {user}{address.host}" if address.port else f"ssh {user}{address.host}"


def known_hosts_files(options: asyncssh.SSHClientConnectionOptions) -> list[str] | None:
    """The known_hosts files that ~/.ssh/config names for a host; None where it names none, so that the usual ones are used.

    With `UserKnownHostsFile none` only the global files are used; asyncssh would check no keys then.
    """
    named: Any = options.known_hosts
    if named is None:
        return list(GLOBAL_FILES)
    if not named:
        return None
    return [str(file) for file in named]
