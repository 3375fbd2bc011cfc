"""The two statements of the delivery engine: what a lane has to send, and how its results are written.

Text SQL on purpose: this is the hot path. Reading costs one round trip for up to a whole batch, writing one more.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB, SMALLINT, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from broker.due import Claim, Superseded
from broker.ids import new_id
from broker.webhooks.events import Event
from broker.webhooks.retries import Verdict


class Target(msgspec.Struct, frozen=True):
    """Where a lane leads. `failing_for`: how long there was nothing but failures, or None.

    `secrets` are sealed, with their ids, the newest first; so are `headers` (None: there are none). Not `open`: nothing
    may be sent now, since the endpoint is paused, disabled or deleted.
    """

    url: str
    secrets: Mapping[UUID, bytes]
    headers: bytes | None
    failing_for: timedelta | None
    open: bool


class Parcel(msgspec.Struct, frozen=True):
    """One delivery that is due: its event (None: no longer kept) and the number of the attempt to come, from 1."""

    event_id: UUID
    event: Event | None
    number: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt came to. `again_in` for `Verdict.RETRY`; `status` None: there was no answer, see `error`."""

    event_id: UUID
    number: int
    at: datetime
    verdict: Verdict
    latency_ms: int
    again_in: timedelta | None = None
    status: int | None = None
    error: str | None = None
    answer: str | None = None


# One row for each due delivery, or one without event_id when there is none; no row when the fence has moved on. Each
# of the four priorities is one walk along the ordered index: rows that are due later are never looked at. The headers
# can be 10 KB: they stand in the first row only.
_FETCH = text(
    """
    SELECT p.url, p.state, now() - p.failing_since AS failing_for, signers.ids AS secret_ids, signers.sealed,
      CASE WHEN row_number() OVER (ORDER BY d.priority, d.next_at, d.event_id) = 1 THEN p.headers END AS headers,
      d.event_id, d.attempts,
      e.id, e.at, e.type, e.source, e.owner_id, e.delegate_id, e.grant_id, e.owner_view, e.delegate_view,
      e.recipient_hash, e.data
    FROM lanes l
    JOIN endpoints p ON p.tenant_id = l.tenant_id AND p.id = l.id
    CROSS JOIN LATERAL (
      SELECT array_agg(s.id ORDER BY s.expires_at DESC NULLS FIRST) AS ids,
        array_agg(s.sealed ORDER BY s.expires_at DESC NULLS FIRST) AS sealed
      FROM endpoint_secrets s
      WHERE s.endpoint_id = p.id AND s.tenant_id = p.tenant_id AND (s.expires_at IS NULL OR s.expires_at > now())
    ) signers
    LEFT JOIN LATERAL (
      SELECT x.* FROM generate_series(0, 3) AS rank
      CROSS JOIN LATERAL (
        SELECT q.event_id, q.event_at, q.attempts, q.priority, q.next_at FROM deliveries q
        WHERE q.endpoint_id = l.id AND q.priority = rank AND q.next_at <= now() AND q.tenant_id = l.tenant_id
          AND q.event_id <> ALL (:busy)
        ORDER BY q.next_at, q.event_id LIMIT :room
      ) x ORDER BY x.priority, x.next_at, x.event_id LIMIT :room
    ) d ON p.state = 'active' AND (l.quiet_until IS NULL OR l.quiet_until <= now())
    LEFT JOIN events e ON e.at = d.event_at AND e.id = d.event_id AND l.tenant_id IN (e.owner_id, e.delegate_id)
    WHERE l.id = :lane AND l.fence = :fence
    ORDER BY d.priority, d.next_at, d.event_id
    """
).bindparams(bindparam("busy", type_=ARRAY(Uuid())))
_FETCH_COLUMNS = _FETCH.columns(data=JSONB())

# Nothing is written under an old fence; an attempt is logged only for a delivery that was still there. The last use of
# a secret is written once a minute at most: else every finish of every lane would leave a dead row version.
_FINISH = text(
    """
    WITH held AS MATERIALIZED (
      SELECT id, tenant_id FROM lanes WHERE id = :lane AND fence = :fence FOR UPDATE
    ), result AS MATERIALIZED (
      SELECT r.*, held.id AS endpoint_id, held.tenant_id
      FROM unnest(:ids, :event_ids, :numbers, CAST(:verdicts AS text[]), :waits)
        AS r (id, event_id, number, verdict, wait) CROSS JOIN held
    ), gone AS (
      DELETE FROM deliveries d USING result r
      WHERE d.endpoint_id = r.endpoint_id AND d.event_id = r.event_id AND r.verdict <> 'retry'
      RETURNING d.event_id, d.event_at
    ), later AS (
      UPDATE deliveries d SET attempts = r.number, next_at = now() + r.wait FROM result r
      WHERE d.endpoint_id = r.endpoint_id AND d.event_id = r.event_id AND r.verdict = 'retry'
      RETURNING d.event_id, d.event_at
    ), detail AS (
      SELECT * FROM unnest(:ids, :ats, :statuses, CAST(:latencies AS integer[]), CAST(:errors AS text[]),
        CAST(:answers AS text[])) AS t (id, at, status, latency_ms, error, answer)
    ), dead AS (
      INSERT INTO dead_deliveries (endpoint_id, event_id, event_at, tenant_id, attempts, reason)
      SELECT r.endpoint_id, r.event_id, gone.event_at, r.tenant_id, r.number,
        coalesce(t.error, 'The endpoint answered ' || t.status || '.')
      FROM result r JOIN gone USING (event_id) JOIN detail t USING (id) WHERE r.verdict = 'dead'
      ON CONFLICT DO NOTHING
    ), logged AS (
      INSERT INTO attempts
        (id, at, tenant_id, endpoint_id, event_id, event_at, number, status, latency_ms, error, answer)
      SELECT r.id, t.at, r.tenant_id, r.endpoint_id, r.event_id, was.event_at, r.number,
        t.status, t.latency_ms, t.error, t.answer
      FROM result r JOIN detail t USING (id)
      JOIN (SELECT * FROM gone UNION ALL SELECT * FROM later) was USING (event_id)
    ), used AS (
      UPDATE endpoint_secrets s SET last_used_at = now() FROM held
      WHERE s.endpoint_id = held.id AND s.tenant_id = held.tenant_id AND s.id = ANY (:signers)
        AND (s.last_used_at IS NULL OR s.last_used_at <= now() - interval '1 minute')
    )
    SELECT count(*) FROM held
    """
).bindparams(
    bindparam("signers", type_=ARRAY(Uuid())),
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("event_ids", type_=ARRAY(Uuid())),
    bindparam("numbers", type_=ARRAY(SMALLINT)),
    bindparam("waits", type_=ARRAY(INTERVAL)),
    bindparam("ats", type_=ARRAY(TIMESTAMP(timezone=True))),
    bindparam("statuses", type_=ARRAY(SMALLINT)),
)

# One row, four look-ups in the ordered index. Empty when nothing is pending or nothing may be sent.
_AGAIN = text(
    """
    SELECT CASE WHEN p.state = 'active' AND soonest.at IS NOT NULL
      THEN greatest(soonest.at, l.quiet_until, now()) - now() END AS again_in
    FROM lanes l
    JOIN endpoints p ON p.tenant_id = l.tenant_id AND p.id = l.id
    CROSS JOIN LATERAL (
      SELECT min(x.next_at) AS at FROM generate_series(0, 3) AS rank
      CROSS JOIN LATERAL (
        SELECT q.next_at FROM deliveries q WHERE q.endpoint_id = l.id AND q.priority = rank
        ORDER BY q.next_at, q.event_id LIMIT 1
      ) x
    ) soonest
    WHERE l.id = :lane
    """
)


async def fetch(
    session: AsyncSession, lane: Claim, *, busy: Collection[UUID], room: int
) -> tuple[Target, list[Parcel]]:
    """Up to `room` due deliveries of a lane, but for those already `busy`; `Superseded` under an old fence."""
    named = {"lane": lane.id, "fence": lane.fence, "busy": list(busy), "room": room}
    rows = (await session.execute(_FETCH_COLUMNS, named)).all()
    if not rows:
        raise Superseded(f"Lane {lane.id} was claimed by another worker.")
    first = rows[0]
    target = Target(
        url=first.url,
        secrets=dict(zip(first.secret_ids or (), first.sealed or (), strict=True)),
        headers=first.headers,
        failing_for=first.failing_for,
        open=first.state == "active",
    )
    return target, [_parcel(row) for row in rows if row.event_id is not None]


def _parcel(row: Any) -> Parcel:
    event = None
    if row.id is not None:
        event = Event(
            id=row.id,
            at=row.at,
            type=row.type,
            source=row.source,
            data=row.data,
            owner_id=row.owner_id,
            delegate_id=row.delegate_id,
            grant_id=row.grant_id,
            owner_view=row.owner_view,
            delegate_view=row.delegate_view,
            recipient_hash=row.recipient_hash,
        )
    return Parcel(row.event_id, event, row.attempts + 1)


async def finish(
    session: AsyncSession, lane: Claim, results: Sequence[Result], *, signers: Collection[UUID] = ()
) -> None:
    """Writes what the attempts came to, and logs each; `Superseded` (and nothing written) under an old fence.

    `signers` are the ids of the secrets that signed them.
    """
    named = {
        "signers": list(signers),
        "lane": lane.id,
        "fence": lane.fence,
        "ids": [new_id() for _ in results],
        "event_ids": [result.event_id for result in results],
        "numbers": [result.number for result in results],
        "verdicts": [result.verdict.value for result in results],
        "waits": [result.again_in for result in results],
        "ats": [result.at for result in results],
        "statuses": [result.status for result in results],
        "latencies": [result.latency_ms for result in results],
        "errors": [result.error for result in results],
        "answers": [result.answer for result in results],
    }
    if not (await session.execute(_FINISH, named)).scalar_one():
        raise Superseded(f"Lane {lane.id} was claimed by another worker.")


async def again_in(session: AsyncSession, lane: Claim) -> timedelta | None:
    """How long until the lane has something to send; zero: at once; None: nothing is pending."""
    wait: timedelta | None = (await session.execute(_AGAIN, {"lane": lane.id})).scalar_one()
    return wait
