"""The agent: answers one request of a workstation and ends. `python -P -m edgebert.devices.agent.agent`, see protocol.py.

It ends together with its workstation: by a signal, or because nobody reads what it says any more. What it measures with ends
with it, and the device serves what it served.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from edgebert.bundle.device_folder import Root, check_marker, locate
from edgebert.core import interrupts
from edgebert.devices.agent.disk import fault
from edgebert.devices.agent.protocol import (
    PROTOCOL,
    REQUEST,
    AskStatus,
    Have,
    Hello,
    Install,
    Pin,
    Receive,
    ReportedFailure,
    Result,
    Rollback,
    Status,
)
from edgebert.devices.agent.wire import EventLines, StandardInput, open_voice
from edgebert.errors import DeviceError, EdgebertError

Answer = BaseModel | None


class Agent:
    """Answers requests. Each operation imports what it needs: `hello` must not wait for what measures."""

    def __init__(self, told: StandardInput, events: EventLines) -> None:
        self._told, self._events = told, events

    def answer(self) -> Answer:
        """Reads the request and does what it asks.

        Raises:
            EdgebertError: it cannot be done.
        """
        request = read_request(self._told.line())
        root = locate(getattr(request, "root", "."))
        try:
            return OPERATIONS[type(request)](self, root, request)
        except OSError as error:
            raise fault(error, root.folder) from error

    def hello(self, root: Root, request: Hello) -> Answer:
        """Who the device is."""
        from edgebert.devices.agent.status import read_about

        return read_about(root)

    def have(self, root: Root, request: Have) -> Answer:
        """What is here already."""
        from edgebert.devices.agent import incoming
        from edgebert.devices.agent.lock import at_work

        with at_work(root, "looks for what it has"):
            return incoming.have(root, request)

    def receive(self, root: Root, request: Receive) -> Answer:
        """Takes contents."""
        from edgebert.devices.agent import incoming
        from edgebert.devices.agent.lock import at_work

        with at_work(root, "receives files"):
            incoming.receive(root, request, self._told, self._events)
        return None

    def install(self, root: Root, request: Install) -> Answer:
        """Tries a bundle and switches to it."""
        from edgebert.devices.agent.install import install
        from edgebert.devices.agent.lock import at_work

        with at_work(root, f"installs a bundle for {request.device}"):
            return install(root, request, self._events)

    def rollback(self, root: Root, request: Rollback) -> Answer:
        """Switches back."""
        from edgebert.devices.agent.lock import at_work
        from edgebert.devices.agent.switch import roll_back

        if not root.slots.is_dir():  # a misspelt root is not made into one
            check_marker(root)  # something else is said to be that
            nothing = f"Nothing serves in {root.folder}, so there is nothing to go back from."
            raise DeviceError(nothing, hint="Ship a bundle first.")
        with at_work(root, "rolls back"):
            roll_back(root)
        return self._status(root)

    def status(self, root: Root, request: AskStatus) -> Answer:
        """What serves."""
        return self._status(root, thorough=request.thorough)

    def pin(self, root: Root, request: Pin) -> Answer:
        """Trusts a key."""
        from edgebert.bundle.trust.config import pin_key

        pin_key(request.name, request.pem)
        return None

    def _status(self, root: Root, *, thorough: bool = False) -> Status:
        from edgebert.devices.agent.status import read_status

        return read_status(root, thorough=thorough)


OPERATIONS: Mapping[type[BaseModel], Callable[[Agent, Root, Any], Answer]] = {
    Hello: Agent.hello,
    Have: Agent.have,
    Receive: Agent.receive,
    Install: Agent.install,
    Rollback: Agent.rollback,
    AskStatus: Agent.status,
    Pin: Agent.pin,
}


def read_request(line: bytes) -> BaseModel:
    """One line as a request.

    Raises:
        DeviceError: it is none.
    """
    try:
        return REQUEST.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DeviceError(
            f"This is no request that the agent knows (protocol {PROTOCOL}): {f'{where}: ' if where else ''}{first['msg']}.",
            hint="Use the same version of edgebert on both sides: edgebert devices setup",
        ) from error


def main() -> int:
    """Answers one request. Returns the exit code."""
    interrupts.listen()
    events = EventLines(open_voice())
    try:
        answer = Agent(StandardInput(), events).answer()
        events.send(Result(value=answer.model_dump(mode="json") if answer else {}))
    except KeyboardInterrupt:
        ended = "The agent on the device was ended before it had an answer."
        _tell(events, DeviceError(ended, hint="Ship again: it goes on from there."))
        return interrupts.exit_code()
    except Exception as error:
        told = _fault(error)
        _tell(events, told)
        return told.exit_code
    return 0


def _fault(error: Exception) -> EdgebertError:
    if isinstance(error, EdgebertError):
        return error
    if os.environ.get("EDGEBERT_DEBUG"):
        traceback.print_exception(error)
    return DeviceError(
        f"The agent on the device failed: {type(error).__name__}: {error}",
        hint="This is a fault of edgebert. With EDGEBERT_DEBUG=1 on the device its standard error tells more.",
    )


def _tell(events: EventLines, told: EdgebertError) -> None:
    with contextlib.suppress(KeyboardInterrupt):  # nobody is there any more
        events.send(ReportedFailure(kind=type(told).__name__, message=told.message, hint=told.hint))


if __name__ == "__main__":
    sys.exit(main())
