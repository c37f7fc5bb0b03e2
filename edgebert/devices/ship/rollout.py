"""Rollout: ships a bundle to many devices at once, the canaries first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from edgebert.core.parallel_progress import ParallelProgress
from edgebert.devices.concurrently import Turns, lowest_exit_code
from edgebert.devices.ship.delivery import SERVES, Delivery, Order
from edgebert.devices.ship.deploy import Deployment
from edgebert.devices.ship.payload import Payload
from edgebert.devices.transport.base import Device
from edgebert.errors import EXIT_GATE_FAILED, EXIT_OK


class Rollout:
    """All devices of one command. `results` can be read at any time, also after the work was cancelled."""

    def __init__(self, devices: Sequence[Device], payload: Payload, order: Order, progress: ParallelProgress) -> None:
        self._devices, self._canaries = tuple(devices), order.canary
        self._turns = Turns(order.parallel)
        self._deployments = {device.name: Deployment(device, payload, order, progress.line(device.name)) for device in devices}
        self._done: dict[str, Delivery] = {}
        self._why_not = "the command was stopped before its turn"

    @property
    def results(self) -> list[Delivery]:
        """One for each device, in their order."""
        absent = (Delivery(device.name, "not tried", reason=self._why_not) for device in self._devices)
        return [self._done.get(empty.device, empty) for empty in absent]

    async def run(self) -> None:
        """Ships. A device that fails does not stop the others; a canary that fails stops those behind it."""
        canaries, rest = self._devices[: self._canaries], self._devices[self._canaries :]
        await self._each(canaries, Deployment.deliver)
        failed = [device.name for device in canaries if self._done[device.name].outcome not in SERVES]
        if failed:
            self._why_not = f"{_listed(failed)} went first and did not switch"
            await self._take_back(canaries, f"{_listed(failed)} did not switch")
        else:
            await self._each(rest, Deployment.deliver)

    async def _take_back(self, canaries: Sequence[Device], why: str) -> None:
        """Rolls back the canaries that switched in this command, so that all devices serve one model."""
        switched = [item for item in canaries if self._deployments[item.name].may_serve_it(self._done[item.name])]
        await self._each(switched, lambda deployment: deployment.take_back(self._done[deployment.name], why))

    async def _each(self, devices: Sequence[Device], act: Callable[[Deployment], Awaitable[Delivery]]) -> None:
        async def one(device: Device) -> None:
            async with self._turns.turn(device):
                deployment = self._deployments[device.name]
                try:
                    self._done[device.name] = await act(deployment)
                except asyncio.CancelledError:
                    self._done[device.name] = deployment.interrupted()
                    raise

        async with asyncio.TaskGroup() as group:
            for device in devices:
                group.create_task(one(device))


def exit_code(deliveries: Sequence[Delivery]) -> int:
    """The lowest exit code of a device; without one, 0 where every device serves the bundle and 1 otherwise."""
    all_serve = all(delivery.outcome in SERVES for delivery in deliveries)
    return lowest_exit_code(deliveries) or (EXIT_OK if all_serve else EXIT_GATE_FAILED)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
