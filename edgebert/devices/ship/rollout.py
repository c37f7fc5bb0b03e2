"""Convoy: a bundle for many devices at once, the canaries first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edgebert.core.parallel_progress import ParallelProgress
from edgebert.devices.concurrently import Turns
from edgebert.devices.ship.delivery import SERVES, Delivery, Order
from edgebert.devices.ship.deploy import Deployment
from edgebert.devices.ship.payload import Payload
from edgebert.devices.transport.base import Device
from edgebert.errors import EXIT_GATE_FAILED, EXIT_OK


class Rollout:
    """All devices of one command. `deliveries` can be read at any time, also after the work was cancelled."""

    def __init__(self, devices: Sequence[Device], payload: Payload, order: Order, progress: ParallelProgress) -> None:
        self._devices, self._canaries = tuple(devices), order.canary
        self._turns = Turns(order.parallel)
        self._deployments = {device.name: Deployment(device, payload, order, progress.line(device.name)) for device in devices}
        self._done: dict[str, Delivery] = {}
        self._why_not = "the command was stopped before its turn"

    @property
    def deliveries(self) -> list[Delivery]:
        """One for each device, in their order."""
        absent = (Delivery(device.name, "not tried", reason=self._why_not) for device in self._devices)
        return [self._done.get(empty.device, empty) for empty in absent]

    async def run(self) -> None:
        """Ships. One device that fails does not stop the others; a canary that does stops those behind it."""
        canaries, rest = self._devices[: self._canaries], self._devices[self._canaries :]
        await self._all(canaries)
        fallen = [device.name for device in canaries if self._done[device.name].outcome not in SERVES]
        if fallen:
            self._why_not = f"{_names(fallen)} went first and did not switch"
            await self._take_back(canaries, f"{_names(fallen)} did not switch")
        else:
            await self._all(rest)

    async def _all(self, devices: Sequence[Device]) -> None:
        async with asyncio.TaskGroup() as group:
            for device in devices:
                group.create_task(self._one(device))

    async def _one(self, device: Device) -> None:
        async with self._turns.turn(device):
            deployment = self._deployments[device.name]
            try:
                self._done[device.name] = await deployment.deliver()
            except asyncio.CancelledError:
                self._done[device.name] = deployment.interrupted()
                raise

    async def _take_back(self, canaries: Sequence[Device], why: str) -> None:
        """A canary that switched in this command serves again what the others still serve: one model everywhere."""

        async def one(device: Device) -> None:
            async with self._turns.turn(device):
                name, deployment = device.name, self._deployments[device.name]
                try:
                    self._done[name] = await deployment.take_back(self._done[name], why)
                except asyncio.CancelledError:
                    self._done[name] = deployment.interrupted()
                    raise

        async with asyncio.TaskGroup() as group:
            for device in canaries:
                if self._deployments[device.name].may_serve_it(self._done[device.name]):
                    group.create_task(one(device))


def exit_code(deliveries: Sequence[Delivery]) -> int:
    """0 where every device serves the bundle; else the lowest code of a device: a verdict before input before surroundings."""
    codes = [delivery.exit_code for delivery in deliveries if delivery.exit_code]
    if codes:
        return min(codes)
    return EXIT_OK if all(delivery.outcome in SERVES for delivery in deliveries) else EXIT_GATE_FAILED


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
