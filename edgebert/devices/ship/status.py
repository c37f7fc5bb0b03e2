"""What devices serve, and the way back to what they served before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgebert.core.parallel_progress import ParallelProgress, ProgressLine
from edgebert.devices.agent.protocol import AskStatus, Rollback, Status
from edgebert.devices.concurrently import Turns, own_fault
from edgebert.devices.ship.deploy import serving_slot
from edgebert.devices.transport.answers import parse, printable_status
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_OK, EdgebertError


@dataclass(frozen=True)
class DeviceStatus:
    """What one device serves; `status` is None where it did not say."""

    device: str
    status: Status | None
    reason: str | None = None
    hint: str | None = None
    error_code: int = 0

    @property
    def exit_code(self) -> int:
        """What this device alone would end the command with."""
        if self.error_code:
            return self.error_code
        slots = self.status.slots if self.status else ()
        whole = serving_slot(self.status) is not None and all(slot.fault is None for slot in slots)
        return EXIT_OK if whole else EXIT_ENVIRONMENT


Question = Callable[[str], AskStatus | Rollback]
"""Root -> the request."""


def ask_status(root: str) -> AskStatus:
    """What serves, every file of it hashed."""
    return AskStatus(root=root, thorough=True)


def ask_rollback(root: str) -> Rollback:
    """Back to the other slot."""
    return Rollback(root=root)


class Inquiry:
    """One question to many devices. `statuses` can be read at any time."""

    def __init__(self, devices: Sequence[Device], question: Question, progress: ParallelProgress, parallel: int) -> None:
        self._devices, self._request, self._turns = tuple(devices), question, Turns(parallel)
        self._lines = {device.name: progress.line(device.name) for device in devices}
        self._answers: dict[str, DeviceStatus] = {}

    @property
    def statuses(self) -> list[DeviceStatus]:
        """One for each device, in their order."""
        absent = (DeviceStatus(device.name, None, "was not asked", error_code=EXIT_ENVIRONMENT) for device in self._devices)
        return [self._answers.get(empty.device, empty) for empty in absent]

    async def run(self) -> None:
        """Asks. One device that fails does not stop the others."""
        async with asyncio.TaskGroup() as group:
            for device in self._devices:
                group.create_task(self._one(device, self._lines[device.name]))

    async def _one(self, device: Device, line: ProgressLine) -> None:
        async with self._turns.turn(device):
            line.show("asking")
            try:
                async with device.open() as channel:
                    status = parse(Status, await channel.ask(self._request(device.root)), device.name)
            except Exception as error:  # ours as well, and no reason to stop the other devices
                told = error if isinstance(error, EdgebertError) else own_fault(error)
                said = printable(told.message)
                self._answers[device.name] = DeviceStatus(device.name, None, said, told.hint, told.exit_code)
                line.end(said)
            else:
                self._answers[device.name] = DeviceStatus(device.name, printable_status(status))
                line.end("answered")


def exit_code(statuses: Sequence[DeviceStatus]) -> int:
    """0 where every device serves something whole; else the lowest code of a device."""
    return min((item.exit_code for item in statuses if item.exit_code), default=EXIT_OK)
