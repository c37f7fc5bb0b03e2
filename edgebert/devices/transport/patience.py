"""How long a device may take to answer. A connection that is gone is noticed by itself; this is for one that stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgebert.errors import DeviceError

SOON_S = 60.0
"""For what only has to start a Python."""
AFTER_READING_S = 300.0
"""For what hashes what is there, from a slow card."""
ANSWERS_WITHIN_S = {
    "hello": SOON_S,
    "pin": SOON_S,
    "status": AFTER_READING_S,
    "have": AFTER_READING_S,
    "rollback": AFTER_READING_S,
}
"""`op` -> seconds. What is sent or measured takes as long as it takes."""


@asynccontextmanager
async def within(seconds: float | None, device: str) -> AsyncIterator[None]:
    """Ends what is inside after so many seconds; None: never.

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
