"""Connecting by SSH: what ~/.ssh/config and the agent say about a host, the hosts before it, and checked host keys.

Only keys are used, never a password. Host keys are always checked. Compression stays off: zlib saves a tenth of INT8 weights
and takes longer than the encryption.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.devices.transport.address import SshAddress, parse_address
from edgebert.devices.transport.host_keys import KnownHosts, known_hosts_files
from edgebert.devices.transport.ssh_faults import Attempt, explain
from edgebert.errors import DeviceError, EdgebertError, MissingPackage

if TYPE_CHECKING:
    import asyncssh

CONNECT_S = 20.0
ALIVE_INTERVAL_S = 10.0
ALIVE_COUNT = 2
"""A lost peer is noticed after the third interval without an answer."""
CLOSES_WITHIN_S = 1.0
"""Seconds to wait for an end. OpenSSH as root passes no signals: there a command ends when its output has no reader."""
MAX_JUMPS = 8
_STRICT_OFF = re.compile(r"^\s*StrictHostKeyChecking[\s=]+(no|off|accept-new)\b", re.IGNORECASE | re.MULTILINE)


async def connect(
    address: SshAddress, identity: Path | None, stack: AsyncExitStack, *, jumps: int = 0, through: Any = None
) -> Any:
    """Opens a connection, and before it those to the jump hosts (ProxyJump), whose keys are checked as well.

    Args:
        identity: file of a private key, besides those that ~/.ssh/config and the agent know.
        stack: closes the connections.
        jumps: number of hosts behind this one.
        through: connection to the host before it; None where ~/.ssh/config says how it is reached.

    Raises:
        DeviceError: with the reason in words.
    """
    if jumps > MAX_JUMPS:
        raise DeviceError(f"The way to {address} has more than {MAX_JUMPS} hosts.", hint="See ProxyJump in ~/.ssh/config.")
    options, locked = await asyncio.get_running_loop().run_in_executor(None, _configured, address, identity)
    import asyncssh  # it is installed, or there would be no options

    timeout_s = float(options.connect_timeout or CONNECT_S)
    for hop in _hops(options.tunnel) if through is None else ():
        through = await connect(hop, None, stack, jumps=jumps + 1, through=through)
    known = KnownHosts(known_hosts_files(options))
    attempt = Attempt(address, known, options.host, options.port, options.username, _strict_is_off(Path.home()))
    settings = {
        **_settings(options),
        "tunnel": through,
        "known_hosts": known,
        "client_factory": lambda: _watcher(attempt),
    }
    try:
        async with asyncio.timeout(timeout_s):
            try:
                connection = await asyncssh.connect(address.host, options=options, **settings)
            except (ConnectionError, asyncssh.ConnectionLost, asyncssh.KeyExchangeFailed):
                if not known.found or attempt.offered:
                    raise
                # It may have no key of the known kinds. Connecting again shows which key it has; that one is not trusted.
                connection = await asyncssh.connect(address.host, options=options, server_host_key_algs="default", **settings)
    except (OSError, asyncssh.Error, TimeoutError) as error:
        if locked and isinstance(error, asyncssh.PermissionDenied):
            raise _passphrase(address, identity) from error
        raise explain(error, attempt, timeout_s) from error
    stack.push_async_callback(_close, connection)
    return connection


def _configured(address: SshAddress, identity: Path | None) -> tuple[asyncssh.SSHClientConnectionOptions, bool]:
    """Options of ~/.ssh/config for a host, and whether the identity has a passphrase, so that the agent must have its key.

    Raises:
        DeviceError: the file, or a key that it names, cannot be used.
    """
    try:
        import asyncssh
    except ImportError as error:
        raise MissingPackage("asyncssh", needed_for="Reaching a device by SSH", extra="ship") from error
    named: dict[str, Any] = {"host": address.host, "config": (), "x509_trusted_certs": None}
    if address.user:
        named["username"] = address.user
    if address.port:
        named["port"] = address.port
    if identity:
        named["client_keys"] = [str(identity)]
    try:
        try:
            return asyncssh.SSHClientConnectionOptions(**named), False
        except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
            if identity is None or "assphrase" not in str(error):
                raise
        return asyncssh.SSHClientConnectionOptions(**named, **_agent_options(identity)), True
    except asyncssh.ConfigParseError as error:
        raise DeviceError(f"~/.ssh/config cannot be used: {error}.") from error
    except OSError as error:
        raise DeviceError(
            f"The key {error.filename} for {address} cannot be read: {error.strerror}.",
            hint="See IdentityFile in ~/.ssh/config, or `identity` in the fleet's file.",
        ) from error
    except (ValueError, asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        if "assphrase" in str(error):
            raise _passphrase(address, identity) from error
        raise DeviceError(f"The configuration of {address} cannot be used: {error}.", hint="See ~/.ssh/config.") from error


def _agent_options(identity: Path) -> dict[str, Any]:
    """Options that take the key from the agent; a public key beside it says which, for servers refuse too many keys."""
    public = identity.with_name(f"{identity.name}.pub")
    return {"ignore_encrypted": True, **({"agent_identities": [str(public)]} if public.is_file() else {})}


def _passphrase(address: SshAddress, identity: Path | None) -> DeviceError:
    return DeviceError(
        f"The key for {address} is protected by a passphrase, and no key of your agent is let in.",
        hint=f"Give it to your agent once: ssh-add {shlex.quote(str(identity)) if identity else 'FILE'}",
    )


def _settings(options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
    """Settings for every host: keys alone, nothing forwarded, no compression, and messages that notice a lost peer."""
    settings: dict[str, Any] = {
        "password_auth": False,
        "kbdint_auth": False,
        "gss_auth": False,
        "gss_kex": False,
        "host_based_auth": False,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "compression_algs": None,
        "login_timeout": 0,  # the time for the whole connection is bounded above
    }
    if not options.keepalive_interval:
        settings |= {"keepalive_interval": ALIVE_INTERVAL_S, "keepalive_count_max": ALIVE_COUNT}
    return settings


def _hops(tunnel: object) -> list[SshAddress]:
    """The hosts of a ProxyJump: ~/.ssh/config says how the first is reached, and each leads to the next."""
    texts = tunnel.split(",") if isinstance(tunnel, str) else []
    hops = [parse_address(text if text.startswith("ssh://") else f"ssh://{text.strip()}") for text in texts]
    return [hop for hop in hops if isinstance(hop, SshAddress)]


def _watcher(attempt: Attempt) -> asyncssh.SSHClient:
    """A client that keeps the host key that it refuses in `attempt`."""
    import asyncssh

    class Watcher(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            attempt.offered = key
            return False

        validate_host_ca_key = validate_host_public_key

    return Watcher()


def _strict_is_off(home: Path) -> bool:
    """Whether ~/.ssh/config switches the check of host keys off for any host, which has no effect here."""
    try:
        return _STRICT_OFF.search((home / ".ssh" / "config").read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False


def machine_of(address: SshAddress) -> str:
    """See `Device.machine`: the host that ~/.ssh/config makes of the address, and the way there; empty for loopback."""
    try:
        options, _ = _configured(address, None)
    except EdgebertError:  # reported when it is connected to
        return address.host
    way = options.tunnel or options.proxy_command
    if way:
        return f"{options.host} by {way}"
    try:
        loopback = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        loopback = options.host == "localhost"
    return "" if loopback else options.host


async def _close(connection: Any) -> None:
    connection.close()
    try:
        async with asyncio.timeout(CLOSES_WITHIN_S):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()
    except OSError:  # the connection was cut
        pass
