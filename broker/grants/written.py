"""What we have written on an identity, as our own records say, whatever SES shows of it."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ScalarSelect, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.identities.models import Identity, PolicyDocument
from broker.policies.plan import parse_name

SHOWN_WITHIN = timedelta(minutes=10)
"""By then SES shows a policy that it holds; it calls itself eventually consistent and names no bound."""


async def written(session: AsyncSession, identity_id: UUID, *, slots: frozenset[int]) -> Mapping[str, str]:
    """Name → document of every policy that we wrote, or were about to write, in these slots."""
    rows = await session.execute(_ours(identity_id))
    found: dict[str, str] = {}
    for name, document in rows:
        if (parsed := parse_name(name)) and parsed.slot in slots:
            # The first record of a name is ours, made before SES heard of it; a later one is what somebody made of it.
            found.setdefault(name, document)
    return found


def lately() -> ScalarSelect[list[str] | None]:
    """For a query over identities: the names that we wrote of late on each, which SES may hold unseen."""
    return (
        select(func.array_agg(PolicyDocument.name))
        .where(
            PolicyDocument.identity_id == Identity.id,
            PolicyDocument.ours,
            PolicyDocument.seen_at > func.now() - SHOWN_WITHIN,
        )
        .correlate(Identity)
        .scalar_subquery()
    )


def _ours(identity_id: UUID) -> Select[str, str]:
    return (
        select(PolicyDocument.name, PolicyDocument.document)
        .where(PolicyDocument.identity_id == identity_id, PolicyDocument.ours)
        .order_by(PolicyDocument.id)
    )
