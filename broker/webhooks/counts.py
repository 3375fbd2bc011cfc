"""Conservation (I1): created = delivered + pending + dead + cancelled, for each tenant and day, at any moment.

What is pending is counted from the deliveries themselves. The rest is counted in the transaction that changes them: the
sum of `delivery_counts` and of the `delivery_deltas` that are not yet in it. Both sides are read in one snapshot, so
that a delivery under way can never be seen missing, or twice.

`dead` counts deliveries given up and not sent again since; that their rows are no longer kept (their endpoint was
deleted, or the time for which events are kept is over) changes nothing about it.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

import msgspec
from sqlalchemy import delete, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import NOBODY, Caller
from broker.db import Database
from broker.webhooks.models import DeadDeliveryRow, DeltaRow

MOST_ROLLED_UP = 20_000


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's deliveries of the events of one day (UTC)."""

    day: date
    created: int
    delivered: int
    pending: int
    dead: int
    cancelled: int

    @property
    def missing(self) -> int:
        """Deliveries that were made and of which nothing is known any more; less than 0: known twice. Always 0."""
        return self.created - self.delivered - self.pending - self.dead - self.cancelled


async def count(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    day: date,
    created: int = 0,
    delivered: int = 0,
    dead: int = 0,
    cancelled: int = 0,
) -> None:
    """Notes what this transaction does to a tenant's deliveries of events of `day` (UTC); may be negative."""
    row = {"created": created, "delivered": delivered, "dead": dead, "cancelled": cancelled}
    await session.execute(insert(DeltaRow).values(tenant_id=tenant_id, day=day, **row))


# Deletes and counts in one statement: what it deletes is exactly what it counts, whatever a pump finishes beside it.
_CANCEL = text(
    """
    WITH gone AS (
      DELETE FROM deliveries WHERE endpoint_id = :endpoint_id AND tenant_id = :tenant_id RETURNING event_at
    )
    INSERT INTO delivery_deltas (tenant_id, day, cancelled)
    SELECT CAST(:tenant_id AS uuid), (event_at AT TIME ZONE 'UTC')::date, count(*) FROM gone GROUP BY 2
    """
)


async def cancel(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> None:
    """Takes away what is pending for an endpoint that is deleted, as cancelled, and its dead ones, still as dead."""
    await session.execute(_CANCEL, {"endpoint_id": endpoint_id, "tenant_id": caller.tenant})
    await session.execute(
        delete(DeadDeliveryRow).where(
            DeadDeliveryRow.endpoint_id == endpoint_id, DeadDeliveryRow.tenant_id == caller.tenant
        )
    )


# One statement, so one snapshot. What is pending is found through the tenant's endpoints: deliveries have no index on
# tenants. Costs a walk along the tenant's pending rows, and nothing for those of others.
_DAYS = text(
    """
    WITH counted AS (
      SELECT day, created, delivered, dead, cancelled FROM delivery_counts
      WHERE tenant_id = :tenant_id AND day BETWEEN :first AND :last
      UNION ALL
      SELECT day, created, delivered, dead, cancelled FROM delivery_deltas
      WHERE tenant_id = :tenant_id AND day BETWEEN :first AND :last
    ), told AS (
      SELECT day, sum(created) AS created, sum(delivered) AS delivered, sum(dead) AS dead, sum(cancelled) AS cancelled
      FROM counted GROUP BY day
    ), waiting AS (
      SELECT (d.event_at AT TIME ZONE 'UTC')::date AS day, count(*) AS pending
      FROM endpoints p JOIN deliveries d ON d.endpoint_id = p.id AND d.tenant_id = p.tenant_id
      WHERE p.tenant_id = :tenant_id GROUP BY 1
    )
    SELECT day, coalesce(created, 0)::bigint AS created, coalesce(delivered, 0)::bigint AS delivered,
      coalesce(pending, 0) AS pending, coalesce(dead, 0)::bigint AS dead, coalesce(cancelled, 0)::bigint AS cancelled
    FROM told FULL JOIN waiting USING (day)
    WHERE day BETWEEN :first AND :last ORDER BY day
    """
)


async def days(session: AsyncSession, tenant_id: UUID, *, first: date, last: date) -> Sequence[Day]:
    """The days from `first` to `last` on which the tenant had anything, oldest first; exact, in one snapshot."""
    rows = await session.execute(_DAYS, {"tenant_id": tenant_id, "first": first, "last": last})
    return [
        Day(
            day=row.day,
            created=row.created,
            delivered=row.delivered,
            pending=row.pending,
            dead=row.dead,
            cancelled=row.cancelled,
        )
        for row in rows
    ]


# One row, one round trip. One worker at a time: two would lock the same rows in different orders. What another has just
# taken cannot be deleted again, so it is summed up once. Readers see the same sums before and after. Rows are named by
# their place (nobody updates them), for which there is one plan; joined by id, a table that was never analysed is read
# once for each of them.
_ROLL_UP = text(
    """
    WITH turn AS MATERIALIZED (
      SELECT pg_try_advisory_xact_lock(hashtextextended('roll up', 46)) AS mine
    ), taken AS (
      DELETE FROM delivery_deltas
      WHERE ctid = ANY (ARRAY(SELECT ctid FROM delivery_deltas WHERE (SELECT mine FROM turn) ORDER BY id LIMIT :most))
      RETURNING tenant_id, day, created, delivered, dead, cancelled
    ), rolled AS (
      INSERT INTO delivery_counts AS c (tenant_id, day, created, delivered, dead, cancelled)
      SELECT tenant_id, day, sum(created), sum(delivered), sum(dead), sum(cancelled) FROM taken
      GROUP BY tenant_id, day ORDER BY tenant_id, day
      ON CONFLICT (tenant_id, day) DO UPDATE SET created = c.created + EXCLUDED.created,
        delivered = c.delivered + EXCLUDED.delivered, dead = c.dead + EXCLUDED.dead,
        cancelled = c.cancelled + EXCLUDED.cancelled
    )
    SELECT count(*) FROM taken
    """
)


async def roll_up(db: Database, *, most: int = MOST_ROLLED_UP) -> int:
    """Sums the oldest deltas up, at most so many, and tells how many there were; 0 while another worker is at it.

    `db` has the role broker_pump.
    """
    async with db.begin(NOBODY) as session:
        rolled: int = (await session.execute(_ROLL_UP, {"most": most})).scalar_one()
        return rolled


# One row. Every tenant and day is compared by itself, also those of long ago: that is what "at any moment" means.
_OVERVIEW = text(
    """
    WITH counted AS (
      SELECT tenant_id, day, created, delivered, dead, cancelled FROM delivery_counts
      UNION ALL SELECT tenant_id, day, created, delivered, dead, cancelled FROM delivery_deltas
    ), told AS (
      SELECT tenant_id, day, sum(created) AS created, sum(delivered) AS delivered, sum(dead) AS dead,
        sum(cancelled) AS cancelled
      FROM counted GROUP BY tenant_id, day
    ), waiting AS (
      SELECT d.tenant_id, (d.event_at AT TIME ZONE 'UTC')::date AS day, count(*) AS pending,
        min(d.event_at) AS oldest,
        min(d.next_at) FILTER (
          WHERE p.state = 'active' AND p.failing_since IS NULL AND coalesce(l.quiet_until <= now(), true)
        ) AS due
      FROM deliveries d JOIN endpoints p ON p.id = d.endpoint_id JOIN lanes l ON l.id = d.endpoint_id
      GROUP BY 1, 2
    )
    SELECT coalesce(sum(created), 0)::bigint AS created, coalesce(sum(delivered), 0)::bigint AS delivered,
      coalesce(sum(dead), 0)::bigint AS dead, coalesce(sum(cancelled), 0)::bigint AS cancelled,
      coalesce(sum(pending), 0)::bigint AS pending,
      coalesce(sum(abs(coalesce(created, 0) - coalesce(delivered, 0) - coalesce(pending, 0) - coalesce(dead, 0)
        - coalesce(cancelled, 0))), 0)::bigint AS missing,
      greatest(extract(epoch FROM now() - min(oldest)), 0)::double precision AS oldest_seconds,
      greatest(extract(epoch FROM now() - min(due)), 0)::double precision AS overdue_seconds
    FROM told FULL JOIN waiting USING (tenant_id, day)
    """
)


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All tenants and days together. `missing` adds up what is wrong either way, so that nothing evens out.

    `oldest_seconds`: age of the oldest event that is pending anywhere. `overdue_seconds`: how long the delivery that
    should go first, of endpoints that take any now, has been due: one that fails is asked once a minute, which is its
    own fault and no reason to wake anybody. Both None when there is none.
    """

    created: int
    delivered: int
    pending: int
    dead: int
    cancelled: int
    missing: int
    oldest_seconds: float | None
    overdue_seconds: float | None


async def overview(session: AsyncSession) -> Overview:
    """In one snapshot; walks over all pending rows, so a caller keeps the answer for a while. Role broker_pump."""
    row = (await session.execute(_OVERVIEW)).one()
    return Overview(
        created=row.created,
        delivered=row.delivered,
        pending=row.pending,
        dead=row.dead,
        cancelled=row.cancelled,
        missing=row.missing,
        oldest_seconds=row.oldest_seconds,
        overdue_seconds=row.overdue_seconds,
    )


def day_of(at: datetime) -> date:
    """The day (UTC) under which a delivery of an event of this time is counted; `at` is aware."""
    return at.astimezone(UTC).date()
