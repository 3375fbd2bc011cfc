"""Removing a connection: what stands in the way, and what goes with it."""

from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.errors import Conflict
from broker.grants.lifecycle import LIVE, Effect, Paper
from broker.grants.models import Grant
from broker.grants.wanted import ENDED
from broker.identities.models import Identity
from broker.identities.service import retire


async def release(session: AsyncSession, connection_id: UUID) -> None:
    """Retires the connection's identities, so that they are no longer listed and the ARNs are free again.

    Raises `Conflict` while a grant on an identity of this connection is open, live or not proven to be gone.

    Without the connection a policy could neither be removed nor read, so nobody could say that access has ended.
    """
    held = await session.scalar(
        select(func.count())
        .select_from(Grant)
        .join(Identity, Identity.id == Grant.identity_id)
        .where(Identity.connection_id == connection_id)
        .where(
            or_(
                Grant.paper.in_({Paper.OPEN} | LIVE),
                Grant.paper.in_(ENDED) & (Grant.effect != Effect.REMOVED),
            )
        )
    )
    if held:
        grants = "1 grant needs" if held == 1 else f"{held} grants need"
        raise Conflict(f"{grants} this connection; revoke first and wait until the revocation is verified.")
    await retire(session, connection_id)
