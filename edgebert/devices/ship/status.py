"""Status: asks devices what they serve, or has them roll back to the bundle before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgebert.core.parallel_progress import ParallelProgress, ProgressLine
from edgebert.devices.agent.protocol import AskStatus, Rollback, Status
from edgebert.devices.concurrently import AtOnce, Turns
from edgebert.devices.ship.deploy import serving_slot
from edgebert.devices.transport.answers import parse, printable_status
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_OK, EdgebertError


@dataclass(frozen=True)
class DeviceStatus:
    """Slots of one device; `status` is None where it did not answer."""

    device: str
    status: Status | None
    reason: str | None = None
    hint: str | None = None
    error_code: int = 0

    @property
    def exit_code(self) -> int:
        """Exit code that this device alone would end the command with."""
        if self.error_code:
            return self.error_code
        slots = self.status.slots if self.status else ()
        healthy = serving_slot(self.status) is not None and all(slot.fault is None for slot in slots)
        return EXIT_OK if healthy else EXIT_ENVIRONMENT

    @property
    def summary(self) -> str:
        """Last line of its progress."""
        return self.reason or "answered"


Question = Callable[[str], AskStatus | Rollback]
"""Makes the request from the root of a device."""


def ask_status(root: str) -> AskStatus:
    """The request for what serves, with every file hashed."""
    return AskStatus(root=root, thorough=True)


def ask_rollback(root: str) -> Rollback:
    """The request to go back to the other slot."""
    return Rollback(root=root)


def inquire(devices: Sequence[Device], question: Question, progress: ParallelProgress, parallel: int) -> AtOnce[DeviceStatus]:
    """One question to many devices."""

    async def ask(device: Device, line: ProgressLine) -> DeviceStatus:
        line.show("asking")
        async with device.open() as channel:
            status = parse(Status, await channel.ask(question(device.root)), device.name)
        return DeviceStatus(device.name, printable_status(status))

    def failed(device: str, error: EdgebertError) -> DeviceStatus:
        return DeviceStatus(device, None, printable(error.message), error.hint, error.exit_code)

    def absent(device: str) -> DeviceStatus:
        return DeviceStatus(device, None, "was not asked", error_code=EXIT_ENVIRONMENT)

    return AtOnce(devices, ask, failed=failed, absent=absent, progress=progress, turns=Turns(parallel))
