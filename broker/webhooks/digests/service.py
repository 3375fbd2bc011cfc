"""Reading the digests of an endpoint."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

import msgspec
from sqlalchemy import select

from broker.caller import Caller
from broker.db import Database
from broker.errors import NotFound
from broker.webhooks.digests.models import DigestRow
from broker.webhooks.digests.views import Digest, TypeDigest
from broker.webhooks.endpoints import find


async def list_some(
    db: Database, caller: Caller, endpoint_id: UUID, *, before: date | None = None, limit: int = 50
) -> Sequence[Digest]:
    """The digests of one's endpoint, newest first, up to `limit` before the day `before`; `NotFound`."""
    query = (
        select(DigestRow)
        .where(DigestRow.endpoint_id == endpoint_id, DigestRow.tenant_id == caller.tenant)
        .order_by(DigestRow.day.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(DigestRow.day < before)
    async with db.read(caller) as session:
        await find(session, caller, endpoint_id)
        return [_view(row) for row in await session.scalars(query)]


async def show(db: Database, caller: Caller, endpoint_id: UUID, *, day: date) -> Digest:
    """The digest of one day; `NotFound`, also while the day is not over."""
    async with db.read(caller) as session:
        await find(session, caller, endpoint_id)
        row = await session.get(DigestRow, (endpoint_id, day))
        if row is None:
            raise NotFound("There is no digest of this day.")
        return _view(row)


def _view(row: DigestRow) -> Digest:
    return Digest(
        endpoint_id=row.endpoint_id,
        day=row.day,
        count=row.count,
        sha256=row.sha256,
        types=msgspec.convert(row.types, dict[str, TypeDigest]),
        cut_at=row.cut_at,
        filters_changed_at=row.filters_changed_at,
        event_id=row.event_id,
    )
