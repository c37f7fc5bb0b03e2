"""Running work for many devices so that Ctrl-C ends it in order: what is under way is told, and what it holds is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from edgebert import interrupts


def finish(work: Coroutine[Any, Any, None]) -> bool:
    """Runs the work to its end, or until Ctrl-C, SIGTERM or SIGHUP cancelled it; returns whether it came to its end."""

    async def watched() -> bool:
        task = asyncio.create_task(work)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(task.cancel)

        with interrupts.told_to(stop):
            try:
                await task
            except asyncio.CancelledError:
                if not interrupts.asked():
                    raise
                return False
        return True

    return asyncio.run(watched())
