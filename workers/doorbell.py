"""arq's worker, supervised: hears the rings of one queue, and begins again whatever ends it."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Worker
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisSlow

from broker import log
from broker.gateways.ending import end
from broker.gateways.queue import POLICIES, connect, decode, disconnect, encode
from workers.jobs import Ring, look

POLL = {POLICIES: 0.01}  # seconds between two looks at Redis; 10 ms cost about 6 % of a core when idle
POLL_OTHERWISE = 0.02
RESTART_AFTER = 1.0  # seconds
END_WITHIN = 1.0  # seconds

logger = log.get(__name__)
Bells = Mapping[str, Sequence[Ring]]


async def answer(url: str, queue: str, bells: Bells) -> None:
    """Calls what is in `bells` for the kind of due row that is rung on this queue, until cancelled.

    An arq worker ends when Redis goes away (python-arq/arq#386, #435), and on an entry that it cannot read; the loops
    beside it sweep on meanwhile.
    """
    while True:
        pool = connect(url, queue)
        try:
            await _hear(pool, queue, bells)
        except (RedisGone, RedisSlow, OSError) as error:
            logger.warning("doorbell lost; sweeping on", queue=queue, error=type(error).__name__)
        except Exception:
            logger.exception("doorbell broken; its queue is emptied", queue=queue)
            await _empty(pool, queue)
        finally:
            await disconnect(pool)
        await asyncio.sleep(RESTART_AFTER)


async def _hear(pool: ArqRedis, queue: str, bells: Bells) -> None:
    worker = _worker(pool, queue, bells)
    hearing = asyncio.create_task(worker.async_run())
    try:
        await asyncio.wait({hearing})
        hearing.result()
    finally:
        await end(hearing)
        await _end(worker)


async def _empty(pool: ArqRedis, queue: str) -> None:
    """What broke the worker is likely still there and would break the next. Rings that go with it cost latency only."""
    with contextlib.suppress(RedisError, OSError):
        await pool.delete(queue)


def _worker(pool: ArqRedis, queue: str, bells: Bells) -> Worker:
    context: dict[Any, Any] = {"bells": bells}
    return Worker(
        functions=[look],
        queue_name=queue,
        redis_pool=pool,
        job_serializer=encode,
        job_deserializer=decode,
        ctx=context,
        poll_delay=POLL.get(queue, POLL_OTHERWISE),
        keep_result=0,
        handle_signals=False,
        max_jobs=10,
        job_timeout=10,
    )


async def _end(worker: Worker) -> None:
    """Lets jobs finish, which takes them no time. Cancelling one would leave arq's book-keeping of it half done."""
    jobs = list(worker.tasks.values())
    if jobs:
        await asyncio.wait(jobs, timeout=END_WITHIN)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
