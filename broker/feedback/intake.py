"""One message of a queue becomes what it is: feedback, a confirmation, or something for people to look at."""

from typing import Protocol

from broker import clock, log
from broker.errors import BadRequest, BrokerError, Conflict, Forbidden, NotFound
from broker.feedback import queued
from broker.feedback.envelope import Envelope, MessageType
from broker.feedback.reasons import Reason
from broker.feedback.receive import Receiver
from broker.feedback_queues import FeedbackQueue
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
    """Of one queue. Who may send to it says what it holds: SNS's messages are believed by their signature alone.

    An event of EventBridge carries no signature. It is looked for only where nobody but our own rule may send.
    """

    def __init__(self, queue: FeedbackQueue, receiver: Receiver, *, partition: str, ledger: Ledger) -> None:
        self._queue = queue
        self._receiver = receiver
        self._partition = partition
        self._ledger = ledger

    async def take(self, message: Held) -> None:
        """Returns when it is stored, as what it is or in quarantine; raises `Unavailable` when that cannot be now."""
        await (self._take_event(message) if self._queue.events else self._take_message(message))

    async def _take_event(self, message: Held) -> None:
        event = queued.event_in(message.body)
        if event is None:
            await self._set_aside(message, Reason.no_event)
        else:
            await self._receiver.keep(queued.as_envelope(event, partition=self._partition))

    async def _take_message(self, message: Held) -> None:
        found = queued.message_in(message.body)
        if found is None:
            await self._set_aside(message, Reason.no_message)
            return
        try:
            await self._receiver.accept(found, now=clock.now())
        except (BadRequest, Conflict, Forbidden, NotFound) as error:
            await self._refuse(message, found, error)

    async def _refuse(self, message: Held, envelope: Envelope, error: BrokerError) -> None:
        """Notifications are kept for people to look at; of a confirmation that nobody waits for, nothing is."""
        if envelope.type is MessageType.NOTIFICATION:
            unknown = isinstance(error, NotFound)
            await self._set_aside(message, Reason.unknown_topic if unknown else Reason.bad_signature)
        else:
            logger.warning("confirmation refused", topic_arn=envelope.topic_arn, reason=error.detail)

    async def _set_aside(self, message: Held, reason: Reason) -> None:
        self._ledger.count(Count.QUEUED, "unread")
        logger.warning("message of a queue not trusted", queue=self._queue.label, id=message.id, reason=reason.value)
        kept = queued.as_it_came(message.id, message.body, queue_arn=self._queue.arn, now=clock.now())
        await self._receiver.set_aside(kept, reason)
