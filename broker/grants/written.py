"""What we have written on an identity, as our own records say, whatever SES shows of it."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from broker.identities.models import Identity, PolicyDocument

SHOWN_WITHIN = timedelta(minutes=10)
"""By then SES shows a policy that it holds; it calls itself eventually consistent and names no bound."""


async def written(session: AsyncSession, identity_id: UUID, *, names: Collection[str]) -> Mapping[str, str]:
    """Name → document of those of these policies that we wrote, or were about to write, as we wrote them."""
    rows = await session.execute(
        select(PolicyDocument.name, PolicyDocument.document)
        .where(PolicyDocument.identity_id == identity_id, PolicyDocument.ours, PolicyDocument.name.in_(names))
        .order_by(PolicyDocument.id)
    )
    found: dict[str, str] = {}
    for name, document in rows:
        # The first record of a name is ours, made before SES heard of it; a later one is what somebody made of it.
        found.setdefault(name, document)
    return found


def lately() -> ScalarSelect[dict[str, str] | None]:
    """For a query over identities: what we wrote of late on each (name → document), which SES may hold unseen."""
    # Of two records of a name the last one in this order stays, which is ours, as above.
    by_name = func.jsonb_object_agg(
        PolicyDocument.name, aggregate_order_by(PolicyDocument.document, PolicyDocument.id.desc())
    )
    return (
        select(by_name)
        .where(
            PolicyDocument.identity_id == Identity.id,
            PolicyDocument.ours,
            PolicyDocument.seen_at > func.now() - SHOWN_WITHIN,
        )
        .correlate(Identity)
        .scalar_subquery()
    )
