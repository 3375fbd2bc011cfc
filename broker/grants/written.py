"""What we have written on an identity, as our own records say, whatever SES shows of it."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.identities.models import PolicyDocument
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


async def unseen(
    session: AsyncSession, identity_id: UUID, *, slots: frozenset[int], seen: Mapping[str, str]
) -> tuple[str, ...]:
    """Names that we wrote of late in these slots and that the last read, `seen`, does not show: SES may hold them."""
    query = _ours(identity_id).where(PolicyDocument.seen_at > func.now() - SHOWN_WITHIN)
    names = {name for name, _ in await session.execute(query)} - set(seen)
    return tuple(sorted(name for name in names if (parsed := parse_name(name)) and parsed.slot in slots))


def _ours(identity_id: UUID) -> Select[str, str]:
    return (
        select(PolicyDocument.name, PolicyDocument.document)
        .where(PolicyDocument.identity_id == identity_id, PolicyDocument.ours)
        .order_by(PolicyDocument.id)
    )
