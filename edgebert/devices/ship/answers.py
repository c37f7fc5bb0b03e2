"""What a device said, before it is believed or printed. It may be broken, or not ours any more."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgebert.devices.agent.protocol import Installed, Slot, Status, Tried
from edgebert.devices.transport.conversation import printable
from edgebert.errors import DeviceError

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
