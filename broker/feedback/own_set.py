"""The configuration set that a route has made for a grant: what its delegate names when it sends."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.feedback.models import Route
from broker.feedback.set_rules import set_name
from broker.feedback.views import RouteKind, RouteState

_MADE = (RouteState.configured, RouteState.live, RouteState.quiet)


async def own_set(session: AsyncSession, grant_id: UUID) -> str | None:
    """An `OwnSet`: the set of the grant's `configuration_set` route, once it was seen to be there."""
    made = select(Route.id).where(
        Route.grant_id == grant_id,
        Route.kind == RouteKind.configuration_set,
        Route.state.in_(_MADE),
        Route.wanted,
    )
    return set_name(grant_id) if await session.scalar(made) else None
