"""What is due, read and written: two statements, each one round trip for any number of lanes.

Text SQL on purpose: this is the hot path. Nothing is written under an old fence.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from broker.db import Line
from broker.ids import new_id
from broker.webhooks.events import Event
from broker.webhooks.holding import Held
from broker.webhooks.retries import Verdict

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
FIRST_ID = UUID(int=0)
PRIORITIES = 4


class Position(msgspec.Struct, frozen=True):
    """How far a lane was read in one priority."""

    next_at: datetime = BEGINNING
    event_id: UUID = FIRST_ID


class Wish(msgspec.Struct, frozen=True):
    """What to read: up to `room` due deliveries of one priority of a lane, after `after`."""

    lane_id: UUID
    priority: int
    after: Position
    room: int


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery that is due: its event (None: no longer kept) and the number of the attempt to come, from 1.

    `stamp` is that of its endpoint. When it was read, by the clock of the database, it was `waited` for so long since
    it was made (or to be sent again), and had been tried for so long (`tried_for`, None: not yet). `read_at`: when the
    reading began, by the event loop's clock.
    """

    lane_id: UUID
    priority: int
    next_at: datetime
    event_id: UUID
    number: int
    stamp: int
    waited: timedelta
    tried_for: timedelta | None
    read_at: float
    event: Event | None

    @property
    def position(self) -> Position:
        return Position(self.next_at, self.event_id)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt came to. `again_in` for `Verdict.RETRY`; `status` None: there was no answer, see `error`."""

    lane_id: UUID
    event_id: UUID
    number: int
    at: datetime
    verdict: Verdict
    latency_ms: int
    again_in: timedelta | None = None
    status: int | None = None
    error: str | None = None
    answer: str | None = None


# Each wish is one walk along the ordered index: what is due later, and what was read before, is never looked at. Events
# are asked for in the order of their key, which no index but that of the key has: of a day that was still empty when
# the plan was made, the planner would take any index that has the id somewhere, and the plan is kept.
_FETCH = """
    SELECT d.endpoint_id, d.priority, d.next_at, d.event_id, d.attempts, p.xmin::text::bigint AS stamp,
      now() - d.next_at AS waited, now() - d.first_at AS tried_for, e.id, e.at, e.type, e.source, e.owner_id,
      e.delegate_id, e.grant_id, e.owner_view, e.delegate_view, e.recipient_hash, e.data::text
    FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::uuid[], $5::integer[])
      AS wish (id, priority, next_at, event_id, room)
    CROSS JOIN LATERAL (
      SELECT p.xmin, p.tenant_id FROM endpoints p WHERE p.id = wish.id AND p.state = 'active' OFFSET 0
    ) p
    CROSS JOIN LATERAL (
      SELECT q.endpoint_id, q.priority, q.next_at, q.event_id, q.event_at, q.attempts, q.first_at
      FROM deliveries q
      WHERE q.endpoint_id = wish.id AND q.priority = wish.priority AND q.next_at <= now()
        AND (q.next_at, q.event_id) > (wish.next_at, wish.event_id) AND q.tenant_id = p.tenant_id
      ORDER BY q.next_at, q.event_id LIMIT wish.room
    ) d
    LEFT JOIN LATERAL (
      SELECT e.* FROM events e WHERE e.at = d.event_at AND e.id >= d.event_id AND e.id <= d.event_id
      ORDER BY e.at, e.id LIMIT 1
    ) e ON p.tenant_id IN (e.owner_id, e.delegate_id)
"""

# An attempt is logged only for a delivery that was still there, and once: what was written already, over a connection
# that was lost before it could say so, changes nothing when it is written again. The last use of a secret is written
# once a minute at most: else every finish of every lane would leave a dead row version. Lanes are only shared, not
# changed: batches of one lane do not wait for each other, and none waits for ingest. Only what `held` shows counts: a
# lane that was taken over while this waited for it is seen here, in the snapshot of the beginning, as it was before.
_FINISH = """
    WITH held AS MATERIALIZED (
      SELECT l.id FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS f (id, fence) ORDER BY id) f
      CROSS JOIN LATERAL (
        SELECT l.id FROM lanes l WHERE l.id = f.id AND l.fence = f.fence AND l.owner = $3 FOR SHARE
      ) l
    ), result AS MATERIALIZED (
      SELECT r.*, l.tenant_id FROM (SELECT array_agg(id) AS ids FROM held) locked
      CROSS JOIN unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::smallint[], $8::text[], $9::interval[],
        $10::timestamptz[], $11::smallint[], $12::integer[], $13::text[], $14::text[], $15::bigint[])
        AS r (id, endpoint_id, event_id, number, verdict, wait, at, status, latency_ms, error, answer, fence)
      CROSS JOIN LATERAL (
        SELECT l.tenant_id FROM lanes l
        WHERE l.id = r.endpoint_id AND l.fence = r.fence AND l.owner = $3 OFFSET 0
      ) l
      WHERE r.endpoint_id = ANY (locked.ids)
    ), gone AS (
      DELETE FROM deliveries d USING result r
      WHERE d.endpoint_id = r.endpoint_id AND d.event_id = r.event_id AND r.verdict <> 'retry'
      RETURNING r.*, d.event_at, d.replay_id
    ), later AS (
      UPDATE deliveries d SET attempts = r.number, next_at = now() + r.wait,
        first_at = coalesce(d.first_at, now() - r.latency_ms * interval '1 ms') FROM result r
      WHERE d.endpoint_id = r.endpoint_id AND d.event_id = r.event_id AND r.verdict = 'retry' AND d.attempts < r.number
      RETURNING r.*, d.event_at, d.replay_id
    ), was AS MATERIALIZED (
      SELECT * FROM gone UNION ALL SELECT * FROM later
    ), dead AS (
      INSERT INTO dead_deliveries (endpoint_id, event_id, event_at, tenant_id, attempts, reason, replay_id)
      SELECT endpoint_id, event_id, event_at, tenant_id, number,
        coalesce(error, 'The endpoint answered ' || status || '.'), replay_id
      FROM was WHERE verdict = 'dead'
      ON CONFLICT DO NOTHING
    ), logged AS (
      INSERT INTO attempts
        (id, at, tenant_id, endpoint_id, event_id, event_at, number, status, latency_ms, error, answer)
      SELECT id, at, tenant_id, endpoint_id, event_id, event_at, number, status, latency_ms, error, answer FROM was
    ), counted AS (
      INSERT INTO delivery_deltas (tenant_id, day, delivered, dead)
      SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*) FILTER (WHERE verdict = 'delivered'),
        count(*) FILTER (WHERE verdict = 'dead')
      FROM was WHERE verdict <> 'retry' GROUP BY 1, 2
    ), used AS (
      UPDATE endpoint_secrets s SET last_used_at = now()
      WHERE s.id = ANY ($16::uuid[]) AND s.endpoint_id IN (SELECT id FROM held)
        AND (s.last_used_at IS NULL OR s.last_used_at <= now() - interval '1 minute')
    )
    SELECT id FROM held
"""


async def fetch(line: Line, wishes: Sequence[Wish]) -> list[Parcel]:
    """What is due of these, each wish in the order in which it is to be sent."""
    read_at = asyncio.get_running_loop().time()
    rows = await line.fetch(
        _FETCH,
        [wish.lane_id for wish in wishes],
        [wish.priority for wish in wishes],
        [wish.after.next_at for wish in wishes],
        [wish.after.event_id for wish in wishes],
        [wish.room for wish in wishes],
    )
    return [_parcel(row, read_at) for row in rows]


def _parcel(row: Any, read_at: float) -> Parcel:
    (lane_id, priority, next_at, event_id, attempts, stamp, waited, tried_for, event, at, kind, source, owner_id,
     delegate_id, grant_id, owner_view, delegate_view, recipient_hash, data) = row  # fmt: skip
    found = event and Event(
        id=event,
        at=at,
        type=kind,
        source=source,
        data=msgspec.json.decode(data),
        owner_id=owner_id,
        delegate_id=delegate_id,
        grant_id=grant_id,
        owner_view=owner_view,
        delegate_view=delegate_view,
        recipient_hash=recipient_hash,
    )
    return Parcel(
        lane_id=lane_id,
        priority=priority,
        next_at=next_at,
        event_id=event_id,
        number=attempts + 1,
        stamp=stamp,
        waited=waited,
        tried_for=tried_for,
        read_at=read_at,
        event=found,
    )


async def finish(
    line: Line, lanes: Sequence[Held], results: Sequence[Result], *, pump: int, signers: Collection[UUID]
) -> set[UUID]:
    """Writes what the attempts came to, and logs each; the ids of the lanes that are still this pump's.

    Of the others nothing is written. `signers` are the ids of the secrets that signed.
    """
    fences = {lane.id: lane.fence for lane in lanes}
    rows = await line.fetch(
        _FINISH,
        [lane.id for lane in lanes],
        [lane.fence for lane in lanes],
        pump,
        [new_id() for _ in results],
        [result.lane_id for result in results],
        [result.event_id for result in results],
        [result.number for result in results],
        [result.verdict.value for result in results],
        [result.again_in for result in results],
        [result.at for result in results],
        [result.status for result in results],
        [result.latency_ms for result in results],
        [result.error for result in results],
        [result.answer for result in results],
        [fences[result.lane_id] for result in results],
        list(signers),
    )
    return {row["id"] for row in rows}
