"""Errors of connecting by SSH, each with its reason in words and what to do."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from edgebert.devices.transport.address import SshAddress
from edgebert.devices.transport.conversation import printable
from edgebert.devices.transport.host_keys import KnownHosts, changed_key, unknown_key
from edgebert.errors import DeviceError

NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL)
KEYS = "edgebert uses the keys of ~/.ssh, of ~/.ssh/config and of the agent, and never a password."


@dataclass
class Attempt:
    """Facts about one connection, for the message if it fails."""

    address: SshAddress
    known: KnownHosts
    host: str
    port: int
    user: str
    strict_off: bool
    """Whether ~/.ssh/config switches the check of host keys off."""
    offered: object | None = None
    """The host key that was offered and refused."""

    @property
    def where(self) -> str:
        """Name and port of the host, as ~/.ssh/config gives them."""
        return f"{self.host} port {self.port}"


def explain(error: BaseException, attempt: Attempt, timeout_s: float) -> DeviceError:
    """The error for a connection that failed."""
    import asyncssh

    address = attempt.address
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _host_key(error, attempt)
    if isinstance(error, asyncssh.KeyExchangeFailed):
        if attempt.known.found and "host key" in str(error).lower():
            return changed_key(address, None, attempt.known, port=attempt.port)
        hint = "Renew the SSH server there, or allow an older algorithm for this host in ~/.ssh/config."
        return DeviceError(f"{address} and this machine share no way to encrypt: {_reason(error)}.", hint=hint)
    if isinstance(error, asyncssh.PermissionDenied):
        return DeviceError(
            f"{address} does not let {attempt.user} in: no key of this machine is accepted.",
            hint=f"{KEYS} Let the device know one once: ssh-copy-id -p {attempt.port} {attempt.user}@{attempt.host}",
        )
    if isinstance(error, asyncssh.ChannelOpenError):
        return DeviceError(
            f"{address} cannot be reached from the jump host: {_reason(error)}.", hint="See ProxyJump in ~/.ssh/config."
        )
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported):
        return DeviceError(
            f"What answers at {attempt.where} is no SSH server: {_reason(error)}.", hint="Name its port: ssh://host:port"
        )
    if isinstance(error, asyncssh.Error):
        return DeviceError(
            f"{address} ended the connection before it was open: {_reason(error)}.",
            hint=f"Its log says why. Try: ssh -v -p {attempt.port} {attempt.user}@{attempt.host}",
        )
    return _network(error, attempt, timeout_s)


def _host_key(error: BaseException, attempt: Attempt) -> DeviceError:
    if "revoked" in str(error):
        return DeviceError(
            f"The host key of {attempt.address} is revoked in known_hosts, so nothing was sent.",
            hint="Whoever revoked it knows why. The device needs another one.",
        )
    if attempt.known.found:
        return changed_key(attempt.address, attempt.offered, attempt.known, port=attempt.port)
    return unknown_key(attempt.address, attempt.offered, port=attempt.port, strict_off=attempt.strict_off)


def _network(error: BaseException, attempt: Attempt, timeout_s: float) -> DeviceError:
    address, where = attempt.address, attempt.where
    number = getattr(error, "errno", None)
    if isinstance(error, TimeoutError):
        return DeviceError(
            f"{where} did not answer within {timeout_s:g} s.",
            hint="Is it on, and is its address right? ConnectTimeout in ~/.ssh/config gives it longer.",
        )
    if isinstance(error, socket.gaierror):
        return DeviceError(
            f"There is no host {attempt.host}: {error.strerror}.", hint="Is the name right? See Host in ~/.ssh/config."
        )
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error):
        return DeviceError(
            f"{where} refused the connection.", hint="Does an SSH server run there, and at this port? (ssh://host:port)"
        )
    if number in NO_ROUTE or "unreachable" in str(error):
        return DeviceError(f"There is no way to {where}: {printable(str(error))}.", hint="Is it on, and in the same network?")
    if isinstance(error, ConnectionError):
        return DeviceError(
            f"{where} ended the connection before it was open.", hint="Does an SSH server run there, and at this port?"
        )
    return DeviceError(f"{address} cannot be reached: {printable(str(error)) or type(error).__name__}.")


def _reason(error: object) -> str:
    return printable(str(getattr(error, "reason", error))).rstrip(".")
