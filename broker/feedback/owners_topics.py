"""Topics of an owner's own that hold a slot already: we subscribe to them and leave the setting as it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from broker.aws_access import RoleAccess
from broker.errors import Refused
from broker.feedback import slots
from broker.feedback.handling import RouteWork, TenantTopic
from broker.feedback.set_answers import subscribed
from broker.feedback.set_gateways import Subscriber, Subscription

AWS_MANAGED_KEY = "alias/aws/sns"


class OwnersSns(Protocol):
    """SNS in an owner's account. Raises `Unavailable` or `Refused`."""

    async def topic_attributes(self, access: RoleAccess, topic_arn: str) -> Mapping[str, str]:
        """SNS's GetTopicAttributes; `Refused` NotFound."""
        ...

    async def subscribe(self, access: RoleAccess, topic_arn: str, protocol: str, endpoint: str) -> str | None:
        """The subscription's ARN once it is confirmed, None while it waits. By HTTPS with our retry policy."""
        ...

    async def unsubscribe(self, access: RoleAccess, subscription_arn: str) -> None:
        """Ends a subscription."""
        ...


class Listening(Protocol):
    """Where topics of a Region are delivered to: SNS's protocol and endpoint; None: the operator has not said."""

    def __call__(self, region: str) -> tuple[str, str] | None: ...


class Heard(msgspec.Struct, frozen=True):
    """What came of listening to the owner's topics: `why_not` by ARN; `fresh` are to be known before SNS asks us."""

    why_not: Mapping[str, str]
    topics: tuple[TenantTopic, ...]
    fresh: bool


class OwnersTopics:
    """Subscribes as the broker, through its queue where there is one, if the topic's policy lets it.

    Else with the owner's role over HTTPS: whoever subscribes owns the subscription, so no dead-letter queue of ours can
    be set there (SNS Developer Guide, sns-dead-letter-queues: of the same account). What neither the topic nor that
    role allows is a reason, not an error. `queued`: whether the broker has a queue in this Region.
    """

    def __init__(
        self, sns: OwnersSns, listening: Listening, subscriber: Subscriber, queued: Callable[[str], bool]
    ) -> None:
        self._sns = sns
        self._listening = listening
        self._subscriber = subscriber
        self._queued = queued

    async def listen(self, work: RouteWork, access: RoleAccess, topics: Sequence[str]) -> Heard:
        """Subscribes to each of these topics that can be; one that is new waits for the next run to be known first.

        One that could not be known is asked about again at the next check, and not before.
        """
        why_not: dict[str, str] = {}
        known: list[TenantTopic] = []
        fresh = False
        unknown = frozenset(work.found.get("unknown", ()))
        reached = self._listening(access.region) is not None or self._queued(access.region)
        for arn in topics:
            reason = await self._why_not(access, arn)
            if reason is None and not reached:
                reason = slots.NO_ADDRESS
            elif reason is None:
                topic = TenantTopic(arn=arn, tenant_id=work.owner_id)
                if arn in work.beside.owner_topics:
                    reason, topic = await self._subscribe(work, access, topic)
                elif arn in unknown:
                    reason = slots.ANOTHERS
                else:
                    fresh, reason = True, slots.UNCONFIRMED
                known.append(topic)
            if reason is not None:
                why_not[arn] = reason
        return Heard(why_not, tuple(known), fresh)

    async def _why_not(self, access: RoleAccess, arn: str) -> str | None:
        reason = slots.out_of_reach(arn, account_id=access.account_id, region=access.region)
        if reason is not None:
            return reason
        try:
            attributes = await self._sns.topic_attributes(access, arn)
        except Refused as error:
            return slots.GONE if error.code.startswith("NotFound") else slots.NOT_ADMITTED
        return slots.ENCRYPTED if attributes.get("KmsMasterKeyId", "").endswith(AWS_MANAGED_KEY) else None

    async def _subscribe(
        self, work: RouteWork, access: RoleAccess, topic: TenantTopic
    ) -> tuple[str | None, TenantTopic]:
        """Why it does not reach us, and the topic as it does."""
        where, before = self._listening(access.region), work.beside.subscriptions.get(topic.arn)
        try:
            made = await self._subscriber.subscribe(topic.arn)
        except Refused:
            if where is None:
                return slots.NO_ADDRESS, topic
            try:
                arn = await self._sns.subscribe(access, topic.arn, *where)
            except Refused:
                return slots.NOT_ADMITTED, topic
            made = Subscription(arn=arn, protocol="https", durable=False, by_broker=False)
        if made.arn is None:
            return slots.UNCONFIRMED, topic
        if before not in {None, made.arn}:
            # Both would bring everything twice.
            await self.leave(work, access, topic.arn)
        return None, subscribed(topic, made)

    async def leave(self, work: RouteWork, access: RoleAccess, arn: str) -> list[str]:
        """Ends our subscription to a topic; what is to be said of it."""
        subscription = work.beside.subscriptions.get(arn)
        if subscription is None:
            return []
        try:
            await self._sns.unsubscribe(access, subscription)
        except Refused as error:
            return [] if error.code.startswith("NotFound") else [STILL_SUBSCRIBED]
        return []


STILL_SUBSCRIBED = (
    "The owner's role does not let us end our subscription to the owner's topic; the owner can delete it in SNS. "
    "What still comes from it is not read."
)
