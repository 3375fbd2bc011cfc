"""Looks into the queues now and then: how many messages wait, and how many are dead and need somebody's eye."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from broker import log
from broker.db import Database
from broker.errors import BrokerError
from broker.feedback_queues import FeedbackQueue
from broker.webhooks.ledger import levels
from broker.webhooks.ledger.levels import Level

EVERY = 60.0  # seconds

logger = log.get(__name__)


class Depth(Protocol):
    """About how many messages wait in a queue, and how many somebody is working on."""

    @property
    def waiting(self) -> int: ...
    @property
    def in_flight(self) -> int: ...


class Queues(Protocol):
    """SQS in the broker's own account. Raises `Unavailable` or `Refused`."""

    async def depth(self, queue: FeedbackQueue) -> Depth:
        """Of the queue itself."""
        ...

    async def dead(self, queue: FeedbackQueue) -> int:
        """How many messages lie in its dead-letter queue."""
        ...


async def look(sqs: Queues, db: Database, queue: FeedbackQueue) -> int:
    """Reads one queue and tells the metrics, in a statement; how many are dead. `db` has the role broker_pump."""
    depth, dead = await sqs.depth(queue), await sqs.dead(queue)
    read = {Level.WAITING: depth.waiting, Level.IN_FLIGHT: depth.in_flight, Level.DEAD: dead}
    await levels.tell(db, queue.label, read)
    if dead:
        logger.warning("feedback lies in the dead-letter queue", queue=queue.label, number=dead)
    return dead


async def watch(sqs: Queues, db: Database, queues: Iterable[FeedbackQueue]) -> None:
    """Every minute, until cancelled."""
    watched = list(queues)
    while True:
        for queue in watched:
            try:
                await look(sqs, db, queue)
            except BrokerError as error:
                logger.warning("queue cannot be looked into", queue=queue.label, error=error.detail)
        await asyncio.sleep(EVERY)
