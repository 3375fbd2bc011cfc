"""What SES's refusals of earlier Denies mean for the next one, as far as it stands on paper."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from broker.grants.models import Grant
from broker.grants.written import written
from broker.identities.models import Identity
from broker.policies.deny import UNSEEN, TakenBack
from broker.policies.narrow import left_out, narrows


async def refused_before(
    session: AsyncSession, identity: Identity, grants: Sequence[Grant], taken: Sequence[TakenBack]
) -> Mapping[str, str]:
    """Principals that the next Deny leaves out, each with why (`narrow.left_out`).

    What was said about the last Deny is off the paper then: whatever comes of the next one, that is not about it.
    """
    reasons = {grant.id: grant.protection for grant in grants}
    tried: Mapping[str, str] = {}
    if identity.deny_name is not None and any(narrows(reason) for reason in reasons.values()):
        tried = await written(session, identity.id, names=[identity.deny_name])
    found = left_out(taken, reasons=reasons, tried=tried, observed=identity.policies, identity_arn=identity.arn)
    for grant in grants:
        if narrows(grant.protection):
            grant.protection = UNSEEN
    return found
