"""The events of a grant's life, for both parties' webhooks."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.grants.models import Grant
from broker.ids import new_id
from broker.webhooks.events import Event
from broker.webhooks.fanout import publish


async def announce(session: AsyncSession, type_: str, grant: Grant, **details: Any) -> None:
    """Stores one event of a grant and what must be delivered of it, in the transaction of the change itself."""
    event_id = new_id()
    event = Event(
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
    await publish(session, [event])
