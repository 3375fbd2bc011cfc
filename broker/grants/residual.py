"""What still lets a delegate send after a grant has ended: on the identity, above it and below it."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.grants.wanted import Wanted, Work
from broker.identities.models import Identity
from broker.policies.residual import still_allowed, within


async def residual(
    session: AsyncSession, work: Work, wanted: Wanted, *, observed: Mapping[str, str], now: datetime
) -> list[str]:
    """Names of policies that are not ours and still let the grant's principals send.

    On the identity by what was read just now; on its parent domains and its child identities, in the same account and
    Region, by what was read of them last. Those are told with the identity that they hang on.
    """
    terms = wanted.terms
    found = still_allowed(observed, principals=terms.principals, actions=terms.actions, identity_arn=work.arn, now=now)
    here = select(Identity.account_id, Identity.region).where(Identity.id == work.claim.id).subquery()
    others = await session.scalars(
        select(Identity)
        .join(here, (here.c.account_id == Identity.account_id) & (here.c.region == Identity.region))
        .where(Identity.tenant_id == work.claim.tenant_id, Identity.id != work.claim.id)
        .where(Identity.removed_at.is_(None), Identity.policies != {})
        .order_by(Identity.name)
    )
    for other in others:
        if within(other.name, work.name) or within(work.name, other.name):
            left = still_allowed(
                other.policies, principals=terms.principals, actions=terms.actions, identity_arn=other.arn, now=now
            )
            found += [f"{name} on {other.name}" for name in left]
    return found
