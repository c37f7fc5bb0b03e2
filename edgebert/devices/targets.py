"""Which devices a command is for: addresses, names of a fleet, or those of it that have a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.core.yaml_file import nearest
from edgebert.devices.fleet import Fleet, device_of, labels_of, load_fleet
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.errors import InputError

OWN_LABEL = "name"
"""Every device has it; its value is the device's name."""


@dataclass(frozen=True)
class Chosen:
    """The devices of one command."""

    devices: tuple[Device, ...]
    parallel: int | None
    """Devices at a time, as the fleet says; None without a fleet."""


def choose(targets: Sequence[str], *, fleet: Path | None = None, only: Sequence[str] = ()) -> Chosen:
    """The devices of a command. With a fleet and neither targets nor labels: all of it, in its order.

    Args:
        targets: names of the fleet, or addresses.
        only: `label=value`; a device must have all of them. `name=` stands for its name.

    Raises:
        InputError: none is chosen, one is chosen twice, or something is no address.
    """
    if fleet is None:
        if only:
            raise InputError("--only chooses from a fleet, and there is none.", hint="Name its file: --fleet fleet.yaml")
        if not targets:
            raise InputError(
                "No device is named.", hint="Name one, such as pi@kitchen or ./kitchen, or a file of them: --fleet fleet.yaml"
            )
        return Chosen(_distinct([device_of(text) for text in targets]), None)
    loaded = load_fleet(fleet)
    named = _named(loaded, targets)
    return Chosen(_distinct(_with_labels(named, only, loaded)), loaded.parallel)


def _named(fleet: Fleet, targets: Sequence[str]) -> list[Device]:
    if not targets:
        return list(fleet.devices)
    by_name = {device.name: device for device in fleet.devices}
    wanted = set(targets)
    inside = [device for device in fleet.devices if device.name in wanted]
    others = [text for text in targets if text not in by_name]
    for text in others:
        _check_is_address(text, fleet)
    return inside + [device_of(text) for text in others]


def _check_is_address(text: str, fleet: Fleet) -> None:
    """Beside a fleet a bare word is a name of it: a slip must not become a host that is called so.

    Raises:
        InputError: it is a bare word.
    """
    if text.strip() and not set(text) & set("@:/~"):
        meant = nearest(text, [device.name for device in fleet.devices])
        raise InputError(
            f"{printable(text)} is no device of {fleet.path}.",
            hint=f"{meant} A host that it does not name is written ssh://host or user@host, a folder ./folder.",
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
    """A device that two commands fill at once would only make one of them wait; one that is named twice is a slip."""
    names: set[str] = set()
    places: dict[tuple[str, str], str] = {}
    for device in devices:
        if device.name in names:
            raise InputError(f"{device.name} is named twice.", hint="Name each device once.")
        names.add(device.name)
        place = (device.where, device.root)
        if place in places:
            raise InputError(f"{device.name} and {places[place]} are one folder of one device.", hint="Name each device once.")
        places[place] = device.name
    return tuple(devices)
