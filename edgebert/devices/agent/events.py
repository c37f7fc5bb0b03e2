"""Events: what the agent tells the workstation, a line of JSON each, and the progress of long work as such lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from edgebert.devices.agent.protocol import Advance, Failure, Note, Received, Result

if TYPE_CHECKING:
    from edgebert.core.progress import Step

Event = Note | Advance | Received | Result | Failure
INTERVAL_S = 0.25
"""Between two lines of one step: more would only be traffic."""


class Events(Protocol):
    """Where events go. It is also an `edgebert.core.progress.Progress`."""

    def send(self, event: Event) -> None:
        """Tells one event."""

    def note(self, line: str) -> None:
        """Tells a line for the user."""

    def step(self, title: str, total: float | None = None) -> contextlib.AbstractContextManager[Step]:
        """Opens a step whose progress is told."""


class EventLines:
    """Events as lines, each written at once.

    Args:
        write: takes one line; raises KeyboardInterrupt where nobody reads any more.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, event: Event) -> None:
        """Writes one event."""
        self._write(event.model_dump_json())

    def note(self, line: str) -> None:
        """Writes a line for the user."""
        self.send(Note(line=line))

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[Step]:
        """Writes how far the step is: at its start, about four times a second, and at its end."""
        step = _EventStep(self.send, title, total)
        step.tell()
        yield step
        step.tell()


class _EventStep:
    def __init__(self, send: Callable[[Event], None], title: str, total: float | None) -> None:
        self._send, self._title, self._total = send, title, total
        self._done, self._told = 0.0, time.monotonic()

    def advance(self, count: float = 1) -> None:
        self._done += count
        if time.monotonic() - self._told >= INTERVAL_S:
            self.tell()

    def skip_to(self, count: float) -> None:
        self._done = count

    def tell(self) -> None:
        self._told = time.monotonic()
        self._send(Advance(title=self._title, done=self._done, total=self._total))
