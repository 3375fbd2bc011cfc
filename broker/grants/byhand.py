"""Grants whose owner applies and removes the policy by hand, and says when that is done. Nobody reads SES there."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.connections.models import Connection, Kind
from broker.db import Database
from broker.due import settle
from broker.errors import Conflict
from broker.grants.dates import expire, next_date
from broker.grants.events import announce
from broker.grants.lifecycle import TAKEN_BACK, Effect, Paper, Verb, paper_at
from broker.grants.models import Grant
from broker.grants.moves import Found, find_for, shown
from broker.grants.present import standing_of
from broker.grants.views import GrantView, Note
from broker.grants.wanted import Work
from broker.idempotency import remember
from broker.identities.models import Identity


class Done(StrEnum):
    """What the owner has done in its own account."""

    applied = "applied"
    removed = "removed"


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The owner's word that the exported policy is on the identity, or off it."""

    what: Annotated[Done, msgspec.Meta(description="What you have done in SES", examples=["applied"])]
    note: Note | None = None


async def confirm(db: Database, caller: Caller, grant_id: UUID, said: Confirmation) -> GrantView:
    """The state follows the owner's word, and `verified` stays false; `Conflict` where the broker reads SES itself."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.CONFIRM)
        if not await _is_manual(session, found.grant):
            raise Conflict("The broker reads SES through your role: there is nothing to confirm.")
        if paper_at(standing_of(found.grant, found.offer), found.now) is not found.grant.paper:
            await expire(session, caller, found.grant)  # the clock was faster than the worker
        what = _applied(found) if said.what is Done.applied else _removed(found)
        found.grant.error, found.grant.stuck_at = None, None
        found.grant.version += 1
        subject, other = ("grant", grant_id), found.grant.delegate_id
        action = f"grant.confirmed_{said.what.value}"
        await record(session, caller, action, subject=subject, counterpart_id=other, note=said.note)
        await announce(session, what, found.grant, verified=False)
        return await remember(session, caller, await shown(session, caller, found.grant, found.offer, found.now))


async def wait_for_owner(db: Database, work: Work, *, check_every: timedelta) -> None:
    """The end of a sync that has nobody to act for it: the clock has been looked at, the rest is the owner's."""
    ids = [grant.id for grant in work.grants]
    async with db.begin(work.caller) as session:
        # So that the delegate, who cannot see the owner's connection, is told whose turn it is.
        marked = update(Grant).where(Grant.id.in_(ids), Grant.by_hand.is_(False)).values(by_hand=True)
        await session.execute(marked)
        await settle(session, work.claim, again_in=await next_date(session, work.claim.id, at_most=check_every))


async def _is_manual(session: AsyncSession, grant: Grant) -> bool:
    query = (
        select(Connection.kind)
        .join(Identity, Identity.connection_id == Connection.id)
        .where(Identity.id == grant.identity_id)
    )
    return await session.scalar(query) == Kind.MANUAL


def _applied(found: Found) -> str:
    grant = found.grant
    if grant.paper is not Paper.AGREED or grant.effect is Effect.APPLIED:
        raise Conflict("There is no policy of this grant to apply now.")
    if grant.not_before is not None and grant.not_before > found.now:
        raise Conflict("The window of this grant has not begun; confirm it when it has.")
    grant.effect = Effect.APPLIED
    grant.activated_at = grant.activated_at or found.now
    return "grant.activated"


def _removed(found: Found) -> str:
    grant = found.grant
    if grant.paper not in TAKEN_BACK or grant.effect is Effect.REMOVED:
        raise Conflict("There is no policy of this grant to remove now.")
    # No verified_at: that is for what was read.
    grant.effect, grant.removed_at = Effect.REMOVED, found.now
    return "grant.suspended" if grant.paper is Paper.PAUSED else f"grant.{grant.paper.value}"
