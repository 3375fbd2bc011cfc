"""What the terms say about keeping: an event of a grant is blanked once its days are over, for both parties."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.caller import NOBODY, Caller
from broker.db import Database
from broker.due import Claim, Superseded
from broker.feedback.erasures.blanking import Blank, blank
from broker.feedback.erasures.models import RetentionRow
from broker.feedback.erasures.traces import emptied
from broker.points import reach
from broker.webhooks.replays import batches

KIND = "retentions"
LEASE = timedelta(seconds=60)
AT_ONCE = 2
EVENTS_AT_ONCE = 1000
STATES_AT_ONCE = 5000
EVERY = timedelta(hours=6)
WAIT = timedelta(seconds=1)
LATEST = timedelta(days=60)
"""So long after a grant's end nothing more comes that could be about it (`attribution.RECENT`, and SNS's 23 days)."""


async def plan(db: Database, *, kept: timedelta) -> int:
    """Makes what is due of the terms of every grant that was ever active; how many are new or have changed.

    `kept`: for how long events are kept at most. `db` under broker_worker.
    """
    async with db.begin(NOBODY) as session:
        planned = await session.execute(text("SELECT plan_retentions(:most)"), {"most": kept.days})
        return int(planned.scalar_one())


async def run(db: Database, *, kept: timedelta, only: Sequence[UUID] | None = None) -> int:
    """One look for each grant that is due (of those in `only`, if given); how many. `db` under broker_worker."""

    async def do(claimed: Claim) -> None:
        await step(db, claimed, kept=kept)

    return await due.work(db, KIND, do, most=AT_ONCE, lease=LEASE, only=only)


async def step(db: Database, claimed: Claim, *, kept: timedelta) -> None:
    """One transaction: what is blanked, the position and the end of the lease, or none of them."""
    async with db.begin(Caller.system(claimed.tenant_id, job=KIND)) as session:
        query = select(RetentionRow, func.now()).where(RetentionRow.id == claimed.id)
        found = (
            await session.execute(query.where(RetentionRow.fence == claimed.fence).with_for_update())
        ).one_or_none()
        if found is None:
            raise Superseded(f"The retention of grant {claimed.id} was claimed by another worker.")
        job, now = found
        again_in: timedelta | None = await _walk(session, job, now, kept) if job.days < kept.days else EVERY
        if again_in == EVERY:
            again_in = await _forget(session, job, now)
        await session.flush()
        reach("retentions.walked")
        await due.settle(session, claimed, again_in=again_in)


# One walk along the owner's ordered index, from where the last one ended; for all of the owner's grants at once.
_WALK = text(
    """
    SELECT e.id, e.at, e.xact, e.created_at, e.grant_id,
      CASE WHEN e.grant_id = ANY (:grant_ids) AND starts_with(e.type, 'email.') AND NOT e.data ? 'erased' THEN e.data
      END AS data
    FROM events e
    WHERE e.owner_id = :owner_id AND (e.xact, e.id) > (:after_xact, :after_id)
      AND e.xact < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)
    ORDER BY e.xact, e.id LIMIT :most
    """
)


async def _walk(session: AsyncSession, job: RetentionRow, now: datetime, kept: timedelta) -> timedelta:
    """Blanks what is over, of this grant and of others that have come as far; pending deliveries of it are cancelled.

    When to go on.
    """
    await batches.pin(session)
    jobs = {each.id: each for each in (job, *await _beside(session, job, kept))}
    named = {
        "grant_ids": list(jobs),
        "owner_id": job.tenant_id,
        "after_xact": job.after_xact,
        "after_id": job.after_id,
        "most": EVENTS_AT_ONCE,
    }
    rows = (await session.execute(_WALK, named)).all()
    over = {each.id: _over(each, rows, now) for each in jobs.values()}
    done = await blank(session, [_blanked(row) for id_, of in over.items() for row in of if _is_of(row, id_)])
    if done.busy:
        return WAIT
    for each in jobs.values():
        if over[each.id]:
            each.after_xact, each.after_id = over[each.id][-1].xact, over[each.id][-1].id
    return timedelta(0) if len(over[job.id]) == EVENTS_AT_ONCE else EVERY


async def _beside(session: AsyncSession, job: RetentionRow, kept: timedelta) -> Sequence[RetentionRow]:
    """The owner's others that are as far or further: else each would walk along the same events by itself."""
    place = tuple_(RetentionRow.after_xact, RetentionRow.after_id) >= tuple_(job.after_xact, job.after_id)
    query = select(RetentionRow).where(
        RetentionRow.tenant_id == job.tenant_id, RetentionRow.id != job.id, RetentionRow.days < kept.days, place
    )
    return (await session.scalars(query.order_by(RetentionRow.id).with_for_update(skip_locked=True))).all()


def _over(job: RetentionRow, rows: Sequence[Any], now: datetime) -> Sequence[Any]:
    """What is over of these rows, and was not looked at for this grant before."""
    over = takewhile(lambda row: row.created_at < now - timedelta(days=job.days), rows)
    return [row for row in over if (row.xact, row.id) > (job.after_xact, job.after_id)]


def _is_of(row: Any, grant_id: UUID) -> bool:
    return row.data is not None and row.grant_id == grant_id


def _blanked(row: Any) -> Blank:
    return Blank(row.id, row.at, emptied(row.data), is_gone=True)


_ENDED = text("SELECT owner_id, delegate_id, identity_arn, ended_at FROM grants WHERE id = :id")
# Also what this grant's events added to an entry that another grant gave, once no grant of the pair lasts. From then on
# the owner sees addresses by later grants alone.
_BLANK_SUPPRESSIONS = text(
    """
    UPDATE suppressions s
    SET address = NULL, owner_view = CASE s.owner_view WHEN 'full' THEN 'hashed' ELSE s.owner_view END
    WHERE s.owner_id = :owner_id AND s.delegate_id = :delegate_id AND s.identity_arn = :identity_arn
      AND s.address IS NOT NULL AND (s.grant_id = :id OR NOT EXISTS (
        SELECT FROM grants g WHERE g.owner_id = :owner_id AND g.delegate_id = :delegate_id
          AND g.identity_arn = :identity_arn AND g.activated_at IS NOT NULL
          AND (g.ended_at IS NULL OR g.ended_at >= :before)))
    """
)
_FORGET_STATES = text(
    """
    WITH gone AS (
      DELETE FROM recipients WHERE id IN (
        SELECT r.id FROM recipients r
        WHERE r.owner_id = :owner_id AND r.delegate_id = :delegate_id AND r.identity_arn = :identity_arn
          AND r.state NOT IN ('permanent_bounce', 'complaint') AND r.last_at < :before LIMIT :most)
      RETURNING 1
    )
    SELECT count(*) FROM gone
    """
)


async def _forget(session: AsyncSession, job: RetentionRow, now: datetime) -> timedelta | None:
    """States of long ago go, and addresses of suppressions once the grant is over for so long; their hashes stay."""
    grant = (await session.execute(_ENDED, {"id": job.id})).one()
    days = timedelta(days=job.days)
    named = {name: getattr(grant, name) for name in ("owner_id", "delegate_id", "identity_arn")}
    gone = await session.execute(_FORGET_STATES, {**named, "before": now - days, "most": STATES_AT_ONCE})
    if gone.scalar_one() == STATES_AT_ONCE:
        return timedelta(0)
    if grant.ended_at is None or grant.ended_at >= now - days:
        return EVERY
    await session.execute(_BLANK_SUPPRESSIONS, {**named, "id": job.id, "before": now - days})
    return EVERY if grant.ended_at >= now - days - LATEST else None
