"""Conversation: one request to an agent that was just started, its events and its answer, or why there was none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel, ValidationError

from edgebert import errors
from edgebert.devices.agent.protocol import EVENT, PROTOCOL, Advance, Hello, Note, Received, ReportedFailure, Result
from edgebert.devices.transport.base import Completed, OnEvent
from edgebert.devices.transport.running import NOT_FOUND, Ended, Lines, Running, StreamClosed, read_tail
from edgebert.errors import DeviceError, DeviceLost, EdgebertError

ENDS_WITHIN_S = 10.0
"""How long an agent may take to end after its answer."""
MAX_NOISE_BYTES = 64 << 10
SHOWN_LINES = 3
LONGEST_LINE = 300
MOST_LINES = 5
"""Lines that are kept of an error's message, and of its hint."""
MOST_NOTES = 100
"""Notes that are shown of one request."""
GOES_ON = "What arrived there stays, and it serves the same bundle as before. The same command goes on from there."
SOON_S = 60.0
"""Seconds for what only has to start a Python."""
AFTER_READING_S = 300.0
"""Seconds for what hashes the files on a device, which may have a slow card."""
ANSWERS_WITHIN_S = {
    "hello": SOON_S,
    "pin": SOON_S,
    "kind": SOON_S,
    "status": AFTER_READING_S,
    "have": AFTER_READING_S,
    "rollback": AFTER_READING_S,
}
"""`op` -> seconds. Sending and measuring may take any time."""

_NO_EDGEBERT = re.compile(r"No module named '?edgebert(?!\.)")
_OLD_EDGEBERT = re.compile(r"No module named '?edgebert\.")
_NO_PACKAGE = re.compile(r"No module named '?([A-Za-z0-9_]+)")
_OLD_PYTHON = re.compile(r"[Uu]nknown option:? -P")


class Conversation:
    """One request and its answer.

    Args:
        name: name of the device, for messages.
        target: words that name it on the command line.
    """

    def __init__(self, running: Running, *, name: str, target: str) -> None:
        self._running, self._name, self._target = running, name, target
        self._noise = self._notes = 0

    async def ask(self, request: BaseModel, body: AsyncIterator[bytes] | None, on_event: OnEvent | None) -> dict[str, Any]:
        """Sends the request and its body, passes events on, returns the value of the result, and lets the agent end.

        Raises:
            EdgebertError: see `Channel.ask`; errors of `body` and `on_event` are raised as they are.
        """
        stderr = asyncio.create_task(read_tail(self._running))
        sending = asyncio.create_task(self._send(request, body))
        listening = asyncio.create_task(self._listen(on_event))
        try:
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()  # raises the error of the body
            answer = await listening
            if answer is None:
                raise await self._why_silent(stderr)
            await self._let_end()
        finally:
            await self._finish(sending, listening, stderr)
        if isinstance(answer, ReportedFailure):
            raise error_of(answer)
        self._check_protocol(request, answer.value)
        return answer.value

    async def _send(self, request: BaseModel, body: AsyncIterator[bytes] | None) -> None:
        """Sends everything. Stops quietly where the agent stopped reading: its answer says why."""
        try:
            await self._running.write(request.model_dump_json().encode() + b"\n")
            if body is not None:
                async for part in body:
                    await self._running.write(part)
            await self._running.end_input()
        except StreamClosed:
            return

    async def _listen(self, on_event: OnEvent | None) -> Result | ReportedFailure | None:
        """Passes events on until the last one, which it returns; None where there was none."""
        lines, first = Lines(), True
        while data := await self._running.read():
            for line in lines.feed(data):
                event = self._event(line, first)
                if event is None:
                    continue
                first = False
                if isinstance(event, Result | ReportedFailure):
                    return event
                if on_event and (shown := self._shown(event)):
                    on_event(shown)
        return None

    def _shown(self, event: Note | Advance | Received) -> Note | Advance | Received | None:
        """The event with printable texts; None for a note beyond `MOST_NOTES`."""
        if isinstance(event, Advance):
            return event.model_copy(update={"title": printable(event.title)})
        if isinstance(event, Note):
            self._notes += 1
            return event.model_copy(update={"line": printable(event.line)}) if self._notes <= MOST_NOTES else None
        return event

    def _event(self, line: bytes, first: bool) -> Any:
        """Parses a line as an event; None for what a login shell prints before the first."""
        try:
            return EVENT.validate_json(line)
        except ValidationError as error:
            self._noise += len(line)
            if first and not line.lstrip().startswith(b"{") and self._noise < MAX_NOISE_BYTES:
                return None
            shown = printable(line[:LONGEST_LINE].decode(errors="replace"))
            raise DeviceError(
                f"{self._name} sent a line that is not edgebert's protocol: {shown}",
                hint=f"Bring both to one version of edgebert: edgebert devices setup {self._target}",
            ) from error

    async def _let_end(self) -> None:
        """Waits for the agent to end after its answer: it may still hold its lock."""
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                await self._running.end_input()
                await self._running.wait()
        except (TimeoutError, StreamClosed):
            pass

    async def _why_silent(self, stderr: asyncio.Task[str]) -> EdgebertError:
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                ended = await self._running.wait()
                text = await stderr
        except TimeoutError:
            ended, text = Ended(None), ""
        return explain_silence(ended, text, name=self._name, target=self._target)

    async def _finish(self, *tasks: asyncio.Task[Any]) -> None:
        """Ends the tasks that hold the streams, and then the agent."""
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._running.end()

    def _check_protocol(self, request: BaseModel, value: dict[str, Any]) -> None:
        if isinstance(request, Hello) and value.get("protocol") != PROTOCOL:
            version = printable(str(value.get("edgebert_version", "another one")))
            raise DeviceError(
                f"{self._name} has edgebert {version}, which speaks another protocol than this one.",
                hint=f"Bring both to one version: edgebert devices setup {self._target}",
            )


def cut(name: str) -> DeviceLost:
    """The error for a lost connection to the device of that name."""
    return DeviceLost(f"The connection to {name} was cut.", hint=GOES_ON)


def explain_silence(ended: Ended, stderr: str, *, name: str, target: str) -> EdgebertError:
    """The error for an agent that ended without an answer.

    Args:
        stderr: the end of its standard error.
    """
    setup = f"edgebert devices setup {target}"
    if ended.code is None:
        return cut(name)
    if ended.code == NOT_FOUND:
        return DeviceError(
            f"{name} has no Python where one was looked for.", hint=f"Install Python 3.11 or newer there, then: {setup}"
        )
    if _OLD_PYTHON.search(stderr):
        return DeviceError(
            f"The Python of {name} is older than 3.11.",
            hint=f"Install Python 3.11 or newer there, then name it: {setup} --python python3.11",
        )
    if _OLD_EDGEBERT.search(stderr):
        return DeviceError(f"The edgebert on {name} is too old to be shipped to.", hint=f"Renew it: {setup}")
    if _NO_EDGEBERT.search(stderr):
        return DeviceError(f"{name} has Python, but no edgebert.", hint=f"Install it there: {setup}")
    if package := _NO_PACKAGE.search(stderr):
        return DeviceError(f"edgebert on {name} lacks the package {package.group(1)}.", hint=f"Install it again: {setup}")
    lines = [printable(line) for line in stderr.splitlines() if line.strip()][-SHOWN_LINES:]
    last = f" Its last words: {' | '.join(lines)}" if lines else ""
    return DeviceLost(f"The agent on {name} ended without an answer ({ended}).{last}", hint=GOES_ON)


def error_of(failure: ReportedFailure) -> EdgebertError:
    """The error that an agent reports; a DeviceError where this edgebert does not know its class."""
    kind = getattr(errors, failure.kind, None)
    known = isinstance(kind, type) and issubclass(kind, EdgebertError) and kind.__init__ is EdgebertError.__init__
    message, hint = _first_lines(failure.message), failure.hint and _first_lines(failure.hint)
    return kind(message, hint=hint) if known and isinstance(kind, type) else DeviceError(message, hint=hint)


def _first_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()[:MOST_LINES]))


def printable(text: str, longest: int = LONGEST_LINE) -> str:
    """The text as one line of at most `longest` characters, none of which controls a terminal."""
    line = "".join(mark if mark.isprintable() else " " for mark in text[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def last_line(done: Completed) -> str:
    """The last line of a failed command's standard error, else its exit code."""
    return printable((done.err.strip().splitlines() or [f"exit code {done.code}"])[-1])


@asynccontextmanager
async def within(seconds: float | None, device: str) -> AsyncIterator[None]:
    """Ends the block after that many seconds; None for no limit.

    Raises:
        DeviceError: it took longer.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeviceError(
            f"{device} has not answered within {seconds:g} s.", hint="Is it overloaded, or its disk failing? Look there."
        ) from error
