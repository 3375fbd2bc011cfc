"""One message of a queue becomes what it is: feedback, a confirmation, or something for people to look at."""

from typing import Protocol

from broker import clock, log
from broker.errors import BadRequest, BrokerError, Conflict, Forbidden, NotFound
from broker.feedback import queued
from broker.feedback.envelope import Envelope, MessageType
from broker.feedback.receive import Receiver
from broker.settings import FeedbackQueue
from broker.webhooks.ledger.ledger import Count, Ledger

logger = log.get(__name__)


class Held(Protocol):
    """One message that is hidden from others for now. `receipt` is of this receive; `received` counts them, from 1."""

    @property
    def id(self) -> str: ...
    @property
    def receipt(self) -> str: ...
    @property
    def body(self) -> str: ...
    @property
    def received(self) -> int: ...


class Intake:
    """Of one queue. What is in it is trusted no more than what is posted to the API: by its signature alone."""

    def __init__(self, queue: FeedbackQueue, receiver: Receiver, *, partition: str, ledger: Ledger) -> None:
        self._queue = queue
        self._receiver = receiver
        self._partition = partition
        self._ledger = ledger

    async def take(self, message: Held) -> None:
        """Returns when it is stored, as what it is or in quarantine; raises `Unavailable` when that cannot be now."""
        found = queued.read(message.body)
        if isinstance(found, queued.Event):
            await self._receiver.keep(queued.as_envelope(found, partition=self._partition))
            return
        if found is None:
            await self._set_aside(message, "neither a message of SNS with its envelope nor an event of SES")
            return
        try:
            await self._receiver.accept(found, now=clock.now())
        except (BadRequest, Conflict, Forbidden, NotFound) as error:
            await self._refuse(message, found, error)

    async def _refuse(self, message: Held, envelope: Envelope, error: BrokerError) -> None:
        """Notifications are kept for people to look at; of a confirmation that nobody waits for, nothing is."""
        if envelope.type is MessageType.NOTIFICATION:
            await self._set_aside(message, error.detail)
        else:
            logger.warning("confirmation refused", topic_arn=envelope.topic_arn, reason=error.detail)

    async def _set_aside(self, message: Held, reason: str) -> None:
        self._ledger.count(Count.QUEUED, "unread")
        logger.warning("message of a queue not trusted", region=self._queue.region, id=message.id, reason=reason)
        kept = queued.as_it_came(message.id, message.body, queue_arn=self._queue.arn, now=clock.now())
        await self._receiver.keep(kept)
