"""Answers of devices: parsed, and their texts made printable. A device may be broken or hostile, so no answer is printed or put
into a command before that."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from edgebert.devices.agent.protocol import About, Installed, Kind, Status, first_fault
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.errors import DeviceError

MOST_NAMES = 100
"""ISAs, and runtimes, that are kept of an answer."""
VersionPart = Annotated[int, Field(ge=0, le=999)]
Answer = TypeVar("Answer", bound=BaseModel)


class Found(BaseModel):
    """Answer of `look` in on_device.py. Machine and Python go into commands that users are told to run."""

    machine: str = Field(pattern=r"^[A-Za-z0-9_]{1,32}$")
    python: tuple[VersionPart, VersionPart, VersionPart]
    made_of: Any = None
    """What the environment there was made of; None where none runs."""
    wheels: dict[str, str]
    """Name -> sha256 of the wheels that were sent already."""


def read_found(value: object, device: Device) -> Found:
    """Parses the answer of `look`.

    Raises:
        DeviceError: it is something else.
    """
    try:
        return Found.model_validate(value)
    except ValidationError as error:
        raise DeviceError(f"{device.name} does not say what it has.", hint="Does its login shell print something?") from error


def read_about(value: dict[str, Any], device: Device) -> About:
    """Parses the answer of `hello`. Its texts can be printed.

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
    isas = tuple(map(printable, about.isas[:MOST_NAMES]))
    runtimes = {printable(name): printable(version) for name, version in list(about.runtimes.items())[:MOST_NAMES]}
    trusted = tuple(map(printable, about.trusted))
    texts = _printable(about, "edgebert_version", "python", "machine", "cpu")
    return texts.model_copy(update={"isas": isas, "runtimes": runtimes, "trusted": trusted})


def parse(answer: type[Answer], value: dict[str, Any], device: str) -> Answer:
    """Parses the value of a result.

    Raises:
        DeviceError: it is something else.
    """
    try:
        return answer.model_validate(value)
    except ValidationError as error:
        raise DeviceError(
            f"The answer of {device} is no {answer.__name__}: {first_fault(error)}.",
            hint=f"Bring both to one version of edgebert: edgebert devices setup {device}",
        ) from error


def printable_status(status: Status) -> Status:
    """The status with texts that cannot control a terminal."""
    names = ("bundle", "variant", "signed_by", "installed", "fault")
    return status.model_copy(update={"slots": tuple(_printable(slot, *names) for slot in status.slots)})


def printable_installed(installed: Installed) -> Installed:
    """The answer of `install` with texts that cannot control a terminal."""
    tried = tuple(_printable(item, "variant", "reason") for item in installed.tried)
    reasons = tuple(map(printable, installed.reasons))
    return _printable(installed, "variant").model_copy(update={"tried": tried, "reasons": reasons})


def printable_kind(kind: Kind) -> Kind:
    """The answer of `kind` with texts that cannot control a terminal."""
    lists = {name: tuple(map(printable, getattr(kind, name))) for name in ("inputs", "labels")}
    return _printable(kind, "bundle", "task", "made").model_copy(update=lists)


def _printable(answer: Answer, *names: str) -> Answer:
    """The answer with these texts printable; None stays None."""
    texts = {name: getattr(answer, name) for name in names}
    return answer.model_copy(update={name: text and printable(text) for name, text in texts.items()})
