"""Deployment: ships a bundle to one device, and connects again where the connection is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from edgebert.core.parallel_progress import ProgressLine
from edgebert.devices.agent.protocol import (
    About,
    Advance,
    AskKind,
    AskStatus,
    Have,
    Held,
    Hello,
    Install,
    Installed,
    Kind,
    Note,
    Piece,
    Receive,
    Received,
    Rollback,
    Slot,
    Status,
)
from edgebert.devices.agent.status import kind_of
from edgebert.devices.concurrently import as_edgebert_error
from edgebert.devices.ship.delivery import Delivery, Order, Outcome, write_device_report
from edgebert.devices.ship.payload import Counted, Payload, Sent
from edgebert.devices.ship.preflight import check_fits, check_room, needed_bytes
from edgebert.devices.ship.replacing import check_replaces
from edgebert.devices.transport.answers import parse, printable_installed, printable_kind, printable_status
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.errors import EXIT_GATE_FAILED, DeviceError, DeviceLost

LONGEST_WAIT_S = 30.0
UNKNOWN_REQUEST = "does not know this request"
"""Words of an agent that is older than a request."""
Done = TypeVar("Done")


class Deployment:
    """One bundle, one device."""

    def __init__(self, device: Device, payload: Payload, order: Order, line: ProgressLine) -> None:
        self.name = device.name
        self._device, self._payload, self._order, self._line = device, payload, order, line
        self._sent = Sent()
        self._started = time.monotonic()
        self._installing = False
        self._about: About | None = None
        self._before: Status | None = None
        """Status before the first call; later calls do not change it."""

    async def deliver(self) -> Delivery:
        """Ships the bundle. Errors become the delivery's outcome; only a cancellation is raised."""
        self._started = time.monotonic()
        try:
            delivery = await self._persist(self._call)
        except Exception as caught:
            error = as_edgebert_error(caught)
            hint = error.hint
            if self._installing and isinstance(error, DeviceLost):
                hint = f"It may serve the new bundle by now: edgebert devices status {self._device.target}"
            delivery = self._delivery("failed", reason=error.message, hint=hint, exit_code=error.exit_code)
        self._line.end(delivery.summary)
        return delivery

    def may_serve_it(self, delivery: Delivery) -> bool:
        """Whether the device switched in this command, or may have switched before its connection was lost."""
        return delivery.outcome == "switched" or (delivery.outcome == "failed" and self._installing)

    async def take_back(self, delivery: Delivery, why: str) -> Delivery:
        """Rolls the device back to the bundle that it served before this delivery."""
        if serving_slot(self._before) is None:
            if delivery.outcome != "switched":
                return delivery
            return replace(delivery, reason=f"{why}; it served nothing before, so it keeps this one")
        try:
            status = await self._persist(self._roll_back)
        except Exception as caught:
            error = as_edgebert_error(caught)
            reason = printable(f"{why}, but it could not be rolled back: {error.message}")
            return replace(delivery, reason=reason, hint=error.hint, exit_code=error.exit_code)
        self._line.end(f"rolled back: {why}")
        outcome: Outcome = "rolled back" if delivery.outcome == "switched" else delivery.outcome
        reason = why if outcome == "rolled back" else f"{delivery.reason} It serves the same bundle as before."
        return replace(delivery, outcome=outcome, reason=reason, hint=None, **_what_serves(status))

    def interrupted(self) -> Delivery:
        """The delivery where the command was stopped in the middle."""
        reason = "stopped in the middle; `edgebert devices status` says what it serves" if self._installing else "stopped"
        return self._delivery("interrupted", reason=reason)

    async def _persist(self, work: Callable[[], Awaitable[Done]]) -> Done:
        """Repeats the work after a lost connection; it goes on where it stopped."""
        for call in range(1, self._order.attempts + 1):
            try:
                return await work()
            except DeviceLost as error:
                if call == self._order.attempts:
                    raise
                wait_s = min(self._order.wait_s * 2 ** (call - 1), LONGEST_WAIT_S)
                self._line.note(
                    f"{printable(error.message)} Trying again in {wait_s:g} s ({call + 1} of {self._order.attempts})."
                )
                await asyncio.sleep(wait_s)
        raise AssertionError("there is at least one attempt")

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Counted]:
        """A connection to the device. If a device that was reached before cannot be reached now, its connection was lost."""
        async with AsyncExitStack() as stack:
            try:
                channel = await stack.enter_async_context(self._device.open())
            except DeviceError as error:
                if self._about and not isinstance(error, DeviceLost):
                    raise DeviceLost(error.message, hint=error.hint) from error
                raise
            yield Counted(channel, self._sent)

    async def _call(self) -> Delivery:
        """One connection, from hello to the answer of install."""
        self._line.show("connecting")
        async with self._open() as channel:
            about = self._about
            if about is None or self._before is None or self._installing:  # else a transfer was cut, and nothing has changed
                about = self._about = await self._hello(channel)
                check_fits(about, self._payload, self._device.name)
                if already := await self._already(channel, about):
                    return already
                if not self._installing:
                    await self._check_replaces(channel, about)
            await self._send(channel, about)
            return await self._install(channel)

    async def _hello(self, channel: Counted) -> About:
        return parse(About, await channel.ask(Hello(root=self._device.root)), self._device.name)

    async def _roll_back(self) -> Status:
        """Rolls back, unless a rollback whose answer was lost has done so: a second one would go forward again."""
        async with self._open() as channel:
            status = await self._status(channel)
            slot = serving_slot(status)
            before = serving_slot(self._before)
            same = slot and before and (slot.slot, slot.manifest) == (before.slot, before.manifest)
            if slot is None or same or slot.manifest != self._payload.identity:
                return status
            answer = await channel.ask(Rollback(root=self._device.root))
            return printable_status(parse(Status, answer, self._device.name))

    async def _already(self, channel: Counted, about: About) -> Delivery | None:
        """The delivery, where this bundle serves already and is undamaged; None otherwise."""
        same = about.serving == self._payload.identity
        status = await self._status(channel, thorough=same)  # a damaged bundle is shipped again
        self._before = self._before or status
        if same and self._is_healthy(status) and not self._installing:
            return self._delivery("unchanged", **_what_serves(status))
        return None

    async def _check_replaces(self, channel: Counted, about: About) -> None:
        """Refuses a bundle of another kind than the one that serves, before a byte of it is sent."""
        if about.serving is None:
            return
        try:
            serving = printable_kind(parse(Kind, await channel.ask(AskKind(root=self._device.root)), self._device.name))
        except DeviceError as error:
            if UNKNOWN_REQUEST not in error.message:
                raise
            self._line.note("edgebert there is older: whether this bundle is of the kind that serves there is not known")
            return
        check_replaces(serving, kind_of(self._payload.manifest), self._order.replace, self._device.name)

    async def _status(self, channel: Counted, *, thorough: bool = False) -> Status:
        request = AskStatus(root=self._device.root, thorough=thorough)
        return printable_status(parse(Status, await channel.ask(request), self._device.name))

    def _is_healthy(self, status: Status) -> bool:
        """Whether the serving slot is undamaged and signed as the bundle here: a bundle can be signed again by another key."""
        slot = serving_slot(status)
        return slot is not None and slot.fault is None and slot.signed_by == self._payload.signer.identity

    async def _send(self, channel: Counted, about: About) -> None:
        request = Have(root=self._device.root, files=self._payload.files)
        held = parse(Held, await channel.ask(request), self._device.name)
        pieces = self._payload.missing(held.bytes_there)
        if pieces:
            await self._check_room(channel, about, pieces)
            body = self._payload.body(pieces, self._meter(pieces))
            await channel.ask(Receive(root=self._device.root, pieces=pieces), body=body, on_event=self._show_note)

    async def _check_room(self, channel: Counted, about: About, pieces: Sequence[Piece]) -> None:
        """Asks for the free space again before it refuses: `have` drops contents of other bundles where space is short."""
        if needed_bytes(pieces) > about.free_bytes:
            about = await self._hello(channel)
        check_room(about.free_bytes, pieces, self._device.name)

    def _meter(self, pieces: Sequence[Piece]) -> Any:
        """Returns a function that counts sent bytes and shows them beside the size of the bundle."""
        total = self._payload.size_bytes
        there = total - sum(piece.size - piece.offset for piece in pieces)

        def count(size: int) -> None:
            nonlocal there
            there += size
            self._sent.content_bytes += size
            self._line.show("sent", f"{there / 1e6:.1f} of {total / 1e6:.1f} MB", there / total if total else None)

        return count

    async def _install(self, channel: Counted) -> Delivery:
        self._installing = True
        self._line.show("installing")
        request = Install(root=self._device.root, device=self._device.name, files=self._payload.files, trial=self._order.trial)
        answer = await channel.ask(request, on_event=self._show)
        installed = printable_installed(parse(Installed, answer, self._device.name))
        if installed.outcome == "refused":
            return self._refused(installed)
        before = serving_slot(self._before)
        if installed.outcome == "unchanged" and (before is None or before.manifest != self._payload.identity):
            # An earlier call made the switch, and its answer was lost; its measurements are in the status.
            return self._delivery("switched", **_what_serves(await self._status(channel)), **self._keep(installed.report))
        chosen = next((item for item in installed.tried if item.variant == installed.variant), None)
        p50_ms = chosen.p50_ms if chosen else _what_serves(self._before)["p50_ms"]
        known: dict[str, Any] = {"variant": installed.variant, "p50_ms": p50_ms, "tried": installed.tried}
        return self._delivery(installed.outcome, **known, **self._keep(installed.report))

    def _refused(self, installed: Installed) -> Delivery:
        kept = self._keep(installed.report)
        known = {"reason": "no variant passed there", "tried": installed.tried, "exit_code": EXIT_GATE_FAILED}
        return self._delivery("refused", **{**kept, **known, **_what_serves(self._before)})

    def _keep(self, content: dict[str, Any] | None) -> dict[str, Any]:
        """Writes the report. The device has switched by then, so a report that cannot be written does not make it fail."""
        if content is None or self._order.reports is None:
            return {}
        try:
            return {"report": write_device_report(self._order.reports, self._device.name, content)}
        except Exception as caught:
            error = as_edgebert_error(caught)
            self._line.note(printable(error.message))
            return {"reason": error.message, "exit_code": error.exit_code}

    def _show_note(self, event: Note | Advance | Received) -> None:
        if isinstance(event, Note):
            self._line.note(printable(event.line))

    def _show(self, event: Note | Advance | Received) -> None:
        self._show_note(event)
        if isinstance(event, Advance):
            amount = f"{event.done:g} of {event.total:g}" if event.total else ""
            self._line.show(printable(event.title), amount, event.done / event.total if event.total else None)

    def _delivery(self, outcome: Outcome, *, reason: str | None = None, **known: Any) -> Delivery:
        return Delivery(
            device=self._device.name,
            outcome=outcome,
            reason=reason and printable(reason),
            p50_before_ms=_what_serves(self._before)["p50_ms"],
            sent_bytes=self._sent.content_bytes,
            protocol_bytes=self._sent.protocol_bytes,
            payload_bytes=self._payload.size_bytes,
            seconds=time.monotonic() - self._started,
            **known,
        )


def serving_slot(status: Status | None) -> Slot | None:
    """The slot that serves; None where none does."""
    return next((slot for slot in status.slots if slot.slot == status.serving), None) if status else None


def _what_serves(status: Status | None) -> dict[str, Any]:
    """The fields `variant` and `p50_ms` of a delivery, from the serving slot."""
    slot = serving_slot(status)
    return {"variant": slot.variant if slot else None, "p50_ms": slot.p50_ms if slot else None}
