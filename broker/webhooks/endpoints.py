"""Endpoints: making, changing, testing and enabling them."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict, Flaw, Invalid, NotFound
from broker.idempotency import remember
from broker.ids import new_id
from broker.quotas import Quota
from broker.room import leave_room
from broker.webhooks import addressed, counts, custom_headers, keys, signing
from broker.webhooks.digests.models import DigestDueRow
from broker.webhooks.events import unknown_types
from broker.webhooks.models import EndpointRow, LaneRow
from broker.webhooks.portrait import made, portray, view
from broker.webhooks.urls import flaw_of
from broker.webhooks.views import EndpointChange, EndpointMade, EndpointView, NewEndpoint

FILTERS = frozenset({"event_types", "grant_ids", "identity_arns"})


async def create(
    db: Database, caller: Caller, wanted: NewEndpoint, *, keyring: Keyring, allow_loopback: bool
) -> EndpointMade:
    """A new endpoint; its secret is in the answer, never again. `Invalid` with the field, `Conflict` without room."""
    _check(wanted.url, wanted.event_types, wanted.headers, allow_loopback=allow_loopback)
    secret = signing.new_secret()
    mine = select(func.count()).select_from(EndpointRow).where(EndpointRow.tenant_id == caller.tenant)
    async with db.begin(caller) as session:
        await leave_room(session, caller, Quota.ENDPOINTS, mine.where(EndpointRow.state != "deleted"))
        endpoint = EndpointRow(
            id=new_id(),
            tenant_id=caller.tenant,
            url=wanted.url,
            description=wanted.description,
            event_types=wanted.event_types,
            grant_ids=wanted.grant_ids,
            identity_arns=wanted.identity_arns,
            headers=custom_headers.seal(wanted.headers, keyring),
            header_names=custom_headers.names_of(wanted.headers),
            rate_limit=wanted.rate_limit,
            shape=wanted.shape,
            state="active",
            created_at=now(),
        )
        session.add(endpoint)
        await session.flush()
        session.add(LaneRow(id=endpoint.id, tenant_id=caller.tenant))
        session.add(DigestDueRow(id=endpoint.id, tenant_id=caller.tenant, due_at=func.now()))
        await keys.add(session, caller, endpoint.id, sealed=keyring.seal(secret))
        await record(session, caller, "endpoint.made", subject=("endpoint", endpoint.id), url=endpoint.url)
        return await remember(session, caller, made(endpoint, secret), keyring=keyring)


async def list_all(
    db: Database, caller: Caller, *, after: UUID | None = None, limit: int = 50
) -> Sequence[EndpointView]:
    """One's endpoints, oldest first, up to `limit` after the id `after`."""
    query = (
        select(EndpointRow)
        .where(EndpointRow.tenant_id == caller.tenant, EndpointRow.state != "deleted")
        .order_by(EndpointRow.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(EndpointRow.id > after)
    async with db.read(caller) as session:
        rows = (await session.scalars(query)).all()
        secrets = await keys.live(session, caller, [row.id for row in rows])
        return [portray(row, secrets.get(row.id, [])) for row in rows]


async def show(db: Database, caller: Caller, endpoint_id: UUID) -> EndpointView:
    """One endpoint; `NotFound`."""
    async with db.read(caller) as session:
        return await view(session, caller, await find(session, caller, endpoint_id))


async def change(
    db: Database,
    caller: Caller,
    endpoint_id: UUID,
    *,
    wanted: EndpointChange,
    keyring: Keyring,
    allow_loopback: bool,
) -> EndpointView:
    """Changes what is given; deliveries that are pending go to the new URL. `headers` replace those that were there."""
    changes = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not msgspec.UNSET}
    _check(changes.get("url"), changes.get("event_types"), changes.get("headers"), allow_loopback=allow_loopback)
    said = sorted(changes)
    if "headers" in changes:
        changes["header_names"] = custom_headers.names_of(changes["headers"])
        changes["headers"] = custom_headers.seal(changes["headers"], keyring)
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, endpoint_id, locked=True)
        if any(changes[name] != getattr(endpoint, name) for name in FILTERS & changes.keys()):
            changes["filters_changed_at"] = func.now()
        for name, value in changes.items():
            setattr(endpoint, name, value)
        await record(session, caller, "endpoint.changed", subject=("endpoint", endpoint.id), fields=said)
        return await view(session, caller, endpoint)


async def remove(db: Database, caller: Caller, endpoint_id: UUID) -> None:
    """Deletes an endpoint with its secrets and headers; what was still to be delivered to it is cancelled."""
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, endpoint_id, locked=True)
        endpoint.state = "deleted"
        endpoint.secret = endpoint.headers = None
        await keys.forget(session, caller, endpoint_id)
        await counts.cancel(session, caller, endpoint_id)
        await record(session, caller, "endpoint.deleted", subject=("endpoint", endpoint.id))


async def send_test(db: Database, caller: Caller, endpoint_id: UUID) -> EndpointView:
    """Sends an `endpoint.test` event to this endpoint alone, whatever its filters, the way that all events go.

    A paused endpoint gets it when it is resumed.
    """
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, endpoint_id)
        if endpoint.state == "disabled":
            raise Conflict("The endpoint is disabled; enable it first.")
        event_id = await addressed.send(session, caller, endpoint, "endpoint.test", url=endpoint.url)
        await wake(session, caller, endpoint_id)
        await record(session, caller, "endpoint.tested", subject=("endpoint", endpoint_id), event_id=str(event_id))
        return await remember(session, caller, await view(session, caller, endpoint))


async def find(session: AsyncSession, caller: Caller, endpoint_id: UUID, *, locked: bool = False) -> EndpointRow:
    """The caller's own endpoint, `locked` against changes; `NotFound` for a foreign or a deleted one."""
    if locked:
        # The lane first, as the engine does, which then writes the endpoint and its secrets: the other way round the
        # two could wait for each other.
        lane = select(LaneRow.id).where(LaneRow.id == endpoint_id, LaneRow.tenant_id == caller.tenant)
        await session.execute(lane.with_for_update())
    query = select(EndpointRow).where(
        EndpointRow.id == endpoint_id, EndpointRow.tenant_id == caller.tenant, EndpointRow.state != "deleted"
    )
    endpoint = await session.scalar(query.with_for_update(key_share=True) if locked else query)
    if endpoint is None:
        raise NotFound("There is no endpoint with this id.")
    return endpoint


async def wake(session: AsyncSession, caller: Caller, endpoint_id: UUID, *, at_once: bool = False) -> None:
    """Rings for the endpoint after the commit; `at_once`, even if the receiver had asked to be left alone."""
    if at_once:
        lane = update(LaneRow).where(LaneRow.id == endpoint_id, LaneRow.tenant_id == caller.tenant)
        await session.execute(lane.values(quiet_until=None))
    session.info.setdefault("woken", {}).setdefault("lanes", set()).add(endpoint_id)


def _check(
    url: str | None, event_types: list[str] | None, headers: dict[str, str] | None, *, allow_loopback: bool
) -> None:
    flaws = []
    if url is not None and (wrong := flaw_of(url, allow_loopback=allow_loopback)):
        flaws.append(Flaw("/url", wrong))
    unknown = unknown_types(event_types or [])
    flaws.extend(Flaw("/event_types", f"There is no event type {name!r}.") for name in unknown)
    flaws.extend(custom_headers.flaws_of(headers or {}))
    if flaws:
        raise Invalid(" ".join(flaw.detail for flaw in flaws), flaws=tuple(flaws))
