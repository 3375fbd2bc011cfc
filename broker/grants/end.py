"""Ending a grant, and giving an owner back what somebody else took away."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.grants.denies import DENY_KEPT, name_ahead
from broker.grants.events import announce
from broker.grants.lifecycle import MOVES, Effect, Outcome, Verb
from broker.grants.models import Grant
from broker.grants.moves import Found, find_for, first_protection, shown, wake_identity, wake_routes
from broker.grants.views import GrantView, Reason
from broker.idempotency import remember
from broker.points import reach


async def revoke(
    db: Database, caller: Caller, grant_id: UUID, why: Reason, *, deny_kept: timedelta = DENY_KEPT
) -> GrantView:
    """The owner takes access back. Ended on paper from this commit on; `revoked` once SES was read without it.

    The Deny that shuts the delegate out is on paper with it.
    """
    return await _end(
        db, caller, grant_id, Verb.REVOKE, event="grant.revocation_requested", why=why, deny_kept=deny_kept
    )


async def relinquish(db: Database, caller: Caller, grant_id: UUID, why: Reason) -> GrantView:
    """The delegate hands access back; what else stands on the identity, and so its Deny, is not for it to see."""
    return await _end(db, caller, grant_id, Verb.RELINQUISH, event=None, why=why)


async def restore(db: Database, caller: Caller, grant_id: UUID) -> GrantView:
    """The owner has the agreed policy put back that somebody removed outside the broker."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.RESTORE)
        found.grant.drifted, found.grant.effect = False, Effect.APPLYING
        found.grant.version += 1
        await wake_identity(session, found.grant.identity_id)
        await _record(session, caller, "grant.restore_requested", found.grant)
        return await remember(session, caller, await shown(session, caller, found.grant, found.offer, found.now))


async def _end(
    db: Database,
    caller: Caller,
    grant_id: UUID,
    verb: Verb,
    *,
    event: str | None,
    why: Reason,
    deny_kept: timedelta | None = None,
) -> GrantView:
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, verb)
        close(found, verb)
        reach("grants.ended")
        await wake_routes(session, [found.grant])
        await wake_identity(session, found.grant.identity_id)
        if deny_kept is not None:
            await name_ahead(session, found.grant.identity_id, kept=deny_kept, now=found.now)
        await _record(session, caller, f"grant.{verb.value}_requested", found.grant, note=why.note)
        if event:
            await announce(session, event, found.grant, note=why.note)
        return await remember(session, caller, await shown(session, caller, found.grant, found.offer, found.now))


def close(found: Found, verb: Verb) -> None:
    """Ends the paper; what SES holds is from now on to be removed, and an open amendment is void."""
    grant = found.grant
    grant.paper = MOVES[verb].to[grant.paper]
    grant.effect, grant.ended_at, grant.error = Effect.REMOVING, found.now, None
    grant.removed_at = grant.verified_at = grant.stuck_at = None
    grant.protected_by, grant.protection, grant.sealed_at = first_protection(grant), None, None
    grant.drifted = False
    grant.version += 1
    if found.offer.outcome is None:
        found.offer.outcome, found.offer.decided_at = Outcome.VOIDED, found.now


async def _record(session: AsyncSession, caller: Caller, action: str, grant: Grant, **details: str | None) -> None:
    other = grant.delegate_id if caller.tenant == grant.owner_id else grant.owner_id
    await record(session, caller, action, subject=("grant", grant.id), counterpart_id=other, **details)
