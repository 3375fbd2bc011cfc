"""Subscribes the broker to topics of tenants that admit its account, by the way that it hears their Region."""

from collections.abc import Callable
from typing import Protocol

from broker.errors import Refused


class BrokerSns(Protocol):
    """SNS with the broker's own credentials. Raises `Unavailable` or `Refused`."""

    async def subscribe(self, topic_arn: str, endpoint: str, /) -> str | None:
        """The subscription's ARN once it is confirmed, None while it waits."""
        ...


class Subscribing:
    """Fits `broker.feedback.set_gateways.Subscriber`. `endpoint`: where SNS is to deliver a Region; empty: nowhere."""

    def __init__(self, sns: BrokerSns, endpoint: Callable[[str], str]) -> None:
        self._sns = sns
        self._endpoint = endpoint

    async def subscribe(self, topic_arn: str) -> str | None:
        """The subscription's ARN, None while SNS waits for its confirmation."""
        endpoint = self._endpoint(topic_arn.split(":")[3])
        if not endpoint:
            raise Refused("The operator has not set BROKER_PUBLIC_URL.")
        return await self._sns.subscribe(topic_arn, endpoint)
