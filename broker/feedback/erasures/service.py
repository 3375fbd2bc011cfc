"""Erasing a recipient: asked for by a tenant, for all that it is a party to; a job with progress."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.audit.service import record
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict, NotFound
from broker.feedback.erasures.models import ErasureRow, Stage, State
from broker.feedback.erasures.views import Erased, ErasureView, Recipient
from broker.feedback.keys import comparable, recipient_hash
from broker.idempotency import remember
from broker.ids import new_id


async def erase(db: Database, caller: Caller, wanted: Recipient, *, keyring: Keyring) -> ErasureView:
    """Begins to erase; the erasure of the same recipient that is running already, if there is one.

    The other party's view of a shared event is blanked, too: it is the recipient's right, whoever passes it on.
    """
    key = keyring.derive("erasure", str(caller.tenant))
    digest = bytes.fromhex(recipient_hash(key, wanted.address))
    async with db.begin(caller) as session:
        job = await session.scalar(
            insert(ErasureRow)
            .values(
                id=new_id(),
                tenant_id=caller.tenant,
                recipient_hash=digest,
                address=keyring.seal(comparable(wanted.address).encode()),
                state=State.RUNNING,
                stage=Stage.OWNED,
                key_id=caller.key_id,
            )
            .on_conflict_do_nothing()
            .returning(ErasureRow)
        )
        if job is None:
            return await remember(session, caller, _view(await _running(session, caller, digest)))
        due.wake(session, job)
        await session.flush()
        await record(session, caller, "erasure.requested", subject=("erasure", job.id))
        return await remember(session, caller, _view(job))


async def _running(session: AsyncSession, caller: Caller, digest: bytes) -> ErasureRow:
    query = select(ErasureRow).where(
        ErasureRow.tenant_id == caller.tenant,
        ErasureRow.recipient_hash == digest,
        ErasureRow.state == State.RUNNING,
    )
    job = await session.scalar(query)
    if job is None:
        raise Conflict("An erasure of this recipient has just ended; ask again if there is something new.")
    return job


async def show(db: Database, caller: Caller, erasure_id: UUID) -> ErasureView:
    """One erasure with its progress; `NotFound`."""
    query = select(ErasureRow).where(ErasureRow.id == erasure_id, ErasureRow.tenant_id == caller.tenant)
    async with db.read(caller) as session:
        job = await session.scalar(query)
    if job is None:
        raise NotFound("There is no erasure with this id.")
    return _view(job)


async def list_some(
    db: Database, caller: Caller, *, after: UUID | None = None, limit: int = 50
) -> Sequence[ErasureView]:
    """One's erasures, newest first, up to `limit` before the id `after`."""
    query = select(ErasureRow).where(ErasureRow.tenant_id == caller.tenant).order_by(ErasureRow.id.desc()).limit(limit)
    if after is not None:
        query = query.where(ErasureRow.id < after)
    async with db.read(caller) as session:
        return [_view(row) for row in await session.scalars(query)]


def _view(job: ErasureRow) -> ErasureView:
    return ErasureView(
        id=job.id,
        state=job.state,
        stage=job.stage,
        erased=msgspec.convert(job.erased or {}, Erased),
        key_id=job.key_id,
        created_at=job.created_at,
        ended_at=job.ended_at,
    )
