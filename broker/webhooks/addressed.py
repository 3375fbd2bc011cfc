"""An event for one endpoint alone, whatever its filters."""

from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.clock import now
from broker.ids import new_id
from broker.webhooks import counts
from broker.webhooks.events import View
from broker.webhooks.models import DeliveryRow, EndpointRow, EventRow

PRIORITY = 1  # that of `event_priority` for what is no mail event


async def send(session: AsyncSession, caller: Caller, endpoint: EndpointRow, type_: str, **data: Any) -> UUID:
    """Stores an event of a type in `ADDRESSED` and its delivery; a disabled endpoint gets none. The event's id.

    Ring for the endpoint afterwards (`endpoints.wake`). Three round trips.
    """
    event_id, at = new_id(), now()
    await session.execute(
        insert(EventRow).values(
            id=event_id,
            at=at,
            type=type_,
            owner_id=caller.tenant,
            owner_view=View.FULL,
            source="broker",
            data={"event_id": str(event_id), "endpoint_id": str(endpoint.id), **data},
        )
    )
    if endpoint.state != "disabled":
        await session.execute(
            insert(DeliveryRow).values(
                endpoint_id=endpoint.id, event_id=event_id, event_at=at, tenant_id=caller.tenant, priority=PRIORITY
            )
        )
        await counts.count(session, caller.tenant, day=counts.day_of(at), created=1)
    return event_id
