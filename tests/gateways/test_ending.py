"""A task that swallows its cancellation ends all the same."""

import asyncio
from contextlib import suppress

from broker.gateways.ending import end

DEADLINE = 30.0


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = asyncio.Event()

    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        swallowed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.wait({task}, timeout=0)
    async with asyncio.timeout(DEADLINE):
        await end(task)

    assert swallowed.is_set()
    assert task.cancelled()


async def test_what_came_of_a_task_stays_with_it() -> None:
    async def quick() -> int:
        return 7

    task = asyncio.create_task(quick())
    await asyncio.wait({task})
    await end(task)

    assert 7 == task.result()
