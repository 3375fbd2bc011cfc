"""Deliveries: what is pending or dead, the attempts made, and sending one again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Select,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.errors import Conflict, NotFound
from broker.idempotency import remember
from broker.webhooks import counts, endpoints
from broker.webhooks.endpoints import find
from broker.webhooks.models import AttemptRow, DeadDeliveryRow, DeliveryRow, EndpointRow, EventRow
from broker.webhooks.views import AttemptView, DeliveryState, DeliveryView

R = TypeVar("R", DeliveryRow, DeadDeliveryRow)
Trace = type[DeliveryRow] | type[DeadDeliveryRow] | type[AttemptRow]
_TRACES: tuple[Trace, ...] = (DeliveryRow, DeadDeliveryRow, AttemptRow)

HELD = datetime(9999, 12, 31, tzinfo=UTC)
"""`next_at` of a delivery that waits for its turn in a catch-up. Not `infinity`, with which nothing can be reckoned."""


class DeliveryId(msgspec.Struct, frozen=True):
    """`<endpoint>.<event>`, the same before and after a replay."""

    endpoint_id: UUID
    event_id: UUID

    def __str__(self) -> str:
        return f"{self.endpoint_id}.{self.event_id}"

    @classmethod
    def read(cls, given: str) -> "DeliveryId":
        """From its text; `NotFound` for anything else, since there is nothing of that name."""
        endpoint, _, event = given.partition(".")
        try:
            return cls(UUID(endpoint), UUID(event))
        except ValueError as error:
            raise NotFound("There is no delivery with this id.") from error


async def list_some(
    db: Database,
    caller: Caller,
    *,
    state: DeliveryState,
    endpoint_id: UUID | None = None,
    after: DeliveryId | None = None,
    limit: int = 50,
) -> Sequence[DeliveryView]:
    """Pending or dead deliveries of one's endpoints, by endpoint, then oldest event first."""
    async with db.read(caller) as session:
        if endpoint_id is not None:
            await find(session, caller, endpoint_id)
        if state is DeliveryState.PENDING:
            pending = _page(DeliveryRow, caller, endpoint_id, after, limit)
            return [_view(row, type_) for row, type_ in await session.execute(pending)]
        dead = _page(DeadDeliveryRow, caller, endpoint_id, after, limit)
        return [_view(row, type_) for row, type_ in await session.execute(dead)]


def _page(
    row: type[R], caller: Caller, endpoint_id: UUID | None, after: DeliveryId | None, limit: int
) -> Select[R, str | None]:
    """In the order of the primary key: for each endpoint, of which there are few, a walk along its part of the index.

    Asked of all endpoints at once, Postgres may choose to read the deliveries of everybody instead. The type of each
    event is looked up by its key; None once the event is no longer kept.
    """
    mine = select(EndpointRow.id).where(EndpointRow.tenant_id == caller.tenant, EndpointRow.state != "deleted")
    if endpoint_id is not None:
        mine = mine.where(EndpointRow.id == endpoint_id)
    if after is not None:
        mine = mine.where(EndpointRow.id >= after.endpoint_id)
    each = mine.subquery()
    found = select(row).where(row.tenant_id == caller.tenant, row.endpoint_id == each.c.id)
    if after is not None:
        found = found.where(tuple_(row.endpoint_id, row.event_id) > tuple_(after.endpoint_id, after.event_id))
    part = aliased(row, found.order_by(row.endpoint_id, row.event_id).limit(limit).lateral())
    type_ = (
        select(EventRow.type)
        .where(EventRow.at == part.event_at, EventRow.id == part.event_id)
        .where(or_(EventRow.owner_id == caller.tenant, EventRow.delegate_id == caller.tenant))
        .correlate(part)
        .scalar_subquery()
    )
    query = select(part, type_).select_from(each).join(part, true())
    return query.order_by(part.endpoint_id, part.event_id).limit(limit)


async def attempts(
    db: Database, caller: Caller, delivery: DeliveryId, *, after: UUID | None = None, limit: int = 50
) -> Sequence[AttemptView]:
    """Every HTTP try of one delivery, oldest first; `NotFound` when there is no such delivery."""
    query = select(AttemptRow).where(*_is(AttemptRow, caller, delivery)).order_by(AttemptRow.id).limit(limit)
    if after is not None:
        query = query.where(AttemptRow.id > after)
    async with db.read(caller) as session:
        await find(session, caller, delivery.endpoint_id)
        rows = (await session.scalars(query)).all()
        if not rows and after is None:
            await _event(session, caller, delivery)
        return [_attempt(row) for row in rows]


async def replay(db: Database, caller: Caller, delivery: DeliveryId) -> DeliveryView:
    """Sends one delivery again, at once and with a fresh schedule, whether it is pending, dead or was delivered.

    To a paused endpoint it goes when that is resumed.
    """
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, delivery.endpoint_id)
        if endpoint.state == "disabled":
            raise Conflict("The endpoint is disabled; enable it first.")
        event = await _event(session, caller, delivery)
        pending = await _queue(session, caller, delivery.endpoint_id, event)
        await endpoints.wake(session, caller, delivery.endpoint_id)
        await record(
            session, caller, "delivery.replayed", subject=("endpoint", delivery.endpoint_id), event_id=str(event.id)
        )
        return await remember(session, caller, _view(pending, event.type))


async def _queue(session: AsyncSession, caller: Caller, endpoint_id: UUID, event: EventRow) -> DeliveryRow:
    """Makes the delivery due with a fresh schedule, and counts what it was before: pending, dead or neither."""
    delivery = DeliveryId(endpoint_id, event.id)
    buried = delete(DeadDeliveryRow).where(*_is(DeadDeliveryRow, caller, delivery)).returning(DeadDeliveryRow.event_id)
    raised = len((await session.scalars(buried)).all())
    again = (
        insert(DeliveryRow)
        .values(
            endpoint_id=endpoint_id,
            event_id=event.id,
            event_at=event.at,
            tenant_id=caller.tenant,
            priority=func.event_priority(event.type),
        )
        .on_conflict_do_update(
            index_elements=[DeliveryRow.endpoint_id, DeliveryRow.event_id],
            set_={"next_at": func.now(), "attempts": 0},
        )
        # A row that was there is locked before it is updated, and shows it.
        .returning(DeliveryRow, literal_column("(deliveries.xmax = 0)", Boolean()))
    )
    pending, is_new = (await session.execute(again)).one()
    created = int(is_new) - raised
    if created or raised:
        await counts.count(session, caller.tenant, day=counts.day_of(event.at), created=created, dead=-raised)
    return pending


async def _event(session: AsyncSession, caller: Caller, delivery: DeliveryId) -> EventRow:
    """The event of a delivery that exists or was made; `NotFound` otherwise, or when it is no longer kept."""
    known = union_all(*(select(row.event_at).where(*_is(row, caller, delivery)).limit(1) for row in _TRACES)).limit(1)
    at = await session.scalar(known)
    event = await session.get(EventRow, (at, delivery.event_id)) if at else None
    if event is None or caller.tenant not in (event.owner_id, event.delegate_id):
        raise NotFound("There is no delivery with this id, or its event is no longer kept.")
    return event


def _is(row: Trace, caller: Caller, delivery: DeliveryId) -> tuple[ColumnElement[bool], ...]:
    return (
        row.tenant_id == caller.tenant,
        row.endpoint_id == delivery.endpoint_id,
        row.event_id == delivery.event_id,
    )


def _view(row: DeliveryRow | DeadDeliveryRow, type_: str | None) -> DeliveryView:
    shared = DeliveryView(
        id=str(DeliveryId(row.endpoint_id, row.event_id)),
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        event_at=row.event_at,
        type=type_,
        state=DeliveryState.PENDING,
        attempts=row.attempts,
    )
    if isinstance(row, DeliveryRow):
        return msgspec.structs.replace(shared, next_at=None if row.next_at == HELD else row.next_at)
    return msgspec.structs.replace(shared, state=DeliveryState.DEAD, reason=row.reason, died_at=row.died_at)


def _attempt(row: AttemptRow) -> AttemptView:
    return AttemptView(
        id=row.id,
        at=row.at,
        number=row.number,
        status=row.status,
        latency_ms=row.latency_ms,
        error=row.error,
        answer=row.answer,
    )
