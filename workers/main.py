"""The worker process: `python -m workers.main policy|control|delivery|feedback|all`.

Loops over due rows do the work; arq, supervised beside them, is their doorbell. A Redis that is gone stops the bell and
nothing else.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import uvloop
from sqlalchemy.exc import DBAPIError

from broker import collector, log
from broker.configuration import load
from broker.db import check_role
from broker.errors import BrokerError
from broker.gateways.queue import CONTROL, DELIVERIES, POLICIES, QUEUE_OF
from broker.parts import Parts, open_parts
from broker.precedence import give_way
from broker.roundtrips import ROUND_TRIPS
from broker.settings import SettingsError
from workers import doorbell
from workers.jobs import Ring
from workers.watch import watch

LANES = "lanes"  # rung for the pump, which is not a loop over due rows
FEEDBACK = "feedback"  # no queue of arq's: SQS tells by itself when there is something
QUEUES = {
    "policy": (POLICIES,),
    "control": (CONTROL,),
    "delivery": (DELIVERIES,),
    "feedback": (FEEDBACK,),
    "all": (POLICIES, CONTROL, DELIVERIES, FEEDBACK),
}
# In no hurry, and a lot where there are many tenants.
GENTLE = frozenset({"reckonings", "retentions", "digests", "audit_chains"})
GIVES_WAY = {"delivery": 5, "feedback": 5, "control": 10}  # nice(2); who revokes goes first
DATABASE_AGAIN = 1.0  # seconds
HOUSEKEEPING = 3600.0  # seconds

logger = log.get(__name__)


async def main(name: str) -> bool:
    """Works until SIGTERM or SIGINT; False when a part of it ended by itself, which none should.

    What is under way is cancelled: its leases run out and it is done again. Only feedback in hand is stored before the
    end.
    """
    settings = load(os.environ)
    if name == FEEDBACK and not settings.polled:
        raise SettingsError(
            "Neither BROKER_FEEDBACK_QUEUES nor BROKER_EVENT_QUEUES is set: there is no queue to take feedback from."
        )
    log.configure(log_format=settings.log_format, level=settings.log_level, secrets=settings.secrets)
    give_way(GIVES_WAY.get(name, 0))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_parts(settings) as parts:
        if reason := await _refusal(parts, stop):
            raise SettingsError(reason)
        collector.settle()
        logger.info("worker ready", queues=QUEUES[name])
        well = await attend(begin(parts, QUEUES[name]), stop)
        logger.info("worker stopped", round_trips=ROUND_TRIPS.count)
        return well


async def attend(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event) -> bool:
    """Waits for `stop`, or for a task that ends by itself, and ends the others; whether it was `stop`.

    A worker that works on in part would look well; one that is gone is started again by whoever watches processes.
    """
    waiter = asyncio.create_task(stop.wait())
    await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    broken = [task for task in tasks if task.done()]
    for task in broken:
        logger.error("a part of the worker ended", part=task.get_name(), exc_info=_why(task))
    waiter.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.gather(waiter, *tasks, return_exceptions=True)
    return not broken


def _why(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


async def _refusal(parts: Parts, stop: asyncio.Event) -> str | None:
    """Why the database login must not be used; waits for a database that is not there yet."""
    while not stop.is_set():
        try:
            return await check_role(parts.engine)
        except (OSError, DBAPIError) as error:
            logger.warning("waiting for the database", error=type(error).__name__)
            await asyncio.sleep(DATABASE_AGAIN)
    return None


def begin(parts: Parts, queues: tuple[str, ...]) -> list[asyncio.Task[None]]:
    """What a worker of these queues consists of, each a task that has been started."""
    bells: dict[str, list[Ring]] = {}
    tasks = []
    for kind, (db, run) in parts.runs().items():
        if QUEUE_OF[kind] in queues:
            rung = asyncio.Event()
            bells[kind] = [partial(_set, rung)]
            tasks.append(asyncio.create_task(watch(db, kind, run, rung, gentle=kind in GENTLE), name=f"loop of {kind}"))
    if DELIVERIES in queues:
        pump = parts.deliveries.pump()
        bells[LANES] = [pump.ring]
        tasks.append(asyncio.create_task(pump.run(), name="pump"))
    if FEEDBACK in queues and parts.settings.polled:
        tasks.append(asyncio.create_task(parts.poll(), name="poller"))
    for queue in queues:
        if queue != FEEDBACK:
            answering = doorbell.answer(parts.settings.redis_url, queue, bells)
            tasks.append(asyncio.create_task(answering, name=f"doorbell of {queue}"))
    return [*tasks, asyncio.create_task(_keep_house(parts), name="housekeeping")]


def _set(rung: asyncio.Event, _ids: Sequence[UUID]) -> None:
    rung.set()


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
        well = uvloop.run(main(name))
    except SettingsError as error:
        sys.exit(str(error))
    if not well:
        sys.exit(1)


if __name__ == "__main__":
    run()
