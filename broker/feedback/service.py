"""What the parties of a grant can look up about its routes."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.db import Database
from broker.errors import NotFound
from broker.feedback.kinds import KINDS
from broker.feedback.models import Route, Topic
from broker.feedback.views import RouteKind, RouteState, RouteView
from broker.policies.terms import Side


def visible_to(caller: Caller) -> ColumnElement[bool]:
    """Routes of which the caller's tenant is a party."""
    return or_(Route.tenant_id == caller.tenant, Route.delegate_id == caller.tenant)


async def list_routes(
    db: Database, caller: Caller, *, grant_id: UUID | None = None, after: UUID | None = None, limit: int = 50
) -> Sequence[RouteView]:
    """Routes of the caller's tenant, oldest first, up to `limit` after the id `after`."""
    query = _routes(caller).order_by(Route.id).limit(limit)
    if grant_id is not None:
        query = query.where(Route.grant_id == grant_id)
    if after is not None:
        query = query.where(Route.id > after)
    async with db.read(caller) as session:
        return [_view(route, arn, caller) for route, arn in await session.execute(query)]


async def show_route(db: Database, caller: Caller, route_id: UUID) -> RouteView:
    """One route; `NotFound` for a stranger's."""
    async with db.read(caller) as session:
        return await view_of(session, caller, route_id)


async def view_of(session: AsyncSession, caller: Caller, route_id: UUID) -> RouteView:
    """The route as the caller's tenant may see it; `NotFound` for a stranger's."""
    row = (await session.execute(_routes(caller).where(Route.id == route_id))).one_or_none()
    if row is None:
        raise NotFound("There is no route with this id.")
    return _view(row[0], row[1], caller)


def side_of(route: Route, caller: Caller) -> Side:
    """Which party of the route the caller's tenant is."""
    return "owner" if route.tenant_id == caller.tenant else "delegate"


def _routes(caller: Caller) -> Select[Route, str | None]:
    mine = and_(Topic.id == Route.topic_id, Topic.tenant_id == caller.tenant)
    return select(Route, Topic.arn).outerjoin(Topic, mine).where(visible_to(caller))


def _view(route: Route, topic_arn: str | None, caller: Caller) -> RouteView:
    kind, side = RouteKind(route.kind), side_of(route, caller)
    sees_inside = KINDS[kind].inside == side
    return RouteView(
        id=route.id,
        grant_id=route.grant_id,
        identity_id=route.identity_id,
        kind=kind,
        state=RouteState(route.state),
        reason=route.reason,
        choices=route.choices,
        wanted=route.wanted,
        made_by="owner" if route.made_by == "owner" else "delegate",
        settings=route.settings if side in KINDS[kind].choosers else None,
        found=route.found if sees_inside else None,
        topic_arn=topic_arn,
        previous=route.previous if sees_inside else None,
        live_at=route.live_at,
        heard_at=route.heard_at,
        durable=route.durable,
        created_at=route.created_at,
    )
