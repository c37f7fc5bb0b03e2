"""A channel that counts what is said over it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel

from edgebert.devices.agent.protocol import Advance, Note, Received
from edgebert.devices.ship.delivery import Sent
from edgebert.devices.transport.base import Channel, OnEvent


class Counted:
    """Counts the lines of the protocol in both directions, as they are written; contents are counted where they are read."""

    def __init__(self, channel: Channel, sent: Sent) -> None:
        self._channel, self._sent = channel, sent

    async def ask(
        self, request: BaseModel, *, body: AsyncIterator[bytes] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """As `Channel.ask`."""

        def heard(event: Note | Advance | Received) -> None:
            self._count(event)
            if on_event:
                on_event(event)

        self._count(request)
        value = await self._channel.ask(request, body=body, on_event=heard)
        self._sent.protocol_bytes += len(json.dumps({"event": "result", "value": value}, separators=(",", ":")).encode()) + 1
        return value

    def _count(self, message: BaseModel) -> None:
        self._sent.protocol_bytes += len(message.model_dump_json().encode()) + 1
