"""The cursor feed: a tenant's events as it may see them, to pull instead of being pushed."""

import base64
import struct
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select, text, true, tuple_, union_all
from sqlalchemy.orm import aliased

from broker.caller import Caller
from broker.db import Database
from broker.errors import BadRequest
from broker.webhooks.events import Event
from broker.webhooks.models import EventRow
from broker.webhooks.render import party_of, shown
from broker.webhooks.views import EventFeed, EventView

NOW = "now"  # given as a cursor: the end of the feed

_CURSOR = struct.Struct(">q16s")
Position = tuple[int, UUID]

_LAST_ID = UUID(int=2**128 - 1)
_OLDEST_OPEN = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"

# Above it, a transaction that is still under way may commit: handing out later rows would skip what it brings.
_SETTLED = text(f"events.xact < {_OLDEST_OPEN}")

# Of a day that was never analysed the planner expects a handful of rows, and would read and sort all of them.
_IN_ORDER = text(
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),"
    " set_config('enable_bitmapscan', 'off', true)"
)
_END = text(f"SELECT {_OLDEST_OPEN} - 1")


async def feed(
    db: Database, caller: Caller, *, after: str | None, limit: int, since: datetime | None = None
) -> EventFeed:
    """Up to `limit` events after the cursor, oldest first, none ever skipped; `BadRequest` for a bad cursor.

    `since` leaves out what happened before. After `now` there is nothing yet, and the cursor is that of the end.
    """
    if after == NOW:
        return await _end(db, caller)
    position = _position(after) if after is not None else None
    me = caller.tenant
    late = true() if since is None else EventRow.at >= since
    owned = and_(EventRow.owner_id == me, EventRow.owner_view.is_not(None), late)
    lent = and_(EventRow.delegate_id == me, EventRow.delegate_view.is_not(None), late)
    # Each half is one walk along an ordered index; who is both parties hears an event once.
    found = union_all(
        _half(owned, position, limit),
        _half(and_(lent, or_(EventRow.owner_id.is_distinct_from(me), EventRow.owner_view.is_(None))), position, limit),
    ).subquery()
    row = aliased(EventRow, found)
    query = select(row).order_by(row.xact, row.id).limit(limit + 1)
    async with db.read(caller) as session:
        await session.execute(_IN_ORDER)
        rows = (await session.scalars(query)).all()
    kept = rows[:limit]
    cursor = _cursor(kept[-1].xact, kept[-1].id) if kept else after
    return EventFeed(items=[_view(row, me) for row in kept], cursor=cursor, more=len(rows) > limit)


async def _end(db: Database, caller: Caller) -> EventFeed:
    """What commits from now on has a higher transaction than all that the cursor lies behind."""
    async with db.read(caller) as session:
        settled = (await session.execute(_END)).scalar_one()
    return EventFeed(items=[], cursor=_cursor(settled, _LAST_ID), more=False)


def _half(mine: ColumnElement[bool], position: Position | None, limit: int) -> Select[EventRow]:
    query = select(EventRow).where(mine, _SETTLED).order_by(EventRow.xact, EventRow.id).limit(limit + 1)
    if position is None:
        return query
    return query.where(tuple_(EventRow.xact, EventRow.id) > tuple_(*position))


def _view(row: EventRow, tenant_id: UUID) -> EventView:
    event = Event(
        id=row.id,
        at=row.at,
        type=row.type,
        source=row.source,
        data=row.data,
        owner_id=row.owner_id,
        delegate_id=row.delegate_id,
        grant_id=row.grant_id,
        owner_view=row.owner_view,
        delegate_view=row.delegate_view,
        recipient_hash=row.recipient_hash,
    )
    party = party_of(event, tenant_id)
    if party is None:
        raise LookupError(f"Event {row.id} was read for a tenant that does not hear of it.")
    body = shown(event, party)
    return EventView(id=row.id, type=body.type, timestamp=body.timestamp, data=body.data)


def _cursor(xact: int, event_id: UUID) -> str:
    return base64.urlsafe_b64encode(_CURSOR.pack(xact, event_id.bytes)).decode()


def _position(cursor: str) -> Position:
    try:
        xact, event_id = _CURSOR.unpack(base64.urlsafe_b64decode(cursor))
    except (ValueError, struct.error) as error:
        raise BadRequest("after is not a cursor that this API gave out.") from error
    return xact, UUID(bytes=event_id)
