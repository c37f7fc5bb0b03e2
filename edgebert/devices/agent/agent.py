"""The agent: answers one request of a workstation and ends. protocol.py describes the requests and answers.

A workstation starts it as `python -P -m edgebert.slots.agent`, its name in version 0.1. It ends together with its workstation:
by a signal, or because nobody reads its output any more. Its measuring processes end with it, and the device serves the same
bundle as before.
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
    AskKind,
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
    first_fault,
)
from edgebert.devices.agent.wire import EventLines, StandardInput, open_output
from edgebert.errors import DeviceError, EdgebertError

Answer = BaseModel | None


class Agent:
    """Answers requests. Each operation imports what it needs: `hello` must not wait for what measures."""

    def __init__(self, source: StandardInput, events: EventLines) -> None:
        self._source, self._events = source, events

    def answer(self) -> Answer:
        """Reads the request and carries it out.

        Raises:
            EdgebertError: it cannot be done.
        """
        request = read_request(self._source.line())
        root = locate(getattr(request, "root", "."))
        try:
            return OPERATIONS[type(request)](self, root, request)
        except OSError as error:
            raise fault(error, root.folder) from error

    def hello(self, root: Root, request: Hello) -> Answer:
        """Describes the device."""
        from edgebert.devices.agent.status import read_about

        return read_about(root)

    def have(self, root: Root, request: Have) -> Answer:
        """Lists the requested contents that are on the device already."""
        from edgebert.devices.agent import incoming
        from edgebert.devices.agent.lock import at_work

        with at_work(root, "looks for what it has"):
            return incoming.have(root, request)

    def receive(self, root: Root, request: Receive) -> Answer:
        """Receives contents from standard input."""
        from edgebert.devices.agent import incoming
        from edgebert.devices.agent.lock import at_work

        with at_work(root, "receives files"):
            incoming.receive(root, request, self._source, self._events)
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
            check_marker(root)  # a folder that holds something else gets its own message
            nothing = f"Nothing serves in {root.folder}, so there is nothing to go back from."
            raise DeviceError(nothing, hint="Ship a bundle first.")
        with at_work(root, "rolls back"):
            roll_back(root)
        return self._status(root)

    def status(self, root: Root, request: AskStatus) -> Answer:
        """Reports which bundle serves, and what the slots hold."""
        return self._status(root, thorough=request.thorough)

    def kind(self, root: Root, request: AskKind) -> Answer:
        """Says what kind of model serves."""
        from edgebert.devices.agent.status import read_kind

        return read_kind(root)

    def pin(self, root: Root, request: Pin) -> Answer:
        """Trusts a public key."""
        from edgebert.bundle.trust.pins import pin_key

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
    AskKind: Agent.kind,
    Pin: Agent.pin,
}


def read_request(line: bytes) -> BaseModel:
    """Parses one line as a request.

    Raises:
        DeviceError: the line is no request of this protocol.
    """
    try:
        return REQUEST.validate_json(line)
    except ValidationError as error:
        raise DeviceError(
            f"The agent does not know this request (protocol {PROTOCOL}): {first_fault(error)}.",
            hint="Use the same version of edgebert on both sides: edgebert devices setup",
        ) from error


def main() -> int:
    """Answers one request. Returns the exit code."""
    interrupts.listen()
    return serve(StandardInput(), EventLines(open_output()))


def serve(source: StandardInput, events: EventLines) -> int:
    """Answers the request of `source`; errors become events. Returns the exit code."""
    try:
        answer = Agent(source, events).answer()
        events.send(Result(value=answer.model_dump(mode="json") if answer else {}))
    except KeyboardInterrupt:
        ended = "The agent on the device was ended before it had an answer."
        _report(events, DeviceError(ended, hint="Ship again: it goes on from there."))
        return interrupts.exit_code()
    except Exception as error:
        reported = _as_edgebert_error(error)
        _report(events, reported)
        return reported.exit_code
    return 0


def _as_edgebert_error(error: Exception) -> EdgebertError:
    if isinstance(error, EdgebertError):
        return error
    if os.environ.get("EDGEBERT_DEBUG"):
        traceback.print_exception(error)
    return DeviceError(
        f"The agent on the device failed: {type(error).__name__}: {error}",
        hint="This is a fault in edgebert. EDGEBERT_DEBUG=1 on the device shows where, on its standard error.",
    )


def _report(events: EventLines, error: EdgebertError) -> None:
    with contextlib.suppress(KeyboardInterrupt):  # the workstation is gone
        events.send(ReportedFailure(kind=type(error).__name__, message=error.message, hint=error.hint))


if __name__ == "__main__":
    sys.exit(main())
