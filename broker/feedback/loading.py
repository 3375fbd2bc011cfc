"""Reads all that work on a route needs, as each party that it concerns, before anything is done outside."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.connections.models import Connection, State
from broker.db import Database
from broker.due import Claim
from broker.feedback.beneath import children_of, from_addresses_of
from broker.feedback.children import covered
from broker.feedback.handling import Beside, RouteWork
from broker.feedback.models import Route, Topic
from broker.feedback.slots import Slots, by_identity
from broker.feedback.views import RouteKind, RouteState
from broker.grants.models import Grant
from broker.identities.models import Identity
from broker.policies.terms import Side

KIND = "routes"
USABLE = frozenset({State.VERIFIED, State.DEGRADED})
REFUSED = "refused"
"""Where a route's `found` keeps what AWS said when it refused the last check."""
STILL_HEARD = timedelta(days=30)  # the bounces of a grant's last mail come in for a while after its end


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The work on a route, and what its state depends on.

    `gone`: the parties that have no connection any more through which it could be undone. `broker_topic_id`: what an
    `identity_topic` comes through unless the owner's own topic serves it. `elsewhere`: when another route of the grant
    was heard.
    """

    work: RouteWork
    wanted: bool
    state: RouteState
    gone: frozenset[Side]
    broker_topic_id: UUID | None
    elsewhere: datetime | None


async def load(db: Database, claimed: Claim) -> Loaded:
    """Two reads: of the owner's rows and of the delegate's, neither of which may see the other's."""
    async with db.read(Caller.system(claimed.tenant_id, job=KIND)) as session:
        route, identity, connection, grant = (await session.execute(_route(claimed.id))).one()
        topics = await _topics(session, route, connection, identity.region)
        beside, broker_topic = await _beside(session, route, identity, topics)
        elsewhere = await _elsewhere(session, route)
    async with db.read(Caller.system(route.delegate_id, job=KIND)) as session:
        recorded = _recorded(route)
        accounts = {*grant.accounts, *recorded}
        delegates = await _connections(session, route.delegate_id, sorted(accounts))
        topics += await _own_topic(session, route)
    usable = [each for each in delegates if _may_act(each) and "delegate" in each.roles]
    # What was set up in one of several accounts is looked after there.
    usable.sort(key=lambda each: each.account_id not in recorded)
    accesses = list({each.account_id: each.access(identity.region) for each in reversed(usable)}.values())[::-1]
    confirmed = {topic.id: topic.arn for topic in topics if topic.state == "confirmed"}
    serving = broker_topic.id if broker_topic is not None else route.topic_id
    work = RouteWork(
        id=route.id,
        kind=RouteKind(route.kind),
        owner_id=route.tenant_id,
        delegate_id=route.delegate_id,
        grant_id=grant.id,
        identity_id=identity.id,
        identity=identity.name,
        identity_arn=identity.arn,
        region=identity.region,
        accounts=tuple(grant.accounts),
        from_addresses=from_addresses_of(grant),
        owner=connection.access(identity.region) if _may_act(connection) else None,
        delegate=accesses[0] if accesses else None,
        settings=route.settings,
        previous=route.previous,
        found={key: value for key, value in route.found.items() if key != REFUSED},
        topic_arn=confirmed.get(serving) if serving else None,
        live_at=route.live_at,
        ended=grant.ended_at is not None,
        fence=claimed.fence,
        delegates=tuple(accesses),
        connected=frozenset(each.account_id for each in delegates),
        beside=beside,
    )
    return Loaded(
        work=work,
        wanted=route.wanted,
        state=RouteState(route.state),
        gone=_gone(connection, delegates, recorded),
        broker_topic_id=broker_topic.id if broker_topic is not None else None,
        elsewhere=elsewhere,
    )


def _route(route_id: UUID) -> Select[Route, Identity, Connection, Grant]:
    return (
        select(Route, Identity, Connection, Grant)
        .join(Identity, Identity.id == Route.identity_id)
        .join(Connection, Connection.id == Identity.connection_id)
        .join(Grant, Grant.id == Route.grant_id)
        .where(Route.id == route_id)
    )


async def _topics(session: AsyncSession, route: Route, connection: Connection, region: str) -> list[Topic]:
    """Of the owner's: ours for this connection and Region, that of the route, and the owner's own that we know."""
    ours = and_(Topic.source == "broker_topic", Topic.connection_id == connection.id)
    own = and_(Topic.source == "tenant_topic", Topic.configuration_set.is_(None))
    here = and_(Topic.tenant_id == route.tenant_id, Topic.region == region, or_(ours, own))
    return list(await session.scalars(select(Topic).where(or_(Topic.id == route.topic_id, here))))


async def _own_topic(session: AsyncSession, route: Route) -> list[Topic]:
    """The delegate's topic, where the route comes through one."""
    mine = (Topic.id == route.topic_id, Topic.tenant_id == route.delegate_id)
    return list(await session.scalars(select(Topic).where(*mine)))


async def _beside(
    session: AsyncSession, route: Route, identity: Identity, topics: Iterable[Topic]
) -> tuple[Beside, Topic | None]:
    if route.kind == RouteKind.foreign_topic:
        return Beside(children=await children_of(session, identity)), None
    if route.kind != RouteKind.identity_topic:
        return Beside(), None
    own = [topic for topic in topics if topic.source == "tenant_topic" and topic.arn]
    ours = next((topic for topic in topics if topic.source == "broker_topic"), None)
    children = await children_of(session, identity)
    others = await _others(session, route, identity) if route.previous is None or not route.wanted else []
    wanting = [each for each in others if each.wanted]
    beside = Beside(
        children=children,
        shared=frozenset(name for each in wanting for name in each.names),
        needed_topics=frozenset(arn for each in wanting for arn in each.topics),
        inherited=_inherited(others),
        broker_topic=ours.arn if ours is not None else None,
        owner_topics={str(topic.arn): topic.state for topic in own},
        subscriptions={str(topic.arn): topic.subscription_arn for topic in own if topic.subscription_arn},
    )
    return beside, ours


class _Other(msgspec.Struct, frozen=True):
    """Another `identity_topic` of the owner in the same account and Region, oldest first."""

    wanted: bool
    names: tuple[str, ...]
    topics: tuple[str, ...]
    previous: Mapping[str, Slots]


async def _others(session: AsyncSession, route: Route, identity: Identity) -> list[_Other]:
    query = (
        select(Route, Identity, Grant)
        .join(Identity, Identity.id == Route.identity_id)
        .join(Grant, Grant.id == Route.grant_id)
        .where(
            Identity.connection_id == identity.connection_id,
            Identity.region == identity.region,
            Route.kind == route.kind,
            Route.id != route.id,
            Route.state != RouteState.removed,
            or_(Grant.ended_at.is_(None), Grant.ended_at > func.now() - STILL_HEARD),
        )
        .order_by(Route.id)
    )
    found = []
    children: dict[UUID, tuple[str, ...]] = {}  # hundreds of grants may be on one identity
    for other, its, grant in (await session.execute(query)).all():
        if its.id not in children:
            children[its.id] = await children_of(session, its)
        names = covered(its.name, children[its.id], from_addresses_of(grant))
        previous = by_identity(other.previous or {}, its.name)
        found.append(_Other(other.wanted, names, tuple(other.found.get("topics", ())), previous))
    return found


def _inherited(others: Iterable[_Other]) -> dict[str, dict[str, str | None]]:
    """What was there before the first of our routes came; an older record goes before a younger one."""
    merged: dict[str, dict[str, str | None]] = {}
    for other in others:
        for name, slots in other.previous.items():
            merged[name] = {**slots, **{kind: arn for kind, arn in merged.get(name, {}).items() if arn}}
    return merged


async def _elsewhere(session: AsyncSession, route: Route) -> datetime | None:
    last = func.max(func.greatest(Route.live_at, Route.heard_at))
    others = (Route.grant_id == route.grant_id, Route.id != route.id)
    at: datetime | None = (await session.execute(select(last).where(*others))).scalar_one()
    return at


async def _connections(session: AsyncSession, tenant_id: UUID, accounts: Sequence[str]) -> Sequence[Connection]:
    mine = (Connection.tenant_id == tenant_id, Connection.account_id.in_(accounts), Connection.state != State.REMOVED)
    return list(await session.scalars(select(Connection).where(*mine).order_by(Connection.id)))


def _may_act(connection: Connection) -> bool:
    return connection.role_arn is not None and connection.state in USABLE


def _recorded(route: Route) -> frozenset[str]:
    """The delegate's accounts in which something of the route was found or made."""
    made_in = route.found.get("account_id")
    listed_in = route.found.get("notifications", {}) if route.kind == RouteKind.legacy else {}
    return frozenset({*listed_in, *([made_in] if made_in else [])})


def _gone(owners: Connection, delegates: Sequence[Connection], recorded: frozenset[str]) -> frozenset[Side]:
    """`recorded`: the delegate's accounts that it was set up in; others of the delegate's are of no use there."""
    left = [each for each in delegates if not recorded or each.account_id in recorded]
    sides: dict[Side, bool] = {"owner": owners.state == State.REMOVED, "delegate": not left}
    return frozenset(side for side, is_gone in sides.items() if is_gone)
