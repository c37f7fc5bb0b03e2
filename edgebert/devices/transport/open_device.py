"""Which class of device an address makes: the one file that knows every way to reach a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgebert.devices.transport.address import LocalAddress, SshAddress, parse_address
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.local import LocalDevice
from edgebert.devices.transport.ssh import SshDevice


def device_at(
    address: LocalAddress | SshAddress,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    target: str | None = None,
    python: str | None = None,
    identity: Path | None = None,
) -> Device:
    """The device at an address.

    Args:
        name: for progress and messages.
        labels: of the device in its fleet.
        target: what names the device on the command line; by default its name.
        python: the interpreter that runs edgebert there; by default what `devices setup` installs.
        identity: file of a private key, for SSH alone.
    """
    match address:
        case LocalAddress():
            return LocalDevice(name, address.folder, labels=labels, target=target, python=python)
        case SshAddress():
            return SshDevice(name, address, labels=labels, target=target, python=python, identity=identity)


def device_of(text: str) -> Device:
    """The device at an address, named as the user wrote it.

    Raises:
        InputError: it is no address.
    """
    return device_at(parse_address(text), text)
