"""Ending tasks that talk to Redis: one cancellation may not be enough."""

import asyncio
from typing import Any

AGAIN_AFTER = 0.1  # seconds


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels it until it has ended; what came of it is with the task.

    The driver sends through `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes as it returns
    (bpo-37658): a loop around it would go on for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN_AFTER)
