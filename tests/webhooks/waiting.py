"""Waiting for a condition, with a deadline: so late that a slow machine never meets it."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 30.0  # seconds


async def until(holds: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Returns when `holds()`; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for is another program's doing
            await asyncio.sleep(0.005)


async def until_told(holds: Callable[[], Awaitable[bool]], *, seconds: float = PATIENCE) -> None:
    """Returns when whoever is asked says that it `holds`; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - what is waited for is another program's doing
            await asyncio.sleep(0.005)
