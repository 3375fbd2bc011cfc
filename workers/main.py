"""The worker process: `python -m workers.main policy|delivery|all`.

Loops over due rows do the work; arq, supervised beside them, is their doorbell. A Redis that is gone stops the bell and
nothing else (arq's own worker ends when Redis goes away: python-arq/arq#386, #435).
"""

import asyncio
import os
import signal
import sys
from typing import Any

import uvloop
from arq.worker import Worker
from redis.exceptions import RedisError

from broker import log
from broker.errors import BrokerError
from broker.gateways.queue import CONTROL, DELIVERIES, POLICIES, QUEUE_OF, decode, encode, redis_settings
from broker.parts import Parts, open_parts
from broker.settings import SettingsError, load
from workers.jobs import look
from workers.watch import watch

QUEUES = {"policy": (POLICIES, CONTROL), "delivery": (DELIVERIES,), "all": (POLICIES, CONTROL, DELIVERIES)}
POLL = 0.01  # seconds between two looks at Redis; 10 ms cost about 6 % of a core when idle
RESTART_AFTER = 1.0  # seconds
HOUSEKEEPING = 3600.0  # seconds

logger = log.get(__name__)


async def main(name: str) -> None:
    """Works until SIGTERM or SIGINT. What is under way is cancelled: its leases run out and it is done again."""
    settings = load(os.environ)
    log.configure(log_format=settings.log_format, level=settings.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_parts(settings) as parts:
        logger.info("worker ready", queues=QUEUES[name])
        tasks = _tasks(parts, QUEUES[name])
        waiter = asyncio.create_task(stop.wait())
        await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in (waiter, *tasks):
            task.cancel()
        await asyncio.gather(waiter, *tasks, return_exceptions=True)
        logger.info("worker stopped")


def _tasks(parts: Parts, queues: tuple[str, ...]) -> list[asyncio.Task[None]]:
    bells: dict[str, list[asyncio.Event]] = {queue: [] for queue in queues}
    tasks = []
    for kind, (db, run) in parts.runs().items():
        if QUEUE_OF[kind] in queues:
            rung = asyncio.Event()
            bells[QUEUE_OF[kind]].append(rung)
            tasks.append(asyncio.create_task(watch(db, kind, run, rung)))
    tasks += [asyncio.create_task(_answer_the_bell(parts, queue, bells)) for queue in queues]
    return [*tasks, asyncio.create_task(_keep_house(parts))]


async def _answer_the_bell(parts: Parts, queue: str, bells: dict[str, list[asyncio.Event]]) -> None:
    """An arq worker for one queue, begun again whenever Redis ends it."""
    while True:
        worker = _worker(parts.settings.redis_url, queue, bells)
        try:
            await worker.async_run()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("doorbell lost; sweeping on", queue=queue, error=type(error).__name__)
        finally:
            await _close(worker)
        await asyncio.sleep(RESTART_AFTER)


def _worker(url: str, queue: str, bells: dict[str, list[asyncio.Event]]) -> Worker:
    context: dict[Any, Any] = {"bells": bells}
    return Worker(
        functions=[look],
        queue_name=queue,
        redis_settings=redis_settings(url),
        job_serializer=encode,
        job_deserializer=decode,
        ctx=context,
        poll_delay=POLL,
        keep_result=0,
        handle_signals=False,
        max_jobs=10,
        job_timeout=10,
    )


async def _close(worker: Worker) -> None:
    try:
        await worker.close()
    except (RedisError, OSError, AttributeError) as error:
        # arq's close talks to the Redis that has just gone away.
        logger.debug("doorbell closed badly", error=type(error).__name__)


async def _keep_house(parts: Parts) -> None:
    while True:
        try:
            await parts.keep_house()
        except BrokerError as error:
            logger.warning("housekeeping failed; it is tried again", error=error.detail)
        await asyncio.sleep(HOUSEKEEPING)


def run() -> None:
    """Entry point of the process."""
    name = sys.argv[1] if len(sys.argv) > 1 else "all"
    if name not in QUEUES:
        sys.exit(f"There is no worker called {name!r}; choose one of {', '.join(QUEUES)}.")
    try:
        uvloop.run(main(name))
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    run()
