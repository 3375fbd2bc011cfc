"""Editing old cross-account notifications, and moving them to another route."""

from typing import Annotated
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.due import wake
from broker.errors import Conflict, NotFound
from broker.feedback import service
from broker.feedback.legacy_terms import (
    LegacySettings,
    Migration,
    Stored,
    Target,
    command,
    planned_set,
    sender_for,
    stored,
    would_be_new,
)
from broker.feedback.models import Route, Topic
from broker.feedback.views import RouteKind, RouteState, RouteView
from broker.grants.models import Grant
from broker.grants.present import terms_of
from broker.idempotency import remember
from broker.ids import new_id
from broker.points import reach
from broker.policies.arns import parse_identity_arn

EXPLANATION = (
    "The new route is set up beside the old notifications, so there is no gap. What comes to us by two ways is stored "
    "and delivered once, so nothing is doubled. The old notifications are removed once the bounce of a test came "
    "through the new route; we send it where your role has the optional right to write to the mailbox simulator, else "
    "run the command. Asking again sends and looks again."
)


class Migrating(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where old cross-account notifications move to."""

    to: Annotated[Target, msgspec.Meta(description="The kind of the new route", examples=["configuration_set"])]


class MigrationView(msgspec.Struct, frozen=True, kw_only=True):
    """A migration that has begun; the old route shows in `found.migration` how far it is."""

    route: RouteView
    new_route: RouteView
    command: Annotated[
        str,
        msgspec.Meta(
            description="Sends the test with AWS CLI version 2, once the new route is set up",
            examples=["aws sesv2 send-email --region eu-west-1 …"],
        ),
    ]
    explanation: Annotated[str, msgspec.Meta(description="What happens next", examples=[EXPLANATION])]


async def edit(db: Database, caller: Caller, route_id: UUID, wanted: LegacySettings) -> RouteView:
    """Changes topics and headers of existing notifications; `Conflict` for one that would be new."""
    async with db.begin(caller) as session:
        route = await _own(session, caller, route_id)
        there = route.found.get("notifications")
        kinds = tuple(kind for each in (there or {}).values() for kind in each)
        if there is not None and (why := would_be_new(kinds, wanted.edits)):
            raise Conflict(why)
        before = stored(route.settings)
        edits = {kind: wanted.edits.get(kind, before.edits.get(kind)) for kind in before.edits | wanted.edits}
        route.settings = msgspec.to_builtins(Stored(**edits, migration=before.migration))
        wake(session, route)
        await _note(session, caller, route, "edited", kinds=sorted(wanted.edits))
        return await remember(session, caller, await service.view_of(session, caller, route.id))


async def migrate(db: Database, caller: Caller, route_id: UUID, wanted: Migrating) -> MigrationView:
    """Makes the new route where it is missing and has the old one look for its test; asking again looks again."""
    async with db.begin(caller) as session:
        route = await _own(session, caller, route_id)
        grant = await session.get_one(Grant, route.grant_id)
        if grant.ended_at is not None:
            raise Conflict("The grant has ended: remove the old notifications instead.")
        before = stored(route.settings)
        if before.migration is not None and before.migration.to is not wanted.to:
            raise Conflict(f"A migration to {before.migration.to.value} is under way already.")
        successor, in_set = await _successor(session, route, wanted.to)
        route.settings = msgspec.to_builtins(await _begun(session, before, wanted.to, successor.id))
        wake(session, route)
        await _note(session, caller, route, "migrating", to=wanted.to.value, new_route_id=str(successor.id))
        view = MigrationView(
            route=await service.view_of(session, caller, route.id),
            new_route=await service.view_of(session, caller, successor.id),
            command=_line(grant, in_set),
            explanation=EXPLANATION,
        )
        return await remember(session, caller, view)


async def _own(session: AsyncSession, caller: Caller, route_id: UUID) -> Route:
    query = select(Route).where(Route.id == route_id, service.visible_to(caller)).with_for_update()
    route = (await session.scalars(query)).one_or_none()
    if route is None:
        raise NotFound("There is no route with this id.")
    if route.delegate_id != caller.tenant:
        raise Conflict("Cross-account notifications are the delegate's: only it can change or move them.")
    if route.kind != RouteKind.legacy.value:
        raise Conflict(f"Only a route of the kind legacy can be changed or moved so; this one is {route.kind}.")
    if not route.wanted or route.state == RouteState.removed.value:
        raise Conflict("This route is removed or about to be.")
    return route


async def _successor(session: AsyncSession, old: Route, to: Target) -> tuple[Route, str | None]:
    """The route that takes over, made where the delegate may make it, and the configuration set its mail names."""
    planned = planned_set(to, old.grant_id)
    query = (
        select(Route, Topic.configuration_set)
        .outerjoin(Topic, (Topic.id == Route.topic_id) & (Topic.tenant_id == old.delegate_id))
        .where(Route.grant_id == old.grant_id, Route.kind == to.value, Route.state != RouteState.removed.value)
    )
    found = (await session.execute(query)).one_or_none()
    if found is not None:
        if not found[0].wanted:
            raise Conflict(f"The route of the kind {to.value} is just being removed; try again when it is gone.")
        return found[0], found[1] or planned
    if to is Target.IDENTITY_TOPIC:
        raise Conflict(
            "The owner has no identity_topic route for this grant: ask it to make one (POST /v1/routes), or migrate to "
            "configuration_set."
        )
    made = Route(
        id=new_id(),
        tenant_id=old.tenant_id,
        delegate_id=old.delegate_id,
        grant_id=old.grant_id,
        identity_id=old.identity_id,
        kind=to.value,
        state=RouteState.requested.value,
        made_by="delegate",
    )
    session.add(made)
    await session.flush()
    wake(session, made)
    reach("legacy.begun")
    return made, planned


async def _begun(session: AsyncSession, before: Stored, to: Target, successor_id: UUID) -> Stored:
    """A bounce counts from the first time that the migration to this route was asked for."""
    known = before.migration
    if known is not None and known.route_id == successor_id:
        return msgspec.structs.replace(before, migration=msgspec.structs.replace(known, asked=known.asked + 1))
    now = (await session.execute(select(func.now()))).scalar_one()
    return msgspec.structs.replace(before, migration=Migration(to=to, route_id=successor_id, began_at=now))


def _line(grant: Grant, in_set: str | None) -> str:
    arn = parse_identity_arn(grant.identity_arn)
    addresses = terms_of(grant.terms).from_addresses if grant.terms else ()
    sender = sender_for(arn.name, addresses)
    return command(sender=sender, identity_arn=grant.identity_arn, region=arn.region, configuration_set=in_set)


async def _note(session: AsyncSession, caller: Caller, route: Route, what: str, **details: object) -> None:
    subject = ("route", route.id)
    await record(session, caller, f"route.{what}", subject=subject, counterpart_id=route.tenant_id, **details)
