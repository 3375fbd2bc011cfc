"""A delegate's own event destinations on the configuration set of its route. SES is the truth: nothing is kept here."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections.models import Connection, State
from broker.db import Database
from broker.errors import Conflict, Forbidden, NotFound, Refused, Unavailable
from broker.feedback.destinations.shapes import OURS, Where, changed, definition_of, shown, where_is
from broker.feedback.destinations.views import DestinationChange, DestinationView, NewDestination
from broker.feedback.models import Route
from broker.feedback.service import visible_to
from broker.feedback.set_gateways import Sets
from broker.feedback.set_rules import DESTINATION, named, same_definition
from broker.idempotency import remember

_PAUSE = 1.1
"""SES takes about one call of a kind a second (Developer Guide, quotas): what was read just now is read again then."""
_READS = 3


class _Place(msgspec.Struct, frozen=True):
    route: Route
    access: RoleAccess
    where: Where


async def list_all(db: Database, sets: Sets, caller: Caller, route_id: UUID) -> Sequence[DestinationView]:
    """All destinations of the set, ours among them.

    `NotFound` for a stranger's route, `Forbidden` for the owner, `Conflict` while there is no set or no role.
    """
    async with db.read(caller) as session:
        place = await _place(session, caller, route_id)
    found = [shown(each) for each in await _read(sets, place)]
    return [each for each in found if each is not None]


async def create(
    db: Database, sets: Sets, caller: Caller, route_id: UUID, *, wanted: NewDestination
) -> DestinationView:
    """A new destination as SES shows it afterwards. `Invalid` with the field; `Refused` in SES's own words."""
    async with db.begin(caller) as session:
        place = await _place(session, caller, route_id)
    definition = definition_of(wanted, place.where)
    try:
        await sets.create_destination(place.access, place.where.name, wanted.name, definition)
    except Refused as error:
        # A request that is repeated with its key found no answer of ours, but may have reached SES the first time.
        if error.code != "AlreadyExistsException" or caller.idempotency is None:
            raise
        held = named(await _read(sets, place), wanted.name)
        if held is None or not same_definition(held, definition):
            raise
    return await _written(db, sets, caller, place, wanted.name, definition, "destination.made")


async def change(
    db: Database, sets: Sets, caller: Caller, route_id: UUID, *, name: str, wanted: DestinationChange
) -> DestinationView:
    """The destination as SES shows it afterwards. `NotFound`, `Conflict` for ours and for Pinpoint, `Invalid`."""
    async with db.read(caller) as session:
        place = await _place(session, caller, route_id)
    held = named(await _read(sets, place), name)
    if held is None:
        raise NotFound("The configuration set has no destination of this name.")
    definition = changed(held, wanted, place.where)
    await sets.update_destination(place.access, place.where.name, name, definition)
    return await _written(db, sets, caller, place, name, definition, "destination.changed")


async def remove(db: Database, sets: Sets, caller: Caller, route_id: UUID, *, name: str) -> None:
    """Removes it, of whatever kind; `NotFound`, `Conflict` for ours."""
    async with db.read(caller) as session:
        place = await _place(session, caller, route_id)
    if name == DESTINATION:
        raise Conflict(OURS)
    if named(await _read(sets, place), name) is None:
        raise NotFound("The configuration set has no destination of this name.")
    await sets.delete_destination(place.access, place.where.name, name)
    if named(await _patiently(sets, place), name) is not None:
        raise Unavailable("SES still shows the destination that was just removed; look again in a moment.")
    async with db.begin(caller) as session:
        await _record(session, caller, place, "destination.removed", name)


async def _place(session: AsyncSession, caller: Caller, route_id: UUID) -> _Place:
    route = await session.scalar(select(Route).where(Route.id == route_id, visible_to(caller)))
    if route is None:
        raise NotFound("There is no route with this id.")
    if route.delegate_id != caller.tenant:
        raise Forbidden("Only the delegate of the grant manages the destinations: they are in its account.")
    if route.kind != "configuration_set" or route.state == "removed":
        raise Conflict("This route has no configuration set: make a route of the kind configuration_set.")
    if "configuration_set_arn" not in route.found:
        raise Conflict(f"The configuration set has not been made yet. {route.reason or 'Look again in a moment.'}")
    where = where_is(route.found["configuration_set_arn"])
    connection = await session.scalar(
        select(Connection).where(
            Connection.tenant_id == caller.tenant,
            Connection.account_id == where.account_id,
            Connection.role_arn.is_not(None),
            Connection.state.in_((State.VERIFIED, State.DEGRADED)),
        )
    )
    if connection is None:
        raise Conflict(f"Account {where.account_id} is not connected by a role that can be used now.")
    return _Place(route, connection.access(where.region), where)


async def _read(sets: Sets, place: _Place) -> list[dict[str, Any]]:
    try:
        return await sets.destinations(place.access, place.where.name)
    except Refused as error:
        if error.code != "NotFoundException":
            raise
        raise Conflict(
            f"SES has no configuration set {place.where.name} any more; it is made anew at the route's next check."
        ) from error


async def _patiently(sets: Sets, place: _Place) -> list[dict[str, Any]]:
    """What SES shows after a write, which comes so soon after the last look that SES may ask to wait."""
    for _ in range(_READS - 1):
        try:
            return await _read(sets, place)
        except Unavailable:
            await asyncio.sleep(_PAUSE)
    return await _read(sets, place)


async def _written(
    db: Database,
    sets: Sets,
    caller: Caller,
    place: _Place,
    name: str,
    definition: Mapping[str, Any],
    action: str,
) -> DestinationView:
    """An answer of 200 is not taken as proof: what counts, and is answered, is what SES says afterwards."""
    held = named(await _patiently(sets, place), name)
    view = shown(held) if held is not None and same_definition(held, definition) else None
    if view is None:
        raise Unavailable("SES does not yet show the destination as it was just written; look again in a moment.")
    async with db.begin(caller) as session:
        await _record(session, caller, place, action, name, kind=view.kind.value)
        return await remember(session, caller, view)


async def _record(
    session: AsyncSession, caller: Caller, place: _Place, action: str, name: str, *, kind: str | None = None
) -> None:
    told = {"destination": name} if kind is None else {"destination": name, "kind": kind}
    subject = ("route", place.route.id)
    await record(session, caller, f"route.{action}", subject=subject, counterpart_id=None, **told)
