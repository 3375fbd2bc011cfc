"""Deliveries: what is pending or dead, the attempts made, and sending one again."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.errors import Conflict, NotFound
from broker.idempotency import remember
from broker.webhooks.endpoints import find
from broker.webhooks.models import AttemptRow, DeadDeliveryRow, DeliveryRow, EndpointRow, LaneRow
from broker.webhooks.views import AttemptView, DeliveryState, DeliveryView


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
    row = DeliveryRow if state is DeliveryState.PENDING else DeadDeliveryRow
    mine = select(EndpointRow.id).where(EndpointRow.tenant_id == caller.tenant, EndpointRow.state != "deleted")
    query = (
        select(row)
        .where(row.tenant_id == caller.tenant, row.endpoint_id.in_(mine))
        .order_by(row.endpoint_id, row.event_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(row.endpoint_id, row.event_id) > tuple_(after.endpoint_id, after.event_id))
    async with db.read(caller) as session:
        if endpoint_id is not None:
            query = query.where(row.endpoint_id == (await find(session, caller, endpoint_id)).id)
        return [_view(found) for found in await session.scalars(query)]


async def attempts(
    db: Database, caller: Caller, delivery: DeliveryId, *, after: UUID | None = None, limit: int = 50
) -> Sequence[AttemptView]:
    """Every HTTP try of one delivery, oldest first; `NotFound` when there is no such delivery."""
    query = _attempts_of(caller, delivery).order_by(AttemptRow.id).limit(limit)
    if after is not None:
        query = query.where(AttemptRow.id > after)
    async with db.read(caller) as session:
        await find(session, caller, delivery.endpoint_id)
        rows = (await session.scalars(query)).all()
        if not rows and after is None and await _waiting(session, caller, delivery) is None:
            raise NotFound("There is no delivery with this id.")
        return [_attempt(row) for row in rows]


async def replay(db: Database, caller: Caller, delivery: DeliveryId) -> DeliveryView:
    """Sends one delivery again, at once and with a fresh schedule, whether it is pending, dead or was delivered."""
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, delivery.endpoint_id)
        if endpoint.state != "active":
            raise Conflict("The endpoint is disabled; enable it first.")
        at = await _event_at(session, caller, delivery)
        if at is None:
            raise NotFound("There is no delivery with this id.")
        await session.execute(delete(DeadDeliveryRow).where(*_is(DeadDeliveryRow, caller, delivery)))
        made = (
            insert(DeliveryRow)
            .from_select(
                ["endpoint_id", "event_id", "event_at", "tenant_id", "priority"],
                select(EndpointRow.id, func.cast(delivery.event_id), at),
            )
        )
        await session.execute(made)
        raise NotImplementedError
