"""What every way in ends in, the web handlers and the queues: nothing is trusted before its signature."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import log
from broker.audit.models import AuditRow
from broker.caller import NOBODY, Caller
from broker.db import Database, Role
from broker.due import wake
from broker.errors import BadRequest, Conflict, NotFound, Refused, TooLarge
from broker.feedback import topics
from broker.feedback.envelope import Envelope, MessageType, decode, topic_name
from broker.feedback.flusher import Flusher
from broker.feedback.known import KnownTopics
from broker.feedback.models import Topic
from broker.feedback.reasons import Reason
from broker.feedback.signature import Verifier
from broker.points import reach
from broker.webhooks.ledger.ledger import Count, Ledger

STALE = timedelta(hours=1)

logger = log.get(__name__)


class Confirmer(Protocol):
    """Raises `Unavailable` or `Refused`."""

    async def confirm(self, topic_arn: str, token: str) -> str:
        """Confirms a subscription by the API call ConfirmSubscription; its ARN."""
        ...


class Receiver:
    """Takes what SNS posts. `db` has the role broker_ingest; confirmations are written as the topic's tenant."""

    def __init__(
        self,
        db: Database,
        known: KnownTopics,
        verifier: Verifier,
        flusher: Flusher,
        confirmer: Confirmer,
        *,
        body_limit: int,
        ledger: Ledger | None = None,
    ) -> None:
        self._db = db
        self._topics = known
        self._verifier = verifier
        self._flusher = flusher
        self._confirmer = confirmer
        self._body_limit = body_limit
        self._ledger = ledger or Ledger()

    async def receive(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """Returns (answer 200) when the message is durably dealt with. Names of `headers` are lower case.

        Raises 400 for what is no signed SNS message, 404 for a topic of no route, 403 for a signature that does not
        fit, 409 for a confirmation that nobody waits for, 413 above the limit. Trouble of our own is `Unavailable`,
        503: SNS tries again after a 5xx only (SNS Developer Guide, sns-message-delivery-retries).
        """
        if len(body) > self._body_limit:
            raise TooLarge(f"The body has more than {self._body_limit} bytes.")
        await self.accept(decode(headers, body), now=now)

    async def accept(self, envelope: Envelope, *, now: datetime) -> None:
        """A message that is still to be verified, whichever way it came; returns and raises as `receive` does."""
        if topic_name(envelope.topic_arn) is None or not await self._topics.has(envelope.topic_arn):
            raise NotFound("This topic belongs to no route.")
        await self._verifier.verify(envelope, now=now)
        match envelope.type:
            case MessageType.NOTIFICATION:
                await self.keep(envelope)
            case MessageType.SUBSCRIPTION:
                await self._confirm(envelope)
            case MessageType.UNSUBSCRIPTION:
                await self._unsubscribed(envelope, now=now)

    async def keep(self, envelope: Envelope) -> None:
        """Returns once it is stored: as events, or in quarantine where its topic belongs to no route."""
        await self._flusher.add(envelope)

    async def set_aside(self, envelope: Envelope, reason: Reason) -> None:
        """Returns once it is in quarantine, for what is not to be trusted, whatever it says."""
        await self._flusher.add(envelope, distrust=reason)

    async def _find(self, topic_arn: str) -> tuple[UUID, UUID, str] | None:
        """Id, tenant and state of a topic."""
        async with self._db.read(NOBODY) as session:
            query = select(Topic.id, Topic.tenant_id, Topic.state).where(Topic.arn == topic_arn)
            row = (await session.execute(query)).one_or_none()
        return None if row is None else (row.id, row.tenant_id, row.state)

    async def _confirm(self, envelope: Envelope) -> None:
        """By API call with the token, never by following the address in the message.

        Whoever owns the topic may have subscribed us, and with raw delivery: we cannot see that of a subscription that
        is not ours (SNS, GetSubscriptionAttributes), nor need to, since what has no signature is never believed.
        """
        found = await self._find(envelope.topic_arn)
        if found is None or found[2] == "confirmed" or envelope.token is None:
            raise Conflict("This topic does not wait for a confirmation.")
        try:
            subscription = await self._confirmer.confirm(envelope.topic_arn, envelope.token)
        except Refused as error:
            raise BadRequest("SNS does not accept this confirmation.") from error
        reach("topics.confirmed")
        topic_id, tenant_id, _ = found
        caller = Caller.system(tenant_id, job="sns")
        async with self._db.as_role(Role.WORKER).begin(caller) as session:
            topic = (
                await session.scalars(select(Topic).where(Topic.id == topic_id).with_for_update(key_share=True))
            ).one()
            await topics.confirm(session, caller, topic, subscription)
            reach("topics.noted")

    async def _unsubscribed(self, envelope: Envelope, *, now: datetime) -> None:
        """Somebody removed our subscription: the topic's own worker asks for it again.

        Not for what is said of an earlier subscription, or long after: anybody who kept such a message can send it
        again. What really is gone is found by the worker's own checks.
        """
        found = await self._find(envelope.topic_arn)
        if found is None:
            raise NotFound("This topic belongs to no route.")
        topic_id, tenant_id, _ = found
        caller = Caller.system(tenant_id, job="sns")
        async with self._db.as_role(Role.WORKER).begin(caller) as session:
            topic = (
                await session.scalars(select(Topic).where(Topic.id == topic_id).with_for_update(key_share=True))
            ).one()
            is_news = envelope.sent_at > now - STALE and await _said_of_what_stands(session, topic, envelope.sent_at)
            if is_news:
                await topics.lose(session, caller, topic, "SNS told us that the subscription was removed.")
                wake(session, topic)
        if is_news:
            logger.warning("subscription removed", topic_id=str(topic_id))
        else:
            self._ledger.count(Count.FEEDBACK, "ignored")
            logger.info("old news of a subscription ignored", topic_id=str(topic_id))


async def _said_of_what_stands(session: AsyncSession, topic: Topic, at: datetime) -> bool:
    """Whether a message signed at this time can be about the subscription that we have now."""
    confirmations = select(func.max(AuditRow.at)).where(
        AuditRow.subject_id == topic.id, AuditRow.action == "topic.confirmed"
    )
    confirmed_at = (await session.scalars(confirmations)).one()
    return topic.state == "confirmed" and (confirmed_at is None or confirmed_at < at)
