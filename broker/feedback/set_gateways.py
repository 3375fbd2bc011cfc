"""What routes in a delegate's account need of SES and SNS."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from broker.aws_access import RoleAccess


class Sets(Protocol):
    """Configuration sets in a tenant's account, by name. Raises `Unavailable` or `Refused`."""

    async def find(self, access: RoleAccess, name: str) -> dict[str, Any] | None:
        """SES's own description with `Tags` and `DeliveryOptions`; None when there is no such set."""
        ...

    async def create(
        self, access: RoleAccess, name: str, *, tags: Mapping[str, str], tls_policy: str | None = None
    ) -> None: ...

    async def set_tls_policy(self, access: RoleAccess, name: str, tls_policy: str) -> None: ...

    async def delete(self, access: RoleAccess, name: str) -> None: ...

    async def destinations(self, access: RoleAccess, name: str) -> list[dict[str, Any]]: ...

    async def create_destination(
        self, access: RoleAccess, name: str, destination: str, definition: Mapping[str, Any]
    ) -> None: ...

    async def update_destination(
        self, access: RoleAccess, name: str, destination: str, definition: Mapping[str, Any]
    ) -> None: ...

    async def delete_destination(self, access: RoleAccess, name: str, destination: str) -> None: ...


class Topics(Protocol):
    """SNS topics in a tenant's account, by ARN. Raises `Unavailable` or `Refused`."""

    async def attributes(self, access: RoleAccess, topic_arn: str) -> dict[str, str] | None:
        """None when there is no such topic."""
        ...

    async def tags(self, access: RoleAccess, topic_arn: str) -> dict[str, str]: ...

    async def create(
        self, access: RoleAccess, topic_arn: str, *, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> None: ...

    async def set_attribute(self, access: RoleAccess, topic_arn: str, name: str, value: str) -> None: ...

    async def delete(self, access: RoleAccess, topic_arn: str) -> None: ...


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's subscription to a tenant's topic. `arn` None: SNS waits for a confirmation. `protocol`: `sqs`,
    `https`. `durable`: nothing is lost while the broker is away. `by_broker`: it is of our account, not the topic's."""

    arn: str | None
    protocol: str
    durable: bool
    by_broker: bool = True


class Subscriber(Protocol):
    """Subscribes the broker, with its own credentials, to a topic that admits its account."""

    async def subscribe(self, topic_arn: str) -> Subscription:
        """As it is now; asking again changes nothing. `Unavailable`, `Refused`.

        Of a queue of ours nothing has to be confirmed: its owner subscribes it (SNS Developer Guide,
        sns-send-message-to-sqs-cross-account). Of an HTTPS endpoint SNS asks for confirmation all the same.
        """
        ...
