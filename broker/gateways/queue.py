"""arq as the doorbell: tells worker processes to look. Postgres holds the work; a lost ring costs latency only."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import RedisError

from broker import log

POLICIES, CONTROL, DELIVERIES = "broker:policies", "broker:control", "broker:deliveries"

# Revocations wait behind nothing: the identities have a queue of their own.
QUEUE_OF = {
    "identities": POLICIES,
    "connections": CONTROL,
    "topics": CONTROL,
    "routes": CONTROL,
    "lanes": DELIVERIES,
}
RING_TIMEOUT = 1.0  # seconds; a black hole in the network must not hold a request
COALESCE = 0.01  # seconds in which rings of one queue become one

logger = log.get(__name__)


def encode(job: dict[str, Any]) -> bytes:
    """arq's jobs as MessagePack: pickle would let whoever writes to Redis run code in a worker."""
    return msgspec.msgpack.encode(job, enc_hook=repr)


def decode(job: bytes) -> dict[str, Any]:
    """The reverse of `encode`."""
    decoded: dict[str, Any] = msgspec.msgpack.decode(job)
    return decoded


def redis_settings(url: str) -> RedisSettings:
    """arq's settings for this URL; quick to give up, since nothing depends on it."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout, settings.conn_retries, settings.conn_retry_delay = 1, 1, 0
    return settings


class ArqBell:
    """Rings by enqueueing one job per queue; errors are logged and forgotten, since every worker sweeps anyway."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: ArqRedis | None = None
        self._pending: set[str] = set()
        self._flush: asyncio.Task[None] | None = None

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None:
        """Never waits for Redis and never raises; rings within 10 ms of each other become one job."""
        self._pending.add(QUEUE_OF[kind])
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._ring_all())

    async def close(self) -> None:
        """Lets the last ring go out and closes the connections."""
        if self._flush is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._flush
        if self._pool is not None:
            await self._pool.aclose()

    async def _ring_all(self) -> None:
        while self._pending:
            queue = self._pending.pop()
            try:
                async with asyncio.timeout(RING_TIMEOUT):
                    await self._enqueue(queue)
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("ring lost; the sweep will find the work", queue=queue, error=type(error).__name__)
            await asyncio.sleep(COALESCE)

    async def _enqueue(self, queue: str) -> None:
        if self._pool is None:
            self._pool = await create_pool(redis_settings(self._url), job_serializer=encode, job_deserializer=decode)
        await self._pool.enqueue_job("look", queue, _queue_name=queue, _expires=60)
