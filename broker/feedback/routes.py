"""Keeps the `identity_topic` routes: an owner's identity tells the broker's topic about bounces and the rest."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections.models import Connection
from broker.db import Database
from broker.due import Claim, back_off, settle
from broker.errors import Refused, Unavailable
from broker.feedback.models import Route, Topic
from broker.feedback.slots import BY_HAND, NO_TOPIC_NOW, NO_TOPIC_YET, before_ours, plan, why_pending
from broker.grants.models import Grant
from broker.identities.models import Identity
from broker.settings import Settings

KIND = "routes"
LEASE = timedelta(seconds=60)
AT_ONCE = 10
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=1), timedelta(minutes=15)
USABLE = frozenset({"verified", "degraded"})

logger = log.get(__name__)


class IdentityTopics(Protocol):
    """The notification topics of an identity, by name, in an owner's account. Raises `Unavailable` or `Refused`."""

    async def notification_topics(self, access: RoleAccess, identity: str) -> Mapping[str, str | None]:
        """ARNs by `bounce`, `complaint`, `delivery`; None where none is set."""
        ...

    async def set_notification_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None:
        """Sets one of the three."""
        ...


class _Work(msgspec.Struct, frozen=True):
    """What a route needs. `topic_arn` is None while SNS does not deliver to us, `access` where we may not act.

    `known`: the route was set up before.
    """

    identity: str
    access: RoleAccess | None
    topic_arn: str | None
    known: bool
    ended: bool


class _Found(msgspec.Struct, frozen=True):
    """What came of it. `previous`: the slots as they were before ours; `reason`: why not all is as it should be."""

    state: str
    reason: str | None = None
    previous: Mapping[str, str | None] | None = None


class _Halfway(Exception):  # an outcome: SES takes about one such call a second, so the rest follows in the next run
    """Some slots were set, and then SES asked to wait."""


async def run(db: Database, ses: IdentityTopics, settings: Settings, *, only: Sequence[UUID] | None = None) -> int:
    """Works on the routes that are due (of those in `only`, if given); returns how many."""

    async def check(claimed: Claim) -> None:
        await _check(db, ses, settings, claimed)

    return await due.work(db, KIND, check, most=AT_ONCE, lease=LEASE, only=only)


async def _check(db: Database, ses: IdentityTopics, settings: Settings, claimed: Claim) -> None:
    try:
        work = await _load(db, claimed)
        # After a grant's end the bounces of its last mail still come in, but what SES drops now is not put back.
        found = None if work.ended else await _set_up(ses, work)
    except _Halfway:
        await _settle(db, claimed, None, again_in=FIRST_RETRY)
    except Unavailable as error:
        logger.warning("route waits", route_id=str(claimed.id), reason=error.detail)
        await _settle(db, claimed, None, again_in=None, failed=True)
    except Refused as error:
        await _settle(db, claimed, _Found("broken", error.detail), again_in=None, failed=True)
    else:
        await _settle(db, claimed, found, again_in=None if found is None else settings.identity_check_every)


async def _load(db: Database, claimed: Claim) -> _Work:
    query = (
        select(Identity, Connection, Topic, Route.previous, Grant.ended_at)
        .join(Route, Route.identity_id == Identity.id)
        .join(Connection, Connection.id == Identity.connection_id)
        .join(Grant, Grant.id == Route.grant_id)
        .outerjoin(Topic, Topic.id == Route.topic_id)
        .where(Route.id == claimed.id)
    )
    async with db.read(_caller(claimed)) as session:
        identity, connection, topic, previous, ended_at = (await session.execute(query)).one()
    may_act = connection.role_arn is not None and connection.state in USABLE
    confirmed = topic is not None and topic.state == "confirmed"
    return _Work(
        identity=identity.name,
        access=connection.access(identity.region) if may_act else None,
        topic_arn=topic.arn if confirmed else None,
        known=previous is not None,
        ended=ended_at is not None,
    )


async def _set_up(ses: IdentityTopics, work: _Work) -> _Found:
    """Reads the slots, sets those that are empty, and leaves alone what is somebody else's."""
    if work.topic_arn is None:
        return _Found("broken", NO_TOPIC_NOW) if work.known else _Found("requested", NO_TOPIC_YET)
    if work.access is None:
        return _Found("pending", BY_HAND)
    before = await ses.notification_topics(work.access, work.identity)
    todo = plan(before, work.topic_arn)
    for done, kind in enumerate(todo.free):
        try:
            await ses.set_notification_topic(work.access, work.identity, kind, work.topic_arn)
        except Unavailable as error:
            if done:
                raise _Halfway from error
            raise
    # An answer of 200 is not taken as proof: what counts is what SES says afterwards.
    after = await ses.notification_topics(work.access, work.identity) if todo.free else before
    left = plan(after, work.topic_arn)
    if left.free:
        raise Unavailable("SES does not show the notification topics that were just set.")
    reason = why_pending(work.identity, left.taken)
    return _Found("pending" if reason else "configured", reason, before_ours(before, work.topic_arn))


async def _settle(
    db: Database, claimed: Claim, found: _Found | None, *, again_in: timedelta | None, failed: bool = False
) -> None:
    caller = _caller(claimed)
    wait = back_off(claimed.attempts, first=FIRST_RETRY, most=LONGEST_RETRY)
    async with db.begin(caller) as session:
        if found is not None:
            await _write(session, caller, claimed, found)
        await settle(session, claimed, again_in=wait if failed else again_in, failed=failed)


async def _write(session: AsyncSession, caller: Caller, claimed: Claim, found: _Found) -> None:
    route = (await session.scalars(select(Route).where(Route.id == claimed.id).with_for_update())).one()
    state = "live" if found.state == "configured" and route.live_at is not None else found.state
    if route.previous is None and found.previous is not None:
        route.previous = dict(found.previous)
    if (state, found.reason) == (route.state, route.reason):
        return
    route.state, route.reason = state, found.reason
    await session.flush()
    told = {"reason": found.reason} if found.reason else {}
    await record(
        session, caller, f"route.{state}", subject=("route", route.id), counterpart_id=route.delegate_id, **told
    )


def _caller(claimed: Claim) -> Caller:
    return Caller.system(claimed.tenant_id, job=KIND)
