"""arq as the doorbell: tells worker processes to look. Postgres holds the work; a lost ring costs latency only."""

import asyncio
import contextlib
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

import msgspec
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from broker import log
from broker.errors import Unavailable

POLICIES, CONTROL, DELIVERIES = "broker:policies", "broker:control", "broker:deliveries"

# Revocations wait behind nothing: the identities have a queue of their own.
QUEUE_OF = {
    "identities": POLICIES,
    "connections": CONTROL,
    "topics": CONTROL,
    "routes": CONTROL,
    "replays": CONTROL,
    "digests": CONTROL,
    "reckonings": CONTROL,
    "erasures": CONTROL,
    "retentions": CONTROL,
    "suppression_pushes": CONTROL,
    "audit_chains": CONTROL,
    "alarms": CONTROL,
    "lanes": DELIVERIES,
}
CONNECT_TIMEOUT = 1.0  # seconds
ANSWER_TIMEOUT = 2.0
"""Seconds for Redis to answer a command. None that arq gives waits for something to happen, so what takes longer is a
connection that nobody holds at its other end, which TCP alone gives up after a quarter of an hour."""

RING_TIMEOUT = 1.0  # seconds; a black hole in the network must not hold a request
COALESCE = 0.02  # seconds in which rings of one queue become one
MOST_NAMED = 1000  # ids in one ring; of more, the worker is told to look everywhere

logger = log.get(__name__)


def encode(job: dict[str, Any]) -> bytes:
    """arq's jobs as MessagePack: pickle would let whoever writes to Redis run code in a worker."""
    return msgspec.msgpack.encode(job, enc_hook=repr)


def decode(job: bytes) -> dict[str, Any]:
    """The reverse of `encode`."""
    decoded: dict[str, Any] = msgspec.msgpack.decode(job)
    return decoded


def connect(url: str, queue: str) -> ArqRedis:
    """A pool for one queue, which connects when it is first used; whoever makes it closes it.

    Not arq's own `create_pool`: cancelled while it connects, that one leaves its connections open.
    """
    return ArqRedis(
        pool_or_conn=ConnectionPool.from_url(
            url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=ANSWER_TIMEOUT, socket_keepalive=True
        ),
        job_serializer=encode,
        job_deserializer=decode,
        default_queue_name=queue,
    )


async def disconnect(pool: ArqRedis) -> None:
    """Closes the pool's connections, also when Redis is gone."""
    with contextlib.suppress(RedisError, OSError):
        await pool.aclose(close_connection_pool=True)


class ArqBell:
    """Rings by enqueueing one job per kind; errors are logged and forgotten, since every worker sweeps anyway."""

    def __init__(self, url: str) -> None:
        self._pools = {queue: connect(url, queue) for queue in (POLICIES, CONTROL, DELIVERIES)}
        self._pending: dict[str, set[UUID]] = {}
        self._flushes: dict[str, asyncio.Task[None]] = {}

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None:
        """Never waits for Redis and never raises; rings of a kind within 20 ms of each other become one job.

        Each kind by itself: a revocation does not wait for the rings of a thousand bounces.
        """
        rung = set(ids)
        if not rung:
            return
        self._pending.setdefault(kind, set()).update(rung)
        flush = self._flushes.get(kind)
        if flush is None or flush.done():
            self._flushes[kind] = asyncio.create_task(self._ring_on(kind))

    async def ping(self) -> None:
        """Whether Redis answers and could be rung; `Unavailable` if not."""
        try:
            async with asyncio.timeout(RING_TIMEOUT):
                await self._pools[POLICIES].ping()
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("Redis cannot be reached; work is found by looking for it.") from error

    async def close(self) -> None:
        """Lets the last ring go out and closes the connections."""
        await asyncio.gather(*self._flushes.values(), return_exceptions=True)
        for pool in self._pools.values():
            await disconnect(pool)

    async def _ring_on(self, kind: str) -> None:
        while ids := self._pending.pop(kind, None):
            await self._ring_queue(QUEUE_OF[kind], kind, ids)
            await asyncio.sleep(COALESCE)

    async def _ring_queue(self, queue: str, kind: str, ids: Collection[UUID]) -> None:
        named = [str(each) for each in ids] if len(ids) <= MOST_NAMED else []
        try:
            async with asyncio.timeout(RING_TIMEOUT):
                await self._pools[queue].enqueue_job("look", kind, named, _expires=60)
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("ring lost; the sweep will find the work", queue=queue, error=type(error).__name__)
