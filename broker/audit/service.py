"""Writing and reading the audit trail."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.models import AuditRow, SealRow
from broker.caller import Caller
from broker.db import Database
from broker.ids import new_id


class Sealed(msgspec.Struct, frozen=True):
    """The place of an entry in the chain of the tenant that acted (`chain_id`); `hash` in hex is that of its seal.

    The export has all that the hash is made of.
    """

    chain_id: UUID
    position: int
    hash: str
    sealed_at: datetime


class Entry(msgspec.Struct, frozen=True):
    """One entry as a party sees it. `by_me` tells whether the reader's own tenant acted; its key is shown only then.

    `seal` follows within seconds, once every earlier transaction has ended.
    """

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
    seal: Sealed | None = None


class Filters(msgspec.Struct, frozen=True):
    """Which entries: of an action (`grant.*`: all that begin so), about a thing, from `since` on and before `until`."""

    action: str | None = None
    subject_kind: str | None = None
    subject_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


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


def visible_to(caller: Caller) -> ColumnElement[bool]:
    """The entries that a caller may see: its own, and those about what it shares with another tenant."""
    return or_(AuditRow.tenant_id == caller.tenant, AuditRow.counterpart_id == caller.tenant)


async def entries(
    db: Database, caller: Caller, filters: Filters, *, after: UUID | None = None, limit: int = 50
) -> Sequence[Entry]:
    """Entries that the caller's tenant may see, oldest first, up to `limit` after the id `after`."""
    query = (
        select(AuditRow, SealRow)
        .outerjoin(SealRow, SealRow.entry_id == AuditRow.id)
        .where(visible_to(caller), *_wanted(filters))
        .order_by(AuditRow.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(AuditRow.id > after)
    async with db.read(caller) as session:
        rows = (await session.execute(query)).all()
    return [_entry(row, seal, caller.tenant) for row, seal in rows]


def _wanted(filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.action is not None:
        prefix = filters.action.removesuffix("*")
        same = AuditRow.action == filters.action
        conditions.append(AuditRow.action.startswith(prefix, autoescape=True) if prefix != filters.action else same)
    if filters.subject_kind is not None:
        conditions.append(AuditRow.subject_kind == filters.subject_kind)
    if filters.subject_id is not None:
        conditions.append(AuditRow.subject_id == filters.subject_id)
    if filters.since is not None:
        conditions.append(AuditRow.at >= filters.since)
    if filters.until is not None:
        conditions.append(AuditRow.at < filters.until)
    return conditions


def _entry(row: AuditRow, seal: SealRow | None, reader: UUID) -> Entry:
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
        seal=Sealed(seal.tenant_id, seal.position, seal.hash, seal.sealed_at) if seal else None,
    )
