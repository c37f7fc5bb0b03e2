"""What a device says of itself, before it is believed, printed or put into a command.

It may be broken, or not ours any more.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from edgebert.devices.agent.protocol import About, Installed, Slot, Status, Tried
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


Answer = TypeVar("Answer", bound=BaseModel)


def parse(answer: type[Answer], value: dict[str, Any], device: str) -> Answer:
    """The value of a result as what it should be.

    Raises:
        DeviceError: it is something else.
    """
    try:
        return answer.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DeviceError(
            f"{device} answered what is no {answer.__name__}: {where}: {first['msg']}.",
            hint=f"Bring both to one version of edgebert: edgebert devices setup {device}",
        ) from error


def printable_status(status: Status) -> Status:
    """The same with names and reasons that a terminal shows and does not obey."""
    return status.model_copy(update={"slots": tuple(map(_printable_slot, status.slots))})


def printable_installed(installed: Installed) -> Installed:
    """The same with names and reasons that a terminal shows and does not obey."""
    variant = installed.variant and printable(installed.variant)
    tried, reasons = tuple(map(_printable_tried, installed.tried)), tuple(map(printable, installed.reasons))
    return installed.model_copy(update={"variant": variant, "tried": tried, "reasons": reasons})


def _printable_tried(tried: Tried) -> Tried:
    return tried.model_copy(update={"variant": printable(tried.variant), "reason": printable(tried.reason)})


def _printable_slot(slot: Slot) -> Slot:
    texts = {name: printable(getattr(slot, name)) for name in ("bundle", "variant", "signed_by", "installed")}
    return slot.model_copy(update={**texts, "fault": slot.fault and printable(slot.fault)})
