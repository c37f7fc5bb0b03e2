"""Targets: the devices that a command is for, by address, by name in a fleet, or by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.core.yaml_file import nearest
from edgebert.devices.fleet import PARALLEL, Fleet, labels_of, load_fleet
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.devices.transport.open_device import device_of
from edgebert.errors import InputError

OWN_LABEL = "name"
"""Label that every device has; its value is the device's name."""


@dataclass(frozen=True)
class Chosen:
    """The devices of one command."""

    devices: tuple[Device, ...]
    parallel: int
    """Devices at a time."""


def choose(
    targets: Sequence[str], *, fleet: Path | None = None, only: Sequence[str] = (), parallel: int | None = None
) -> Chosen:
    """The devices of a command. With a fleet and neither targets nor labels: all its devices, in its order.

    Args:
        targets: names in the fleet, or addresses.
        only: `label=value`; a device must have all of them. `name=` stands for its name.
        parallel: devices at a time; by default what the fleet says, else `PARALLEL`.

    Raises:
        InputError: no device is chosen, one is chosen twice, or an address is wrong.
    """
    if fleet is None:
        if only:
            raise InputError("--only chooses from a fleet, and there is none.", hint="Name its file: --fleet fleet.yaml")
        if not targets:
            raise InputError(
                "No device is named.", hint="Name one, such as pi@kitchen or ./kitchen, or a file of them: --fleet fleet.yaml"
            )
        return Chosen(_distinct([device_of(text) for text in targets]), parallel or PARALLEL)
    loaded = load_fleet(fleet)
    named = _named(loaded, targets)
    return Chosen(_distinct(_with_labels(named, only, loaded)), parallel or loaded.parallel)


def _named(fleet: Fleet, targets: Sequence[str]) -> list[Device]:
    if not targets:
        return list(fleet.devices)
    inside = [device for device in fleet.devices if device.name in targets]
    names = {device.name for device in inside}
    others = [text for text in targets if text not in names]
    for text in others:
        _check_is_address(text, fleet)
    return inside + [device_of(text) for text in others]


def _check_is_address(text: str, fleet: Fleet) -> None:
    """Refuses a bare word that names no device of the fleet: a typing error must not become the name of a host.

    Raises:
        InputError: it is a bare word.
    """
    if text.strip() and not set(text) & set("@:/~"):
        meant = nearest(text, [device.name for device in fleet.devices])
        raise InputError(
            f"{printable(text)} is no device of {fleet.path}.",
            hint=f"{meant} Write another host as ssh://host or user@host, and a folder as ./folder.",
        )


def _with_labels(devices: list[Device], only: Sequence[str], fleet: Fleet) -> list[Device]:
    for text in only:
        label, separator, value = text.partition("=")
        if not separator or not label:
            raise InputError(f"--only {text} is no label=value.", hint=_known(fleet))
        devices = [device for device in devices if {**device.labels, OWN_LABEL: device.name}.get(label) == value]
    if not devices:
        raise InputError(f"No device of {fleet.path} has {' and '.join(only)}.", hint=_known(fleet))
    return devices


def _known(fleet: Fleet) -> str:
    labels = labels_of(fleet.devices)
    listed = [f"{label}={'|'.join(values)}" for label, values in labels.items()]
    names = "|".join(device.name for device in fleet.devices)
    return f"There is: {', '.join([*listed, f'{OWN_LABEL}={names}'])}."


def _distinct(devices: list[Device]) -> tuple[Device, ...]:
    """Refuses a device that is named twice, by its name or by its folder."""
    names: set[str] = set()
    folders: dict[tuple[str, str], str] = {}
    for device in devices:
        if device.name in names:
            raise InputError(f"{device.name} is named twice.", hint="Name each device once.")
        names.add(device.name)
        other = folders.setdefault((device.where, device.root), device.name)
        if other != device.name:
            raise InputError(f"{device.name} and {other} are one folder of one device.", hint="Name each device once.")
    return tuple(devices)
