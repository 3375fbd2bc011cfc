"""Writing and reading the audit trail."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import insert, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.models import AuditRow
from broker.caller import Caller
from broker.db import Database
from broker.ids import new_id


class Entry(msgspec.Struct, frozen=True):
    """One entry as a party sees it. `by_me` tells whether the reader's own tenant acted; its key is shown only then."""

    id: UUID
    at: datetime
    action: str
    by_me: bool
    actor: str
    key_id: UUID | None
    request_id: str | None
    subject_kind: str
    subject_id: UUID
    details: dict[str, Any]


async def record(
    session: AsyncSession,
    caller: Caller,
    action: str,
    *,
    subject: tuple[str, UUID],
    counterpart_id: UUID | None = None,
    **details: Any,
) -> None:
    """Writes one entry in the caller's transaction. Never give recipients' addresses or secrets in `details`."""
    await session.execute(
        insert(AuditRow).values(
            id=new_id(),
            tenant_id=caller.tenant,
            counterpart_id=counterpart_id,
            actor=caller.actor,
            key_id=caller.key_id,
            request_id=caller.request_id,
            action=action,
            subject_kind=subject[0],
            subject_id=subject[1],
            details=details,
        )
    )


async def entries(
    db: Database, caller: Caller, *, subject_id: UUID | None = None, after: UUID | None = None, limit: int = 50
) -> Sequence[Entry]:
    """Entries that the caller's tenant may see, oldest first, up to `limit` after the id `after`."""
    query = (
        select(AuditRow)
        .where(or_(AuditRow.tenant_id == caller.tenant, AuditRow.counterpart_id == caller.tenant))
        .order_by(AuditRow.id)
        .limit(limit)
    )
    if subject_id is not None:
        query = query.where(AuditRow.subject_id == subject_id)
    if after is not None:
        query = query.where(AuditRow.id > after)
    async with db.read(caller) as session:
        return [_entry(row, caller.tenant) for row in (await session.scalars(query)).all()]


def _entry(row: AuditRow, reader: UUID) -> Entry:
    mine = row.tenant_id == reader and row.actor == "key"
    return Entry(
        id=row.id,
        at=row.at,
        action=row.action,
        by_me=mine,
        actor=row.actor if row.actor.startswith("system:") else ("you" if mine else "other party"),
        key_id=row.key_id if mine else None,
        request_id=row.request_id if mine else None,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        details=row.details,
    )
