"""The statements of a replay about what was put off when its endpoint was disabled; one round trip each."""

from sqlalchemy import Uuid, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from broker.webhooks.deliveries import HELD
from broker.webhooks.replays.models import ReplayRow

# What was pending when the endpoint was disabled, the urgent first, then the oldest; nothing else changes.
_HELD = """
  WITH held AS MATERIALIZED (
    SELECT x.ctid FROM generate_series(0, 3) AS rank CROSS JOIN LATERAL (
      SELECT d.ctid, d.event_id, d.priority FROM deliveries d
      WHERE d.endpoint_id = :endpoint AND d.tenant_id = :me AND d.priority = rank AND d.next_at = :held
      ORDER BY d.event_id LIMIT :room FOR UPDATE
    ) x ORDER BY x.priority, x.event_id LIMIT :room
  )
"""
_IDS = [bindparam(name, type_=Uuid()) for name in ("me", "endpoint")]
_BACK = """
  , back AS (
    UPDATE deliveries d SET next_at = now(), replay_id = :job
    WHERE d.ctid = ANY (ARRAY(SELECT held.ctid FROM held)) RETURNING d.event_id
  )
  SELECT count(*) FROM back
"""
_DIE = """
  , gone AS (
    DELETE FROM deliveries d WHERE d.ctid = ANY (ARRAY(SELECT held.ctid FROM held))
    RETURNING d.event_id, d.event_at, d.attempts
  ), dead AS (
    INSERT INTO dead_deliveries (endpoint_id, event_id, event_at, tenant_id, attempts, reason)
    SELECT :endpoint, event_id, event_at, :me, attempts, :reason FROM gone ON CONFLICT DO NOTHING
    RETURNING event_at
  ), counted AS (
    INSERT INTO delivery_deltas (tenant_id, day, created, dead)
    SELECT :me, (x.event_at AT TIME ZONE 'UTC')::date, sum(x.change), count(*) FILTER (WHERE x.change > 0)
    FROM (SELECT event_at, 1 AS change FROM dead UNION ALL SELECT event_at, -1 FROM gone) x GROUP BY 2
  )
  SELECT count(*) FROM gone
"""
_BRING_BACK = text(_HELD + _BACK).bindparams(*_IDS, bindparam("job", type_=Uuid()))
_GIVE_UP = text(_HELD + _DIE).bindparams(*_IDS)
_COUNT = text(
    "SELECT count(*) FROM deliveries d WHERE d.endpoint_id = :endpoint AND d.tenant_id = :me"
    " AND d.priority BETWEEN 0 AND 3 AND d.next_at = :held"
).bindparams(*_IDS)


async def bring_back(session: AsyncSession, job: ReplayRow, *, room: int) -> int:
    """Makes up to `room` of the deliveries that were put off due, and returns how many there were."""
    named = {"me": job.tenant_id, "endpoint": job.endpoint_id, "held": HELD, "room": room, "job": job.id}
    found: int = (await session.execute(_BRING_BACK, named)).scalar_one()
    return found


async def give_up(session: AsyncSession, job: ReplayRow, *, room: int, reason: str) -> int:
    """Moves up to `room` of the deliveries that were put off to the dead ones; how many there were."""
    named = {"me": job.tenant_id, "endpoint": job.endpoint_id, "held": HELD, "room": room, "reason": reason}
    found: int = (await session.execute(_GIVE_UP, named)).scalar_one()
    return found


async def count(session: AsyncSession, job: ReplayRow) -> int:
    """How many deliveries are put off."""
    named = {"me": job.tenant_id, "endpoint": job.endpoint_id, "held": HELD}
    found: int = (await session.execute(_COUNT, named)).scalar_one()
    return found
