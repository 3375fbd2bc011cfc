"""Whether the routes of a grant tell of its deliveries, by what the last look at the identity's settings found."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.feedback.breaker import Deliveries
from broker.feedback.models import Route
from broker.feedback.views import RouteKind, RouteState
from broker.grants.models import Grant
from broker.policies.arns import parse_identity_arn

# The words of `slots.seen`.
_TOLD: Mapping[object, Deliveries] = MappingProxyType({"ours": Deliveries.BROKERS, "owners_topic": Deliveries.OWNERS})


async def deliveries_of(session: AsyncSession, grants: Sequence[Grant]) -> dict[UUID, Deliveries]:
    """By grant; one statement. Mail is told of by the settings of the identity that it is sent as.

    A configuration set needs no look: it tells of sends, or the mail does not name it.
    """
    query = select(Route.grant_id, Route.found["identities"]).where(
        Route.grant_id.in_([grant.id for grant in grants]),
        Route.kind == RouteKind.identity_topic,
        Route.state != RouteState.removed,
    )
    found = {grant_id: identities or {} for grant_id, identities in await session.execute(query)}
    names = {grant.id: parse_identity_arn(grant.identity_arn).name for grant in grants}
    held = {grant_id: found.get(grant_id, {}).get(name, {}).get("delivery") for grant_id, name in names.items()}
    return {grant_id: _TOLD.get(word, Deliveries.UNHEARD) for grant_id, word in held.items()}
