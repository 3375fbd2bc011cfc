"""What a party of a grant may do with its routes: make one, have it checked or repaired, remove it."""

import re
from uuid import UUID

import msgspec
from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.due import wake
from broker.errors import Conflict, Flaw, Forbidden, Invalid, NotFound
from broker.feedback import decide
from broker.feedback.foreign_terms import agreed
from broker.feedback.kinds import KINDS
from broker.feedback.models import Route
from broker.feedback.requests import topic_for
from broker.feedback.service import side_of, view_of, visible_to
from broker.feedback.views import NewRoute, RouteKind, RouteState, RouteView
from broker.grants.models import Grant
from broker.idempotency import remember
from broker.ids import new_id
from broker.policies.terms import Side
from broker.quotas import Quota
from broker.room import leave_room

EXISTS = "This grant has a route of this kind already: have it repaired, or remove it first."


async def make(db: Database, caller: Caller, asked: NewRoute) -> RouteView:
    """Asks for a route. `NotFound` for a stranger's grant, `Forbidden` where the other party makes this kind."""
    async with db.begin(caller) as session:
        await leave_room(session, caller, Quota.ROUTES, _made(caller))
        grant = await _grant(session, caller, asked.grant_id)
        side: Side = "owner" if grant.owner_id == caller.tenant else "delegate"
        _require(side, KINDS[asked.kind].makers, f"make a route of the kind {asked.kind.value}")
        settings = chosen(asked)
        if grant.agreed_offer_id is None or grant.ended_at is not None:
            raise Conflict("This grant is not in force; routes are made for grants that are agreed and have not ended.")
        route = Route(
            id=new_id(),
            tenant_id=grant.owner_id,
            delegate_id=grant.delegate_id,
            grant_id=grant.id,
            identity_id=grant.identity_id,
            kind=asked.kind,
            state=RouteState.requested,
            settings=settings,
            made_by=side,
        )
        if asked.kind is RouteKind.foreign_topic:
            await decide.check_request(session, grant, agreed(settings))
        if asked.kind is RouteKind.identity_topic:
            route.topic_id = (await topic_for(session, grant)).id
        session.add(route)
        try:
            await session.flush()
        except IntegrityError as error:
            raise Conflict(EXISTS) from error
        return await _ask(session, caller, route, "route.requested", kind=route.kind)


def _made(caller: Caller) -> Select[int]:
    """The routes that the caller has asked for, and that are not removed."""
    by_owner = and_(Route.made_by == "owner", Route.tenant_id == caller.tenant)
    by_delegate = and_(Route.made_by == "delegate", Route.delegate_id == caller.tenant)
    return select(func.count()).select_from(Route).where(Route.state != "removed", or_(by_owner, by_delegate))


def chosen(asked: NewRoute) -> dict[str, object]:
    """The settings as this kind knows them; `Invalid` with the field, `Conflict` for a kind that is not made here."""
    kind = KINDS[asked.kind].settings
    if kind is None:
        raise Conflict(f"This installation of the broker does not set up routes of the kind {asked.kind.value}.")
    try:
        settings = msgspec.convert(asked.settings, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"The settings are not valid: {error}.", flaws=(_flaw(str(error)),)) from error
    told: dict[str, object] = msgspec.to_builtins(settings)
    return told


async def check(db: Database, caller: Caller, route_id: UUID) -> RouteView:
    """Makes the route due now; `Conflict` when it was removed."""
    async with db.begin(caller) as session:
        route = await _find(session, caller, route_id)
        return await _ask(session, caller, route, "route.check_requested")


async def repair(db: Database, caller: Caller, route_id: UUID) -> RouteView:
    """The same, with its tries begun anew; `Conflict` where nothing is put back any more."""
    async with db.begin(caller) as session:
        route = await _find(session, caller, route_id)
        ended_at = await session.scalar(select(Grant.ended_at).where(Grant.id == route.grant_id))
        if ended_at is not None:
            raise Conflict("The grant of this route has ended: what SES drops is not put back any more.")
        if not route.wanted:
            raise Conflict("This route is being removed.")
        route.attempts = 0
        return await _ask(session, caller, route, "route.repair_requested")


async def remove(db: Database, caller: Caller, route_id: UUID) -> RouteView:
    """Has it taken away; `Forbidden` where the other party removes this kind. What is removed stays so."""
    async with db.begin(caller) as session:
        route = await _locked(session, caller, route_id)
        removers = KINDS[RouteKind(route.kind)].removers
        _require(side_of(route, caller), removers, f"remove a route of the kind {route.kind}")
        if route.state == RouteState.removed:
            return await view_of(session, caller, route_id)
        route.wanted, route.attempts = False, 0
        return await _ask(session, caller, route, "route.removal_requested")


async def _ask(session: AsyncSession, caller: Caller, route: Route, action: str, **details: str) -> RouteView:
    wake(session, route)
    await session.flush()
    other = route.delegate_id if caller.tenant == route.tenant_id else route.tenant_id
    await record(session, caller, action, subject=("route", route.id), counterpart_id=other, **details)
    await session.refresh(route)
    return await remember(session, caller, await view_of(session, caller, route.id))


async def _grant(session: AsyncSession, caller: Caller, grant_id: UUID) -> Grant:
    """Locked, so that it does not end meanwhile."""
    mine = or_(Grant.owner_id == caller.tenant, Grant.delegate_id == caller.tenant)
    query = select(Grant).where(Grant.id == grant_id, mine).with_for_update(key_share=True)
    grant = (await session.scalars(query)).one_or_none()
    if grant is None:
        raise NotFound("There is no grant with this id.")
    return grant


async def _find(session: AsyncSession, caller: Caller, route_id: UUID) -> Route:
    route = await _locked(session, caller, route_id)
    if route.state == RouteState.removed:
        raise Conflict("This route was removed; make another one.")
    return route


async def _locked(session: AsyncSession, caller: Caller, route_id: UUID) -> Route:
    query = select(Route).where(Route.id == route_id, visible_to(caller)).with_for_update()
    route = (await session.scalars(query)).one_or_none()
    if route is None:
        raise NotFound("There is no route with this id.")
    return route


def _require(side: Side, allowed: frozenset[Side], what: str) -> None:
    if side not in allowed:
        raise Forbidden(f"Only the {' or the '.join(sorted(allowed))} of a grant may {what}.")


def _flaw(text: str) -> Flaw:
    """msgspec's `… - at `$.field`` and `unknown field `x`` as a JSON pointer into the body."""
    path = re.search(r"`\$([^`]*)`", text)
    unknown = re.search(r"unknown field `([^`]*)`", text)
    parts = [part for part in re.split(r"[.\[\]]+", path[1] if path else "") if part]
    where = ["settings", *parts, *([unknown[1]] if unknown else [])]
    return Flaw("".join(f"/{part}" for part in where), f"{re.sub(r' - at `[^`]*`', '', text)}.")
