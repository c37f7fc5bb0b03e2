"""SshDevice: a host with Python and an SSH server; nothing of ours runs there between two commands.

Only keys are used, never a password. Host keys are always checked. Compression stays off: zlib takes a tenth off
INT8 weights, and longer than the encryption.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.devices.transport.address import SshPlace
from edgebert.devices.transport.base import Channel, Device
from edgebert.devices.transport.channel import CommandChannel
from edgebert.devices.transport.conversation import GOES_ON
from edgebert.devices.transport.host_keys import KnownHosts, connects_with
from edgebert.devices.transport.running import Ended, Running, StreamClosed
from edgebert.devices.transport.ssh_faults import Attempt, explain
from edgebert.errors import DeviceError, DeviceLost, EdgebertError, MissingPackage

if TYPE_CHECKING:
    import asyncssh

CONNECT_S = 20.0
ALIVE_INTERVAL_S = 10.0
ALIVE_COUNT = 2
"""A peer that is gone is noticed after the third interval without an answer."""
CLOSES_WITHIN_S = 1.0
"""A server that passes no signals (OpenSSH does not for root) lets a command end by itself, when nobody reads it any more."""
PART_BYTES = 1 << 16
MAX_JUMPS = 8
_STRICT_OFF = re.compile(r"^\s*StrictHostKeyChecking[\s=]+(no|off|accept-new)\b", re.IGNORECASE | re.MULTILINE)


class SshDevice(Device):
    """A host that is reached by SSH.

    Args:
        python: runs the agent there; by default that of the environment that `devices setup` makes, else `python3`.
        identity: file of the private key, where ~/.ssh/config and the agent do not know it.
    """

    def __init__(
        self,
        name: str,
        place: SshPlace,
        *,
        labels: Mapping[str, str] | None = None,
        target: str | None = None,
        python: str | None = None,
        identity: Path | None = None,
    ) -> None:
        self.name, self.root, self.labels, self.place = name, place.root, dict(labels or {}), place
        root = place.root if place.root.startswith("/") else f"~/{place.root}"
        self.pythons = (python,) if python else (f"{root}/venv/bin/python", "python3")
        self.python = python
        self._target, self._identity = target or name, identity
        self._machine: str | None = None

    @property
    def target(self) -> str:
        """What names it on the command line."""
        return self._target

    @property
    def machine(self) -> str:
        """The host that ~/.ssh/config makes of it, and the way there; empty for loopback.

        Read in place, although a `Match exec` may take its time: whoever takes turns asks it before any connection is open.
        """
        if self._machine is None:
            self._machine = _machine(self.place)
        return self._machine

    @property
    def where(self) -> str:
        """User, host and port as they were written."""
        return f"{self.place}:{self.place.port or ''}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """Logs in."""
        async with AsyncExitStack() as stack:
            connection = await _connect(self.place, self._identity, stack)
            yield SshChannel(self.name, self._target, self.pythons, connection)


async def _connect(
    place: SshPlace, identity: Path | None, stack: AsyncExitStack, *, jumps: int = 0, through: Any = None
) -> Any:
    """Opens a connection, and before it those to the hosts that lie between (ProxyJump): their keys are checked as well.

    Args:
        jumps: hosts that this is already on the way to.
        through: connection to the host before it; None where ~/.ssh/config says how it is reached.

    Raises:
        DeviceError: with the reason in words.
    """
    if jumps > MAX_JUMPS:
        raise DeviceError(f"The way to {place} goes over more than {MAX_JUMPS} hosts.", hint="See ProxyJump in ~/.ssh/config.")
    options, locked = await asyncio.get_running_loop().run_in_executor(None, _configured, place, identity)
    import asyncssh  # it is there, or there would be no options

    timeout_s = float(options.connect_timeout or CONNECT_S)
    for hop in _hops(options.tunnel) if through is None else ():
        through = await _connect(hop, None, stack, jumps=jumps + 1, through=through)
    known = KnownHosts(connects_with(options))
    attempt = Attempt(
        place, known, host=options.host, port=options.port, user=options.username, strict_off=_strict_is_off(Path.home())
    )
    settings = {
        **_settings(options),
        "tunnel": through,
        "known_hosts": known,
        "client_factory": lambda: _watcher(attempt),
    }
    try:
        async with asyncio.timeout(timeout_s):
            try:
                connection = await asyncssh.connect(place.host, options=options, **settings)
            except (ConnectionError, asyncssh.ConnectionLost, asyncssh.KeyExchangeFailed):
                if not known.found or attempt.offered:
                    raise
                # It may have none of the kinds of key that are known: which one it has is asked, and not trusted.
                connection = await asyncssh.connect(place.host, options=options, server_host_key_algs="default", **settings)
    except (OSError, asyncssh.Error, TimeoutError) as error:
        if locked and isinstance(error, asyncssh.PermissionDenied):
            raise _passphrase(place, identity) from error
        raise explain(error, attempt, timeout_s) from error
    stack.push_async_callback(_close, connection)
    return connection


def _configured(place: SshPlace, identity: Path | None) -> tuple[asyncssh.SSHClientConnectionOptions, bool]:
    """What ~/.ssh/config says about a host, and whether the identity is left to the agent, because a passphrase protects it.
    Reads files.

    Raises:
        DeviceError: it, or a key that it names, cannot be used.
    """
    try:
        import asyncssh
    except ImportError as error:
        raise MissingPackage("asyncssh", needed_for="Reaching a device by SSH", extra="ship") from error
    named: dict[str, Any] = {"host": place.host, "config": (), "x509_trusted_certs": None}
    if place.user:
        named["username"] = place.user
    if place.port:
        named["port"] = place.port
    if identity:
        named["client_keys"] = [str(identity)]
    try:
        try:
            return asyncssh.SSHClientConnectionOptions(**named), False
        except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
            if identity is None or "assphrase" not in str(error):
                raise
        return asyncssh.SSHClientConnectionOptions(**named, **_of_the_agent(identity)), True
    except asyncssh.ConfigParseError as error:
        raise DeviceError(f"~/.ssh/config cannot be used: {error}.") from error
    except OSError as error:
        raise DeviceError(
            f"The key {error.filename} for {place} cannot be read: {error.strerror}.",
            hint="See IdentityFile in ~/.ssh/config, or `identity` in the fleet's file.",
        ) from error
    except (ValueError, asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        if "assphrase" in str(error):
            raise _passphrase(place, identity) from error
        raise DeviceError(f"What is configured for {place} cannot be used: {error}.", hint="See ~/.ssh/config.") from error


def _of_the_agent(identity: Path) -> dict[str, Any]:
    """Options that take a key from the agent. Its public part, where it lies beside it, says which: too many are refused."""
    public = identity.with_name(f"{identity.name}.pub")
    return {"ignore_encrypted": True, **({"agent_identities": [str(public)]} if public.is_file() else {})}


def _passphrase(place: SshPlace, identity: Path | None) -> DeviceError:
    return DeviceError(
        f"The key for {place} is protected by a passphrase, and no key of your agent is let in.",
        hint=f"Give it to your agent once: ssh-add {shlex.quote(str(identity)) if identity else 'FILE'}",
    )


def _settings(options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
    """What does not depend on the host: keys alone, nothing forwarded, no compression, a peer that is gone is noticed."""
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


def _hops(tunnel: object) -> list[SshPlace]:
    """The hosts of a ProxyJump: ~/.ssh/config says how the first is reached, and each leads to the next."""
    if not isinstance(tunnel, str):
        return []
    from edgebert.devices.transport.address import parse_address

    hops = []
    for text in tunnel.split(","):
        place = parse_address(text if text.startswith("ssh://") else f"ssh://{text.strip()}")
        assert isinstance(place, SshPlace)
        hops.append(place)
    return hops


def _watcher(attempt: Attempt) -> asyncssh.SSHClient:
    """A client that remembers the host key that it does not accept."""
    import asyncssh

    class Watcher(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            attempt.offered = key
            return False

        def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            attempt.offered = key
            return False

    return Watcher()


def _strict_is_off(home: Path) -> bool:
    """Whether ~/.ssh/config asks anywhere that host keys shall not be checked, which does not count here."""
    try:
        return _STRICT_OFF.search((home / ".ssh" / "config").read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False


def _machine(place: SshPlace) -> str:
    try:
        options, _ = _configured(place, None)
    except EdgebertError:  # said when it is opened
        return place.host
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


class SshChannel(CommandChannel):
    """Runs commands over one connection."""

    def __init__(self, name: str, target: str, pythons: Sequence[str], connection: Any) -> None:
        super().__init__(name=name, target=target, pythons=pythons)
        self._connection = connection

    async def start(self, program: str, arguments: Sequence[str]) -> Running:
        """Starts a command; every part of it is quoted for the shell there."""
        import asyncssh

        try:
            process = await self._connection.create_process(
                command_line(program, arguments), encoding=None, request_pty=False, env=(), send_env=()
            )
        except asyncssh.ChannelOpenError as error:
            if self._connection.is_closed() or "connection closed" in str(error.reason).lower():
                raise DeviceLost(f"The connection to {self._name} was cut.", hint=GOES_ON) from error
            raise DeviceError(f"{self._name} does not let a command be started: {error.reason}.") from error
        except (OSError, asyncssh.Error) as error:
            raise DeviceLost(f"The connection to {self._name} was cut.", hint=GOES_ON) from error
        return SshRunning(process)


def command_line(program: str, arguments: Sequence[str]) -> str:
    """A command for a shell. `~/` before the program stays outside the quotes, so that the shell puts in the home."""
    home, inner = ("~/", program[2:]) if program.startswith("~/") else ("", program)
    return " ".join([home + shlex.quote(inner), *map(shlex.quote, arguments)])


class SshRunning:
    """A process on the other side."""

    def __init__(self, process: Any) -> None:
        self._process = process

    async def write(self, data: bytes) -> None:
        """As `Running.write`."""
        import asyncssh

        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise StreamClosed from error

    async def end_input(self) -> None:
        """As `Running.end_input`."""
        with contextlib.suppress(OSError):
            self._process.stdin.write_eof()

    async def read(self) -> bytes:
        """As `Running.read`."""
        return await self._read(self._process.stdout)

    async def read_error(self) -> bytes:
        """As `Running.read_error`."""
        return await self._read(self._process.stderr)

    async def _read(self, stream: Any) -> bytes:
        import asyncssh

        try:
            return bytes(await stream.read(PART_BYTES))
        except (OSError, asyncssh.Error):  # a connection that was cut is what `wait` says
            return b""

    async def wait(self) -> Ended:
        """As `Running.wait`."""
        import asyncssh

        with contextlib.suppress(OSError, asyncssh.Error):
            await self._process.wait_closed()
        return Ended(self._process.returncode)

    async def end(self) -> None:
        """Asks it to end and closes its streams. A server that passes no signals leaves it without a reader."""
        if self._process.is_closing() and self._process.returncode is not None:
            return
        with contextlib.suppress(OSError):
            self._process.terminate()
            self._process.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSES_WITHIN_S):
                await self.wait()
