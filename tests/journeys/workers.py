"""The workers of a journey: everything that is due, in bursts, in the test's own event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.parts import Parts

PAUSE = 0.03  # seconds between two looks when nothing is due
PATIENCE = 60.0  # seconds; what a journey waits for takes tens of milliseconds unless SES is slow on purpose

T = TypeVar("T")


class Workers:
    """Runs what is due of every kind until a condition holds."""

    def __init__(self, parts: Parts) -> None:
        self._runs = [*(run for _, run in parts.runs().values()), parts.deliveries.burst]

    async def burst(self) -> int:
        """Everything that is due now, once; how many rows were worked on."""
        return sum(await asyncio.gather(*(run() for run in self._runs)))

    async def until(self, look: Callable[[], Awaitable[T | None]], *, seconds: float = PATIENCE) -> T:
        """What `look` finds, other than None, with the workers at it meanwhile; TimeoutError after `seconds`."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while True:
            worked_on = await self.burst()
            if (found := await look()) is not None:
                return found
            if loop.time() > ends:
                raise TimeoutError(f"Not within {seconds} seconds.")
            if not worked_on:
                await asyncio.sleep(PAUSE)
