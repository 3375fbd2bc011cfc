"""The statements of a replay: each moves a bounded number of rows and counts them, in one round trip.

Text SQL on purpose. What a batch queues, what it takes from the dead and what it counts (design, I1) are one statement,
and the position that follows from it is written in the same transaction.

Deliveries are never joined by (endpoint, event): with old statistics Postgres may take the other index that begins with
the endpoint, and read all that is pending for each row. Given an array of events it reads that once at worst, and what
was found is changed by its place in the table (ctid), under a lock.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Uuid, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from broker.webhooks.events import ADDRESSED
from broker.webhooks.replays import held
from broker.webhooks.replays.models import Kind, ReplayRow

SCAN = 2000
"""Rows of the tenant that one statement looks at, whether or not the endpoint wants them."""

COUNTABLE = 10_000
"""A stretch of events up to this long is counted beforehand."""

LATE = timedelta(minutes=1)
"""An event may be fanned out this long after its transaction began, and so be missed by an endpoint disabled since."""

_XMIN = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"

# Each half is one walk along the ordered index of a party; who is both parties meets an event once. An event of a
# transaction that is still under way waits until that has ended, like in the feed. `{days}` is there for pruning only:
# whole days, so that what is left out by the hour is counted as looked at, and a look stays bounded.
_HALF = """
  SELECT e.id, e.at, e.type, e.xact, e.created_at, e.grant_id, e.data->>'identity' AS identity,
    e.data->>'endpoint_id' AS endpoint_id, {view} AS heard
  FROM events e
  WHERE {mine} AND (e.xact, e.id) > (:after_xact, :after_id) AND e.xact < least(:until_xact, {xmin}) {days}
  ORDER BY e.xact, e.id LIMIT :scan
"""
_OWNED = "e.owner_view IS NOT NULL OR (e.delegate_id = :me AND e.delegate_view IS NOT NULL)"
_DAYS = """
  AND e.at >= date_trunc('day', CAST(:from_at AS timestamptz))
  AND e.at < date_trunc('day', CAST(:until_at AS timestamptz)) + interval '1 day'
"""

# The filters of an endpoint as in fan_out (migration 0009); what is addressed to one endpoint passes them.
_EVENTS = """
  WITH own AS (({owned}) UNION ALL ({lent})),
  scanned AS MATERIALIZED (SELECT * FROM own ORDER BY xact, id LIMIT :scan),
  matched AS MATERIALIZED (
    SELECT s.id, s.at, s.type, s.xact FROM scanned s
    JOIN endpoints p ON p.id = :endpoint AND p.tenant_id = :me
    WHERE s.heard AND {which} AND CASE WHEN s.type = ANY (:addressed) THEN s.endpoint_id = CAST(p.id AS text) ELSE
      (p.event_types IS NULL OR s.type = ANY (p.event_types)
        OR split_part(s.type, '.', 1) || '.*' = ANY (p.event_types))
      AND (p.grant_ids IS NULL OR s.grant_id = ANY (p.grant_ids))
      AND (p.identity_arns IS NULL OR s.identity = ANY (p.identity_arns)) END
    ORDER BY s.xact, s.id LIMIT :room
  )
"""
_OF_A_STRETCH = "s.at >= :from_at AND s.at < :until_at"

# What was fanned out after all is pending, dead or was attempted, and is not sent twice.
_MISSED = """
  s.created_at >= CAST(:from_at AS timestamptz) - CAST(:late AS interval)
  AND s.id <> ALL (ARRAY(SELECT d.event_id FROM deliveries d
    WHERE d.endpoint_id = :endpoint AND d.event_id = ANY (ARRAY(SELECT o.id FROM scanned o))))
  AND NOT EXISTS (SELECT FROM dead_deliveries d WHERE d.endpoint_id = :endpoint AND d.event_id = s.id)
  AND NOT EXISTS (SELECT FROM attempts a WHERE a.endpoint_id = :endpoint AND a.event_id = s.id
    AND a.at >= CAST(:from_at AS timestamptz) - interval '1 day')
"""

_DEAD = """
  WITH scanned AS MATERIALIZED (
    SELECT d.event_id AS id, d.event_at AS at, CAST(0 AS bigint) AS xact, d.died_at FROM dead_deliveries d
    WHERE d.endpoint_id = :endpoint AND d.tenant_id = :me AND d.event_id > :after_id
    ORDER BY d.event_id LIMIT :scan
  ), matched AS MATERIALIZED (
    SELECT s.id, s.at, e.type, s.xact FROM (
      SELECT * FROM scanned WHERE died_at >= :from_at AND died_at < :until_at ORDER BY id LIMIT :room
    ) s LEFT JOIN events e ON e.at = s.at AND e.id = s.id
  )
"""

# A pending one is due now, unless it is being finished in this moment: waiting for that could end in a deadlock. What
# is neither pending nor was dead counts as created.
_QUEUE = """
  , there AS MATERIALIZED (
    SELECT d.event_id FROM deliveries d
    WHERE d.endpoint_id = :endpoint AND d.event_id = ANY (ARRAY(SELECT m.id FROM matched m))
  ), pending AS MATERIALIZED (
    SELECT d.ctid FROM deliveries d
    WHERE d.endpoint_id = :endpoint AND d.event_id = ANY (ARRAY(SELECT m.id FROM matched m)) FOR UPDATE SKIP LOCKED
  ), again AS (
    UPDATE deliveries d SET next_at = now(), attempts = 0, replay_id = :job
    WHERE d.ctid = ANY (ARRAY(SELECT p.ctid FROM pending p))
  ), fresh AS (
    INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority, replay_id)
    SELECT :endpoint, m.id, m.at, :me, event_priority(m.type), :job FROM matched m
    WHERE m.id <> ALL (ARRAY(SELECT t.event_id FROM there t))
    ON CONFLICT DO NOTHING
    RETURNING event_at
  ), raised AS (
    DELETE FROM dead_deliveries d
    WHERE d.endpoint_id = :endpoint AND d.event_id = ANY (ARRAY(SELECT m.id FROM matched m))
    RETURNING d.event_at
  ), counted AS (
    INSERT INTO delivery_deltas (tenant_id, day, created, dead)
    SELECT :me, (x.event_at AT TIME ZONE 'UTC')::date, sum(x.change), -count(*) FILTER (WHERE x.change < 0)
    FROM (SELECT event_at, 1 AS change FROM fresh UNION ALL SELECT event_at, -1 FROM raised) x GROUP BY 2
  ), last AS (
    SELECT s.xact, s.id FROM scanned s
    WHERE (SELECT count(*) FROM matched) < :room OR (s.xact, s.id) <= (SELECT m.xact, m.id FROM matched m
      ORDER BY m.xact DESC, m.id DESC LIMIT 1)
    ORDER BY s.xact DESC, s.id DESC LIMIT 1
  )
  SELECT (SELECT count(*) FROM matched) AS queued, (SELECT count(*) FROM scanned) AS looked_at,
    coalesce((SELECT xact FROM last), :after_xact) AS xact, coalesce((SELECT id FROM last), :after_id) AS id,
    {settled} AS settled
"""

_COUNT = " SELECT (SELECT count(*) FROM matched) AS wanted, (SELECT count(*) FROM scanned) AS looked_at"


def _of(kind: Kind) -> str:
    if kind is Kind.FAILED:
        return _DEAD
    days, which = (_DAYS, _OF_A_STRETCH) if kind is Kind.RANGE else ("", _MISSED)
    mine = "e.delegate_id = :me AND e.owner_id IS DISTINCT FROM :me"
    owned = _HALF.format(mine="e.owner_id = :me", view=f"({_OWNED})", days=days, xmin=_XMIN)
    lent = _HALF.format(mine=mine, view="(e.delegate_view IS NOT NULL)", days=days, xmin=_XMIN)
    return _EVENTS.format(owned=owned, lent=lent, which=which)


_IDS = [bindparam(name, type_=Uuid()) for name in ("me", "endpoint", "after_id")]
_QUEUES = {
    kind: text(
        _of(kind) + _QUEUE.format(settled="true" if kind is Kind.FAILED else f":until_xact <= {_XMIN}")
    ).bindparams(*_IDS, bindparam("job", type_=Uuid()))
    for kind in Kind
}
_COUNTS = {kind: text(_of(kind) + _COUNT).bindparams(*_IDS) for kind in (Kind.RANGE, Kind.CATCH_UP)}
_COUNT_DEAD = text(
    "SELECT count(*) FROM dead_deliveries d WHERE d.endpoint_id = :endpoint AND d.tenant_id = :me"
    " AND d.died_at >= :from_at AND d.died_at < :until_at"
).bindparams(bindparam("endpoint", type_=Uuid()), bindparam("me", type_=Uuid()))
_PIN = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
    " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
)
_SNAPSHOT = text("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)")


class Look(msgspec.Struct, frozen=True):
    """What one look queued, and where the next begins. `settled`: nothing can appear any more before the end."""

    queued: int
    looked_at: int
    xact: int
    id: UUID
    settled: bool

    @property
    def position(self) -> tuple[int, UUID]:
        """Where the next look begins."""
        return self.xact, self.id


async def pin(session: AsyncSession) -> None:
    """For the rest of the transaction, rows are read along the ordered indexes, whatever the statistics say.

    Else Postgres may read and sort everything there is of a tenant, or hash all events in order to find a few.
    """
    await session.execute(_PIN)


async def queue(session: AsyncSession, job: ReplayRow, *, room: int) -> Look:
    """Queues up to `room` of what the job wants among the next rows; one round trip."""
    row = (await session.execute(_QUEUES[job.kind], {**_named(job), "job": job.id, "room": room, "scan": SCAN})).one()
    return Look(row.queued, row.looked_at, row.xact, row.id, row.settled)


async def size_up(session: AsyncSession, job: ReplayRow) -> tuple[int, int | None]:
    """Where the job's events end, as a transaction id, and how many rows it has to queue: None when they are too many.

    To be called in a transaction after the one that made the job: whoever did not see an endpoint enabled yet when it
    fanned out has an older id.
    """
    until: int = (await session.execute(_SNAPSHOT)).scalar_one()
    if job.kind is Kind.FAILED:
        named = {"me": job.tenant_id, "endpoint": job.endpoint_id, "from_at": job.from_at, "until_at": job.until_at}
        return until, (await session.execute(_COUNT_DEAD, named)).scalar_one()
    put_off = await held.count(session, job) if job.kind is Kind.CATCH_UP else 0
    most = COUNTABLE + 1
    row = (
        await session.execute(_COUNTS[job.kind], {**_named(job), "until_xact": until, "room": most, "scan": most})
    ).one()
    return until, put_off + row.wanted if row.looked_at < most else None


def _named(job: ReplayRow) -> dict[str, Any]:
    named = {
        "me": job.tenant_id,
        "endpoint": job.endpoint_id,
        "after_id": job.after_id,
        "after_xact": job.after_xact,
        "until_xact": job.until_xact,
        "from_at": job.from_at,
        "until_at": job.until_at,
        "late": LATE,
        "addressed": sorted(ADDRESSED),
    }
    if job.kind is Kind.FAILED:
        del named["until_xact"], named["late"], named["addressed"]
    if job.kind is Kind.RANGE:
        del named["late"]
    if job.kind is Kind.CATCH_UP:
        del named["until_at"]
    return named
