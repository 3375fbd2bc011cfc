"""Suspending a grant, by its owner or by the breaker, and resuming it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.errors import Conflict
from broker.grants.denies import DENY_KEPT, name_ahead
from broker.grants.lifecycle import MOVES, Effect, Verb
from broker.grants.models import Grant
from broker.grants.moves import Found, find_for, first_protection, note, shown, wake_identity
from broker.grants.views import GrantView, Reason
from broker.idempotency import remember

BY_OWNER, BY_BREAKER = "owner", "breaker"


async def suspend(
    db: Database, caller: Caller, grant_id: UUID, why: Reason, *, deny_kept: timedelta = DENY_KEPT
) -> GrantView:
    """The owner takes access back for a while; `suspended`, and both told, once SES was read without it."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.SUSPEND)
        await _pause(session, caller, found, by=BY_OWNER, why={"note": why.note})
        await wake_identity(session, found.grant.identity_id)
        await name_ahead(session, found.grant.identity_id, kept=deny_kept, now=found.now)
        return await remember(session, caller, await shown(session, caller, found.grant, found.offer, found.now))


async def trip(session: AsyncSession, caller: Caller, why: Mapping[UUID, Mapping[str, Any]]) -> Sequence[Grant]:
    """The breaker suspends these grants of the caller's, each for its own reason; those that it did suspend.

    Runs in the transaction that counted. A grant that was ended or suspended meanwhile is left alone.
    """
    tripped = []
    for grant_id in sorted(why):
        try:
            found = await find_for(session, caller, grant_id, Verb.SUSPEND)
        except Conflict:
            continue
        await _pause(session, caller, found, by=BY_BREAKER, why=why[grant_id])
        tripped.append(found.grant)
    for identity_id in sorted({grant.identity_id for grant in tripped}):
        await wake_identity(session, identity_id)
    return tripped


async def resume(db: Database, caller: Caller, grant_id: UUID, why: Reason) -> GrantView:
    """The owner gives access back, under a new version of the policy; the breaker counts from here on."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.RESUME)
        grant = found.grant
        grant.paper = MOVES[Verb.RESUME].to[grant.paper]
        # Not `applying`: what the last read showed of it is not missed by anybody, since we took it away ourselves.
        later = grant.not_before is not None and grant.not_before > found.now
        unread = later and grant.effect is not Effect.REMOVED  # it may still be there, and is not to be yet
        grant.effect, grant.error, grant.resumed_at = Effect.REMOVING if unread else Effect.NONE, None, found.now
        grant.removed_at = grant.verified_at = grant.stuck_at = None
        grant.protected_by = grant.protection = grant.sealed_at = None
        grant.residual = []
        grant.version += 1
        await wake_identity(session, grant.identity_id)
        await note(session, caller, "resumed", grant, note=why.note)
        return await remember(session, caller, await shown(session, caller, grant, found.offer, found.now))


async def _pause(session: AsyncSession, caller: Caller, found: Found, *, by: str, why: Mapping[str, Any]) -> None:
    grant = found.grant
    grant.paper = MOVES[Verb.SUSPEND].to[grant.paper]
    grant.effect, grant.error = Effect.REMOVING, None
    grant.suspended_at, grant.suspended_by, grant.suspension = found.now, by, dict(why)
    grant.removed_at = grant.verified_at = grant.stuck_at = None
    grant.protected_by, grant.protection, grant.sealed_at = first_protection(grant), None, None
    grant.drifted = False
    grant.version += 1
    await record(
        session,
        caller,
        "grant.suspend_requested",
        subject=("grant", grant.id),
        counterpart_id=grant.delegate_id,
        suspended_by=by,
        **why,
    )
