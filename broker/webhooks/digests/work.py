"""Cutting days: what an endpoint was to get is counted, hashed, kept and sent to it, exactly once for each day.

To get it was what its tenant hears of and its filters match; whether it was delivered plays no part, so that what was
lost on the way is missed by the receiver. Not counted are the events that are addressed to one endpoint.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.caller import Caller
from broker.db import Database
from broker.due import Claim, Superseded
from broker.errors import NotFound
from broker.points import reach
from broker.webhooks import addressed, endpoints
from broker.webhooks.digests.hashing import DayTally, ids_of, start_of
from broker.webhooks.digests.models import DigestDueRow, DigestRow
from broker.webhooks.events import ADDRESSED
from broker.webhooks.models import EndpointRow

CUT_AFTER = timedelta(minutes=15)
LATEST = timedelta(days=23)  # after which SNS may still bring a message (SNS Developer Guide, message delivery retries)
SKEW = timedelta(minutes=15)  # by which the clocks of processes and database differ at most
LOOK_AGAIN = timedelta(seconds=2)
LEASE = timedelta(minutes=15)
LONGEST = "10min"
MOST = 1  # a worker looks several times side by side; revocations need connections, too
PIECES = 20

logger = log.get(__name__)

# One row for each minute or so (the first 8 digits of an id are 65.5 seconds) and type, and one for all types, in the
# order of ids. Two walks along ordered indexes, over what the tenant heard since the day before; rows of others are
# never looked at. Who is both parties hears an event once.
IDS = text(
    """
    SELECT left(id::text, 8) AS piece, type, count(*) AS number,
      string_agg(id::text || chr(10), '' ORDER BY id) AS lines
    FROM (
      SELECT e.id, e.type, e.grant_id, e.data->>'identity' AS identity FROM events e
      WHERE e.owner_id = :me AND e.owner_view IS NOT NULL AND e.xact >= :since AND e.id >= :first AND e.id < :end
      UNION ALL
      SELECT e.id, e.type, e.grant_id, e.data->>'identity' FROM events e
      WHERE e.delegate_id = :me AND e.delegate_view IS NOT NULL AND e.xact >= :since AND e.id >= :first AND e.id < :end
        AND (e.owner_id IS DISTINCT FROM :me OR e.owner_view IS NULL)
    ) heard
    WHERE type <> ALL (CAST(:addressed AS text[]))
      AND (CAST(:event_types AS text[]) IS NULL OR type = ANY (:event_types)
        OR split_part(type, '.', 1) || '.*' = ANY (:event_types))
      AND (CAST(:grant_ids AS uuid[]) IS NULL OR grant_id = ANY (:grant_ids))
      AND (CAST(:identity_arns AS text[]) IS NULL OR identity = ANY (:identity_arns))
    GROUP BY GROUPING SETS ((1, 2), (1)) ORDER BY 1
    """
)
_OLDEST_OPEN = text("SELECT now(), pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_OURS = text("SELECT pg_current_xact_id()::text::bigint")


async def run(db: Database, *, retention: timedelta, only: Sequence[UUID] | None = None) -> int:
    """Cuts one day of one endpoint that is due (of those in `only`); how many were looked at.

    `retention`: for how long events are kept. Days of which some may have been dropped are left out: that is, after the
    work stood still for a week when events are kept for 30 days. `db` has the worker's role.
    """
    work = partial(_work, db, most_behind=retention - LATEST)
    return await due.work(db, "digests", work, most=MOST, lease=LEASE, only=only)


async def _work(db: Database, claim: Claim, *, most_behind: timedelta) -> None:
    caller = Caller.system(claim.tenant_id, job="digests")
    if await _close(db, caller, claim, most_behind=most_behind):
        reach("digests.closed")
        await _cut(db, caller, claim)
        reach("digests.cut")


async def _close(db: Database, caller: Caller, claim: Claim, *, most_behind: timedelta) -> bool:
    """Whether the day is over. Then it notes a transaction: once all up to it have ended, none can add to the day."""
    async with db.begin(caller) as session:
        row = await _row(session, claim)
        at = (await session.execute(select(func.now()))).scalar_one()
        oldest = (at - most_behind).astimezone(UTC).date()
        if row.day < oldest:
            logger.warning("days left out of the digests", endpoint_id=str(claim.id), day=str(row.day))
            row.day, row.closing_xact = oldest, None
        wait = _cut_of(row.day) - at
        if wait > timedelta(0):
            await due.settle(session, claim, again_in=wait)
            return False
        if row.closing_xact is None:
            row.closing_xact = (await session.execute(_OURS)).scalar_one()
        return True


async def _cut(db: Database, caller: Caller, claim: Claim) -> None:
    async with db.begin(caller) as session:
        row = await _row(session, claim)
        at, oldest_open = (await session.execute(_OLDEST_OPEN)).one()
        if row.closing_xact is None or oldest_open <= row.closing_xact:
            await due.settle(session, claim, again_in=LOOK_AGAIN)
            return
        try:
            await _digest(session, caller, row, at=at)
        except NotFound:
            await due.settle(session, claim, again_in=None)
            return
        reach("digests.sent")
        _move_on(row, at=at, oldest_open=oldest_open)
        await due.settle(session, claim, again_in=max(_cut_of(row.day) - at, timedelta(0)))


async def _row(session: AsyncSession, claim: Claim) -> DigestDueRow:
    """Locked, so that nobody else can claim it until the transaction ends."""
    query = select(DigestDueRow).where(DigestDueRow.id == claim.id, DigestDueRow.fence == claim.fence)
    row = await session.scalar(query.with_for_update())
    if row is None:
        raise Superseded(f"Digests of {claim.id} were claimed by another worker.")
    return row


def _cut_of(day: date) -> datetime:
    return start_of(day + timedelta(days=1)) + CUT_AFTER


def _move_on(row: DigestDueRow, *, at: datetime, oldest_open: int) -> None:
    """To the next day, of which no event is older than the mark when that was taken before the day began."""
    row.day += timedelta(days=1)
    row.closing_xact = None
    if row.mark_at + SKEW <= start_of(row.day):
        row.since_xact = row.mark_xact
        row.mark_xact, row.mark_at = oldest_open, at


async def _digest(session: AsyncSession, caller: Caller, row: DigestDueRow, *, at: datetime) -> None:
    """Keeps and sends the digest of `row.day`, unless there is one; `NotFound` when the endpoint was deleted."""
    tally, changed_at = await tally_of(session, caller, row.id, day=row.day, since_xact=row.since_xact)
    endpoint = await endpoints.find(session, caller, row.id, locked=True)
    if await session.get(DigestRow, (row.id, row.day)) is not None:
        return
    told: dict[str, Any] = {
        "day": row.day,
        "count": tally.all().count,
        "sha256": tally.all().sha256,
        "types": msgspec.to_builtins(tally.types()),
        "cut_at": at,
        "filters_changed_at": changed_at if changed_at and changed_at >= start_of(row.day) - SKEW else None,
    }
    event_id = await addressed.send(session, caller, endpoint, "endpoint.digest", **told)
    session.add(DigestRow(endpoint_id=row.id, tenant_id=caller.tenant, event_id=event_id, **told))
    await endpoints.wake(session, caller, row.id)


async def tally_of(
    session: AsyncSession, caller: Caller, endpoint_id: UUID, *, day: date, since_xact: int
) -> tuple[DayTally, datetime | None]:
    """The ids of a day by the endpoint's filters as they are now, and when those were changed last.

    No event of the day has a transaction below `since_xact`. May take minutes when the tenant had millions.
    """
    query = select(
        EndpointRow.event_types, EndpointRow.grant_ids, EndpointRow.identity_arns, EndpointRow.filters_changed_at
    ).where(EndpointRow.id == endpoint_id, EndpointRow.tenant_id == caller.tenant)
    *filters, changed_at = (await session.execute(query)).one()
    first, end = ids_of(day)
    named: dict[str, Any] = dict(zip(("event_types", "grant_ids", "identity_arns"), filters, strict=True))
    named |= {"me": caller.tenant, "since": since_xact, "first": first, "end": end, "addressed": list(ADDRESSED)}
    await session.execute(text("SELECT set_config('statement_timeout', :longest, true)"), {"longest": LONGEST})
    tally = DayTally()
    pieces = await session.stream(IDS, named, execution_options={"yield_per": PIECES})
    async for piece in pieces:
        tally.add(piece.type, piece.lines, count=piece.number)
    return tally, changed_at
