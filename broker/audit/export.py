"""The trail as JSON lines, with all that it takes to check it without the broker."""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, func, select, tuple_

from broker.audit.chain import BEGINNING, Record, Seal, instant
from broker.audit.models import AuditRow, SealRow
from broker.audit.signing import Signature, Signer
from broker.audit.stored import record_of, seal_of
from broker.caller import Caller
from broker.db import Database

AT_ONCE = 500  # entries of one transaction


class Head(msgspec.Struct, frozen=True):
    """How long a tenant's chain was at `made_at`, and the hash of its last seal."""

    tenant_id: str
    position: int
    hash: str
    made_at: str
    kind: str = "ses-delegation-broker/audit-head/1"


class HeadLine(msgspec.Struct, frozen=True, tag="head", tag_field="line"):
    """The first line: until where the export of one's own chain has to go."""

    head: Head
    signature: Signature


class EntryLine(msgspec.Struct, frozen=True, tag="entry", tag_field="line"):
    """An entry with its seal. `key_id` and `request_id` stand in one's own chain only."""

    record: Record
    seal: Seal
    key_id: str | None = None
    request_id: str | None = None


async def head(db: Database, caller: Caller, signer: Signer) -> HeadLine:
    """The end of the caller's chain right now, signed: whoever keeps it can prove a later cut."""
    query = select(SealRow.position, SealRow.hash).where(SealRow.tenant_id == caller.tenant)
    async with db.read(caller) as session:
        now = (await session.execute(select(func.now()))).scalar_one()
        last = (await session.execute(query.order_by(SealRow.position.desc()).limit(1))).one_or_none()
    position, hash_ = (last.position, last.hash) if last else (0, BEGINNING)
    said = Head(str(caller.tenant), position, hash_, instant(now))
    return HeadLine(said, signer.sign(msgspec.to_builtins(said)))


async def lines(db: Database, caller: Caller, signer: Signer) -> AsyncIterator[bytes]:
    """The head, the caller's own chain up to there, and what other chains say of what it shares with their tenants."""
    end = await head(db, caller, signer)
    yield _line(end)
    mine = SealRow.tenant_id == caller.tenant
    for whose in (mine & (SealRow.position <= end.head.position), ~mine & (SealRow.counterpart_id == caller.tenant)):
        async for row, seal in _sealed(db, caller, whose):
            yield _line(_entry(row, seal, caller.tenant))


async def _sealed(db: Database, caller: Caller, whose: ColumnElement[bool]) -> AsyncIterator[tuple[AuditRow, SealRow]]:
    """Chain by chain in its order; no transaction is open between two pages."""
    place = tuple_(SealRow.tenant_id, SealRow.position)
    query = select(AuditRow, SealRow).join(SealRow, SealRow.entry_id == AuditRow.id).where(whose)
    query = query.order_by(SealRow.tenant_id, SealRow.position).limit(AT_ONCE)
    after = (UUID(int=0), 0)
    while True:
        async with db.read(caller) as session:
            rows = (await session.execute(query.where(place > tuple_(*after)))).all()
        for row, seal in rows:
            yield row, seal
        if len(rows) < AT_ONCE:
            return
        after = (rows[-1][1].tenant_id, rows[-1][1].position)


def _entry(row: AuditRow, seal: SealRow, reader: UUID) -> EntryLine:
    if row.tenant_id != reader:
        return EntryLine(record_of(row), seal_of(seal))
    return EntryLine(record_of(row), seal_of(seal), str(row.key_id) if row.key_id else None, row.request_id)


def _line(line: HeadLine | EntryLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
