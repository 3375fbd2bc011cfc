"""The one way in which an event is stored and becomes deliveries."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Uuid, insert, text
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from broker.webhooks.events import Event
from broker.webhooks.models import EventRow

# A definer function: it writes deliveries of the other party too, and returns nothing but ids of endpoints.
_FAN_OUT = text("SELECT endpoint_id FROM fan_out(:ids, :ats)").bindparams(
    bindparam("ids", type_=ARRAY(Uuid())), bindparam("ats", type_=ARRAY(TIMESTAMP(timezone=True)))
)


async def publish(session: AsyncSession, events: Sequence[Event]) -> None:
    """Stores the events and one delivery for each active endpoint that must hear of one: two round trips in all.

    Runs in the transaction of the use case that made them happen, under any role of the service. The lanes touched are
    due at once, and the bell rings for them after the commit.
    """
    if not events:
        return
    await session.execute(insert(EventRow), [msgspec.structs.asdict(event) for event in events])
    touched = await session.scalars(
        _FAN_OUT, {"ids": [event.id for event in events], "ats": [event.at for event in events]}
    )
    ids = set(touched)
    if ids:
        session.info.setdefault("woken", {}).setdefault("lanes", set()).update(ids)
