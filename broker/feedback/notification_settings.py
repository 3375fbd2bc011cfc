"""What SES says of an identity's notifications, and the calls that change them."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from broker.aws_access import RoleAccess
from broker.feedback.slots import KINDS


class Slot(msgspec.Struct, frozen=True):
    """One kind of feedback: the topic that hears of it, and whether the original headers are in it."""

    topic: str | None = None
    headers: bool = False


class Notifications(msgspec.Struct, frozen=True):
    """The three slots by kind; `forwarding`: bounces and complaints also go out by e-mail."""

    slots: Mapping[str, Slot]
    forwarding: bool

    def topic(self, kind: str) -> str | None:
        """The topic of one kind."""
        return self.slots[kind].topic

    @property
    def reachable(self) -> bool:
        """Whether SES would let forwarding be off: bounces and complaints both have a topic."""
        return bool(self.topic("bounce") and self.topic("complaint"))


class IdentityNotifications(Protocol):
    """What a handler needs of SES (`broker/gateways/ses_notifications.py`). Raises `Unavailable` or `Refused`.

    `identity` is a name in the role's own account, or the ARN of another account's identity.
    """

    async def notification_settings(self, access: RoleAccess, identity: str) -> Mapping[str, Any]: ...

    async def set_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None: ...

    async def set_headers(self, access: RoleAccess, identity: str, kind: str, *, enabled: bool) -> None: ...

    async def set_forwarding(self, access: RoleAccess, identity: str, *, enabled: bool) -> None: ...


def notifications_of(told: Mapping[str, Any]) -> Notifications:
    """From GetIdentityNotificationAttributes; an identity that SES says nothing of has nothing set."""
    slots = {
        kind: Slot(
            told.get(f"{kind.title()}Topic") or None,
            bool(told.get(f"HeadersIn{kind.title()}NotificationsEnabled")),
        )
        for kind in KINDS
    }
    return Notifications(slots, bool(told.get("ForwardingEnabled", True)))


async def change(
    ses: IdentityNotifications, access: RoleAccess, identity: str, kind: str, *, before: Slot, wanted: Slot
) -> None:
    """Makes one slot as it is wanted, so that no topic is ever sent headers that it was not to get.

    Headers can only be switched where a topic is set (SES API Reference).
    """
    if before.topic and before.headers and not wanted.headers:
        await ses.set_headers(access, identity, kind, enabled=False)
    if before.topic != wanted.topic:
        await ses.set_topic(access, identity, kind, wanted.topic)
    headers_left = before.headers and bool(before.topic)
    if wanted.topic and wanted.headers and not headers_left:
        await ses.set_headers(access, identity, kind, enabled=True)
    if wanted.topic and not wanted.headers and before.headers and not before.topic:
        await ses.set_headers(access, identity, kind, enabled=False)


def listed(names: tuple[str, ...]) -> str:
    """`bounce`, `bounce and complaint`, `bounce, complaint and delivery`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
