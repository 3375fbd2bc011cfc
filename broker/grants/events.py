"""The events of a grant's life, for both parties' webhooks."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.grants.models import Grant
from broker.ids import new_id
from broker.webhooks.events import Event
from broker.webhooks.fanout import publish


async def announce(session: AsyncSession, type_: str, grant: Grant, **details: Any) -> None:
    """Stores one event of a grant and what must be delivered of it, in the transaction of the change itself."""
    await announce_all(session, type_, [grant], **details)


async def announce_all(session: AsyncSession, type_: str, grants: Iterable[Grant], **details: Any) -> None:
    """The same event of each of these grants, in two round trips."""
    await publish(session, [_event(type_, grant, details) for grant in grants])


def _event(type_: str, grant: Grant, details: dict[str, Any]) -> Event:
    event_id = new_id()
    return Event(
        id=event_id,
        at=clock.now(),
        type=type_,
        owner_id=grant.owner_id,
        delegate_id=grant.delegate_id,
        grant_id=grant.id,
        source="broker",
        owner_view="full",
        delegate_view="full",
        recipient_hash=None,
        data={
            "event_id": str(event_id),
            "grant_id": str(grant.id),
            "identity": grant.identity_arn,
            "owner_id": str(grant.owner_id),
            "delegate_id": str(grant.delegate_id),
            **details,
        },
        payload=None,
    )
