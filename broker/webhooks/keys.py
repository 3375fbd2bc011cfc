"""The signing secrets of endpoints as rows: at most two sign, and only the newest has no end."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.ids import new_id
from broker.webhooks.models import SecretRow
from broker.webhooks.views import SecretView


async def add(session: AsyncSession, caller: Caller, endpoint_id: UUID, *, sealed: bytes) -> SecretView:
    """A new current secret; the one before must have got its end."""
    made = (
        insert(SecretRow)
        .values(id=new_id(), tenant_id=caller.tenant, endpoint_id=endpoint_id, sealed=sealed)
        .returning(SecretRow.id, SecretRow.created_at)
    )
    row = (await session.execute(made)).one()
    return SecretView(id=row.id, created_at=row.created_at, expires_at=None, last_used_at=None)


async def live(session: AsyncSession, caller: Caller, endpoint_ids: Sequence[UUID]) -> dict[UUID, list[SecretView]]:
    """Those that sign now, by endpoint, the newest first."""
    query = (
        select(SecretRow)
        .where(
            SecretRow.tenant_id == caller.tenant,
            SecretRow.endpoint_id.in_(endpoint_ids),
            or_(SecretRow.expires_at.is_(None), SecretRow.expires_at > func.now()),
        )
        .order_by(SecretRow.endpoint_id, SecretRow.expires_at.desc().nulls_first())
        .execution_options(populate_existing=True)  # the engine writes the last use
    )
    found: dict[UUID, list[SecretView]] = {}
    for row in await session.scalars(query):
        found.setdefault(row.endpoint_id, []).append(
            SecretView(id=row.id, created_at=row.created_at, expires_at=row.expires_at, last_used_at=row.last_used_at)
        )
    return found


async def retire(session: AsyncSession, caller: Caller, endpoint_id: UUID, *, after: timedelta) -> datetime | None:
    """Lets the current secret sign for this long yet and forgets those before it; when it ends, or None for at once."""
    mine = _of(caller, endpoint_id)
    await session.execute(delete(SecretRow).where(*mine, SecretRow.expires_at.is_not(None)))
    if not after:
        await session.execute(delete(SecretRow).where(*mine))
        return None
    ended = update(SecretRow).where(*mine).values(expires_at=func.now() + after).returning(SecretRow.expires_at)
    return await session.scalar(ended)


async def forget(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> None:
    """Deletes all of them."""
    await session.execute(delete(SecretRow).where(*_of(caller, endpoint_id)))


async def forget_ended(session: AsyncSession) -> int:
    """Deletes those of all tenants that ended more than a day ago; how many there were. Under the worker's role."""
    gone: int = (await session.execute(text("SELECT forget_secrets()"))).scalar_one()
    return gone


def _of(caller: Caller, endpoint_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return SecretRow.tenant_id == caller.tenant, SecretRow.endpoint_id == endpoint_id
