"""What is known of the identities beneath a grant's, and of the addresses that the grant is for."""

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.grants.models import Grant
from broker.identities.models import Identity


async def children_of(session: AsyncSession, identity: Identity) -> tuple[str, ...]:
    """Verified identities beneath this one; only what is verified supplies settings of its own."""
    name = func.lower(Identity.name)
    ending = [name.endswith(f"{sign}{identity.name.lower()}", autoescape=True) for sign in ".@"]
    same_place = (Identity.connection_id == identity.connection_id, Identity.region == identity.region)
    there = (Identity.removed_at.is_(None), Identity.verified)
    return tuple(await session.scalars(select(Identity.name).where(*same_place, *there, or_(*ending))))


def from_addresses_of(grant: Grant) -> tuple[str, ...]:
    """Patterns of its terms; none is no limit."""
    return tuple((grant.terms or {}).get("from_addresses", ()))
