"""What a device says of itself, before it is believed, printed or put into a command.

It may be broken, or not ours any more.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from edgebert.devices.agent.protocol import About
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.errors import DeviceError

MOST_NAMES = 100
"""Of ISAs and of runtimes."""
VersionPart = Annotated[int, Field(ge=0, le=999)]


class Found(BaseModel):
    """What `look` of there.py found. Machine and Python go into commands that users are told to run."""

    machine: str = Field(pattern=r"^[A-Za-z0-9_]{1,32}$")
    python: tuple[VersionPart, VersionPart, VersionPart]
    made_of: Any = None
    """What the environment there was made of, as it was written then; None where none runs."""
    wheels: dict[str, str]
    """Name -> sha256 of those that were brought already."""


def read_found(value: object, device: Device) -> Found:
    """The answer of `look`.

    Raises:
        DeviceError: it is something else.
    """
    try:
        return Found.model_validate(value)
    except ValidationError as error:
        raise DeviceError(
            f"{device.name} does not say what it has.", hint="Does its shell print something by itself?"
        ) from error


def read_about(value: dict[str, Any], device: Device) -> About:
    """The answer of `hello`. Its texts can be printed.

    Raises:
        DeviceError: it is something else.
    """
    try:
        about = About.model_validate(value)
    except ValidationError as error:
        raise DeviceError(
            f"{device.name} does not say who it is as this edgebert expects it.",
            hint=f"Bring both to one version: edgebert devices setup {device.target}",
        ) from error
    texts = {name: printable(getattr(about, name)) for name in ("edgebert_version", "python", "machine", "cpu")}
    isas = tuple(map(printable, about.isas[:MOST_NAMES]))
    runtimes = {printable(name): printable(version) for name, version in list(about.runtimes.items())[:MOST_NAMES]}
    trusted = tuple(map(printable, about.trusted))
    return about.model_copy(update={**texts, "isas": isas, "runtimes": runtimes, "trusted": trusted})
