"""A task that exchanges counts with other processes by Redis, now and then; while Redis is away each counts alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from broker import log
from broker.gateways.ending import end

logger = log.get(__name__)


@asynccontextmanager
async def exchanging(
    exchange: Callable[[float], Awaitable[None]], *, what: str, every: float, again: float
) -> AsyncIterator[None]:
    """Calls `exchange` with the monotonic clock until left: each `every` seconds, `again` while Redis is away."""
    task = asyncio.create_task(_run(exchange, what, every, again))
    try:
        yield
    finally:
        await end(task)


async def _run(exchange: Callable[[float], Awaitable[None]], what: str, every: float, again: float) -> None:
    reached = True
    while True:
        await asyncio.sleep(every if reached else again)
        try:
            await exchange(time.monotonic())
        except (RedisError, OSError) as error:
            if reached:
                logger.warning("counted by each process for itself", what=what, error=type(error).__name__)
            reached = False
        else:
            reached = True
