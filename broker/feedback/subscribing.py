"""Subscribes the broker to topics of tenants that admit its account, by the way that it hears their Region."""

from collections.abc import Callable
from typing import Protocol

from broker import log
from broker.errors import Refused
from broker.feedback.set_gateways import Subscription
from broker.feedback.topics import protocol_of

logger = log.get(__name__)


class BrokerSns(Protocol):
    """SNS with the broker's own credentials. Raises `Unavailable` or `Refused`."""

    async def subscribe(self, topic_arn: str, endpoint: str, /) -> str | None:
        """The subscription's ARN once it is confirmed, None while it waits."""
        ...

    async def keep_all(self, subscription_arn: str, *, dead_letters: str | None) -> bool:
        """Sets a subscription of ours so that SNS loses nothing while we are away; whether that is so now."""
        ...


class Subscribing:
    """Fits `broker.feedback.set_gateways.Subscriber`. Both are asked about a Region.

    `endpoint`: where SNS is to deliver; empty: nowhere. `dead_letters`: the queue for what it could not deliver.
    """

    def __init__(
        self, sns: BrokerSns, endpoint: Callable[[str], str], dead_letters: Callable[[str], str | None]
    ) -> None:
        self._sns = sns
        self._endpoint = endpoint
        self._dead_letters = dead_letters

    async def subscribe(self, topic_arn: str) -> Subscription:
        """Whoever subscribes owns the subscription, and may set how it is delivered (SNS, Subscribe)."""
        region = topic_arn.split(":")[3]
        endpoint = self._endpoint(region)
        if not endpoint:
            raise Refused("The operator has not set BROKER_PUBLIC_URL.")
        arn = await self._sns.subscribe(topic_arn, endpoint)
        durable = arn is not None and await self._keep_all(arn, self._dead_letters(region))
        return Subscription(arn=arn, protocol=protocol_of(endpoint), durable=durable)

    async def _keep_all(self, subscription_arn: str, dead_letters: str | None) -> bool:
        try:
            return await self._sns.keep_all(subscription_arn, dead_letters=dead_letters)
        except Refused as error:
            logger.warning("subscription cannot be made durable", arn=subscription_arn, reason=error.detail)
            return False
