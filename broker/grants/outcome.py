"""The last transaction of a sync: what the read-back means for each grant, and who is told."""

from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.db import Database
from broker.due import settle
from broker.errors import BrokerError, Refused
from broker.grants.act import Reading
from broker.grants.adopting.replaces import look_again
from broker.grants.alarms.raising import raise_alarm
from broker.grants.dates import next_date
from broker.grants.hooks import Hook, Hooks
from broker.grants.lifecycle import STUCK, TAKEN_BACK, Effect, Paper
from broker.grants.models import Grant
from broker.grants.moves import database_time
from broker.grants.residual import residual
from broker.grants.sealing import LATER, SOON, may_seal, next_look, protect
from broker.grants.stuck import by_hand
from broker.grants.telling import tell, why_suspended
from broker.grants.wanted import Wanted, Work, tenancies
from broker.identities.models import Identity
from broker.identities.service import record_policies
from broker.points import reach
from broker.policies.deny import touched
from broker.policies.shares import holds, is_alone, says_more, shows

STAYS = "SES has refused nothing, but the policy that lets the delegate send is still there, or may be."


class Seen(StrEnum):
    """What a read-back says about one grant."""

    HELD = "held"
    MORE = "more"  # held, and something else of it, too
    MISSING = "missing"
    REFUSED = "refused"
    DRIFTED = "drifted"  # noted and told when it was read (`drift.notice`)
    GONE = "gone"
    STILL_THERE = "still_there"
    WAITING = "waiting"


def seen(wanted: Wanted, work: Work, reading: Reading) -> Seen:
    """Reads one grant's part of the read-back. A rule: what SES shows decides, never what was asked of it.

    A grant is judged by its own statements, whatever else is in their policy.
    """
    if wanted.id in reading.drifted:
        return Seen.DRIFTED
    if wanted.statements is None:
        alone = is_alone(tenancies(work.grants), wanted.id, wanted.slot)
        stuck = wanted.paper in TAKEN_BACK and (wanted.id in reading.refused or wanted.id in reading.lingering)
        if stuck or shows(reading.observed, wanted.id, wanted.slot, alone=alone):
            return Seen.STILL_THERE
        return Seen.WAITING if wanted.paper is Paper.AGREED else Seen.GONE
    if holds(reading.observed, wanted.id, goal := reading.goals.get(wanted.id, frozenset())):
        # Whom a Deny of ours still shuts out may not send yet.
        if touched(reading.observed, wanted.terms.principals):
            return Seen.MISSING
        return Seen.MORE if says_more(reading.observed, wanted.id, wanted.slot, goal) else Seen.HELD
    return Seen.REFUSED if wanted.id in reading.refused else Seen.MISSING


async def settle_reading(
    db: Database, work: Work, reading: Reading, gap: timedelta, check_every: timedelta, hooks: Hooks
) -> None:
    """Writes down what was read; a grant whose paper changed since the plan was made is left to the next run."""
    async with db.begin(work.caller) as session:
        waits: list[timedelta] = []
        grants, identity = await _lock(session, work)
        # Before anybody is told: routes are locked before lanes, as by those who work on routes.
        for ended in [each for each in grants.values() if _just_ended(work, each, reading)]:
            await hooks.ended(session, ended)
        for wanted in work.grants:
            if (grant := grants.get(wanted.id)) is None:
                waits.append(timedelta(0))
                continue
            await protect(session, work, grant, identity, reading)
            waits += await _write(session, work, wanted, grant, reading, gap, hooks.activated)
            waits += await _seal(session, work, wanted, grant, reading)
        identity.sync_error = None
        if work.access is not None:
            await record_policies(session, identity, dict(reading.observed))
        await session.flush()
        date = await next_date(session, work.claim.id, at_most=check_every)
        waits += [date] if date is not None else []
        await settle(session, work.claim, again_in=min(waits) if waits else None)


async def settle_failure(db: Database, work: Work, error: BrokerError, hooks: Hooks, *, again_in: timedelta) -> None:
    """Writes down why nothing could be read. What has to go is tried again for ever, and its parties are told."""
    async with db.begin(work.caller) as session:
        grants, identity = await _lock(session, work)
        identity.sync_error = error.detail
        refused = isinstance(error, Refused)
        for grant in [each for each in grants.values() if refused and each.ended_at and each.stuck_at is None]:
            await hooks.ended(session, grant)
        for grant in grants.values():
            if grant.paper in TAKEN_BACK and grant.effect is not Effect.REMOVED:
                await _mark_stuck(session, work, grant, error.detail, refused=refused)
            elif grant.effect is not Effect.APPLIED:
                grant.error = error.detail
        await session.flush()
        await settle(session, work.claim, again_in=again_in, failed=True)


async def _lock(session: AsyncSession, work: Work) -> tuple[dict[UUID, Grant], Identity]:
    """The grants whose paper has not changed since the plan was made, and the identity.

    In the order in which whoever decides on a grant locks them, and before anybody is told: grants, identity, lanes.
    """
    versions = {wanted.id: wanted.version for wanted in work.grants}
    query = select(Grant).where(Grant.id.in_(versions)).order_by(Grant.id).with_for_update(key_share=True)
    locked = (await session.scalars(query)).all()
    identity = await session.get_one(Identity, work.claim.id, with_for_update={"key_share": True})
    return {grant.id: grant for grant in locked if grant.version == versions[grant.id]}, identity


def _just_ended(work: Work, grant: Grant, reading: Reading) -> bool:
    """Whether an ended grant's policy is seen to be gone for the first time, or cannot be taken away."""
    if grant.ended_at is None:
        return False
    wanted = next(each for each in work.grants if each.id == grant.id)
    found = seen(wanted, work, reading)
    if found is Seen.GONE:
        return grant.removed_at is None
    return found is Seen.STILL_THERE and wanted.id in reading.refused and grant.stuck_at is None


async def _write(
    session: AsyncSession,
    work: Work,
    wanted: Wanted,
    grant: Grant,
    reading: Reading,
    gap: timedelta,
    activated: Hook,
) -> list[timedelta]:
    """One grant's new effect; returns after how long it wants to be looked at again."""
    match seen(wanted, work, reading):
        case Seen.HELD:
            if grant.effect is not Effect.APPLIED:
                await _activate(session, work, grant, activated)
            return look_again(grant, gap)
        case Seen.REFUSED:
            await _fail(session, work, grant, reading.refused[wanted.id])
        case Seen.MISSING | Seen.MORE:
            return [_not_yet(grant, reading.refused.get(grant.id))]
        case Seen.STILL_THERE:
            await _still_there(session, work, grant, reading.refused.get(grant.id))
            return [SOON]
        case Seen.GONE:
            return await _remove(session, work, grant, reading, gap)
        case Seen.WAITING if not grant.drifted:
            grant.effect = Effect.NONE  # what was there under earlier terms is gone
    return []


def _not_yet(grant: Grant, refusal: str | None) -> timedelta:
    """What was as agreed is so no more, until that is read again; when to look. `refusal`: what is too much stays."""
    if grant.effect is Effect.APPLIED:
        grant.effect = Effect.APPLYING
    grant.error = refusal or grant.error
    return SOON if refusal is None else LATER


async def _still_there(session: AsyncSession, work: Work, grant: Grant, refusal: str | None) -> None:
    if grant.effect is not Effect.REMOVED:  # what comes back late does not undo what was read and told
        grant.removed_at = None
        if refusal is None and grant.paper in TAKEN_BACK:
            await _mark_stuck(session, work, grant, STAYS, refused=False)
    if refusal is not None:
        await _mark_stuck(session, work, grant, refusal, refused=True)


async def _activate(session: AsyncSession, work: Work, grant: Grant, activated: Hook) -> None:
    first = grant.activated_at is None
    grant.effect, grant.error = Effect.APPLIED, None
    if first:
        grant.activated_at = await database_time(session)
    await tell(session, work, grant, "grant.activated")
    if first:
        await activated(session, grant)


async def _fail(session: AsyncSession, work: Work, grant: Grant, detail: str) -> None:
    told = grant.effect is Effect.FAILED and grant.error == detail
    grant.effect, grant.error = Effect.FAILED, detail
    if not told:
        await tell(session, work, grant, "grant.activation_failed", error=detail)


async def _remove(session: AsyncSession, work: Work, grant: Grant, reading: Reading, gap: timedelta) -> list[timedelta]:
    """The first clean read is noted; a second one, at least `gap` later and with no other between, proves it."""
    now = await database_time(session)
    if grant.effect is Effect.REMOVED:
        return []
    if grant.removed_at is None or grant.id in reading.returned:
        grant.effect, grant.removed_at, grant.error = Effect.REMOVING, now, None
        return [gap]
    if now - grant.removed_at < gap:
        return [gap - (now - grant.removed_at)]
    grant.effect, grant.verified_at, grant.stuck_at, grant.error = Effect.REMOVED, now, None, None
    wanted = next(item for item in work.grants if item.id == grant.id)
    grant.residual = await residual(session, work, wanted, observed=reading.observed, now=now)
    if grant.paper in TAKEN_BACK:
        suspended = grant.paper is Paper.PAUSED
        await tell(
            session,
            work,
            grant,
            "grant.suspended" if suspended else f"grant.{grant.paper.value}",
            **(why_suspended(grant) if suspended else {}),
            removed_at=grant.removed_at,
            verified_at=now,
            protected_by=grant.protected_by,
            residual_policies=grant.residual,
        )
    return []


async def _seal(session: AsyncSession, work: Work, wanted: Wanted, grant: Grant, reading: Reading) -> list[timedelta]:
    """Says that nothing can bring a grant back any more, once that is so; until then, when to look again."""
    if grant.id not in work.deny.taken or grant.removed_at is None:
        return []
    now = await database_time(session)
    if seen(wanted, work, reading) is not Seen.GONE or not may_seal(work, grant, reading):
        return [next_look(work, grant, reading, since_gone=now - grant.removed_at)]
    grant.sealed_at = now
    await tell(session, work, grant, "grant.sealed", protected_by=grant.protected_by, sealed_at=now)
    reach("denies.sealed")
    return []


async def _mark_stuck(session: AsyncSession, work: Work, grant: Grant, detail: str, *, refused: bool) -> None:
    now, since = await database_time(session), grant.ended_at or grant.suspended_at
    late = since is not None and now - since >= STUCK
    grant.error = detail
    if grant.stuck_at is not None or not (refused or late):
        return
    grant.stuck_at = now
    identity = await session.get_one(Identity, work.claim.id)
    commands = by_hand(identity.policies, tenancies(work.grants), grant.id, name=identity.name, region=identity.region)
    await tell(session, work, grant, "grant.revocation_stuck", error=detail, commands=commands)
    await raise_alarm(session, grant, error=detail, commands=commands)
