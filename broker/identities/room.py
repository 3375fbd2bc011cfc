"""Reads what takes room on an identity: the policies that SES showed last, and every grant that is agreed."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.identities.facts import is_ours
from broker.policies.pack import Ground, Piece


async def lock(session: AsyncSession, identity_id: UUID) -> None:
    """Nobody else agrees to a grant on the identity until this transaction ends. After the grant, before lanes."""
    await session.execute(text("SELECT lock_identity(:id)"), {"id": identity_id})


async def ground(session: AsyncSession, identity_id: UUID) -> Ground | None:
    """What takes room on the identity; None where its owner applies policies by hand, and the broker sees none.

    What is agreed counts from the agreement on, whether or not SES holds it yet, and also while it is suspended.
    """
    rows = (await session.execute(text("SELECT * FROM identity_ground(:id)"), {"id": identity_id})).all()
    if not rows or rows[0].by_hand:
        return None
    pieces = tuple(Piece(row.grant_id, row.size, row.slot) for row in rows if row.grant_id is not None)
    foreign = sum(not is_ours(name) for name in rows[0].policies)
    return Ground(pieces, foreign, rows[0].highest)
