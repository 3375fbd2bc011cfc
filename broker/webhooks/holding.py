"""The lanes of a pump in the database: finding what is due, claiming, renewing, letting go; and where lanes lead.

What is due are rows of `deliveries`; a lane (a row of `lanes`) says which pump sends them, until when, and under which
fence. Text SQL on purpose, as in `pending`: each statement is one round trip for any number of lanes.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from broker.db import Line, Role
from broker.direct import Direct
from broker.webhooks.events import Shape

BEACONS = 7
"""The space of advisory locks in which each pump holds its own number for as long as it lives."""

DOUBT = timedelta(seconds=3)
"""How long a pump that lost its own connection waits before it takes a dark beacon for a dead pump."""

# Rows come and go so fast that the planner's figures are always wrong; after one bad guess it would read and sort a
# whole table instead of walking along the index. So each statement is written in the order in which it is to be done:
# from a short list of ours, by index, to the rows. A LATERAL with OFFSET 0 cannot be turned round: what is inside
# depends on what is outside.
AS_WRITTEN = {
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
}


class Lines:
    """The connections of one pump, which goes by a `number` of its own.

    All have their plans pinned. `leases` holds the beacon, `reading` and `writing` go on side by side.
    """

    def __init__(self, url: str) -> None:
        self.number = random.SystemRandom().randrange(1, 2**31)
        # Waits: whoever looks whether this pump is alive holds the lock for a moment.
        beacon = f"SELECT pg_advisory_lock({BEACONS}, {self.number})"
        # What ended this pump's session has likely ended those of the others: a restart, a failover.
        wait = f"interval '{DOUBT.total_seconds()} s'"
        doubt = f"SELECT set_config('broker.doubts_until', (now() + {wait})::text, false)"
        self.leases = Direct(url, role=Role.PUMP, settings=AS_WRITTEN, first=beacon, again=doubt)
        self.reading = Direct(url, role=Role.PUMP, settings=AS_WRITTEN)
        self.writing = Direct(url, role=Role.PUMP, settings=AS_WRITTEN)

    async def close(self) -> None:
        """Closes them; the beacon goes out."""
        for line in (self.leases, self.reading, self.writing):
            await line.close()


class Held(msgspec.Struct, frozen=True):
    """A lane that a pump has claimed; `recalls`: how often it had been recalled by then."""

    id: UUID
    tenant_id: UUID
    fence: int
    recalls: int = 0


class Due(msgspec.Struct, frozen=True):
    """A lane with something to send: the pump that holds or held it, and the stamp of its endpoint."""

    owner: int | None
    stamp: int


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lane leads, as read at one moment; `stamp` changes with every change of its endpoint.

    `secrets` are sealed, with their ids, the newest first; so are `headers` (None: there are none). `rate_limit` in
    deliveries per second. `failing_for`: how long there was nothing but failures, or None. `ends_in`: when one of the
    secrets ends, or None.
    """

    id: UUID
    stamp: int
    url: str
    shape: Shape
    rate_limit: int | None
    secrets: Mapping[UUID, bytes]
    headers: bytes | None
    failing_for: timedelta | None
    ends_in: timedelta | None


# One look-up for each endpoint that has anything pending, whatever the number of rows (a loose index scan), and four to
# tell whether one of them is due.
_DUE = """
    WITH RECURSIVE walk AS (
      (SELECT d.endpoint_id AS id FROM deliveries d ORDER BY d.endpoint_id LIMIT 1)
      UNION ALL
      SELECT (SELECT d.endpoint_id FROM deliveries d WHERE d.endpoint_id > walk.id ORDER BY d.endpoint_id LIMIT 1)
      FROM walk WHERE walk.id IS NOT NULL
    )
    SELECT l.id, l.owner, p.xmin::text::bigint AS stamp FROM walk
    CROSS JOIN LATERAL (SELECT * FROM lanes l WHERE l.id = walk.id OFFSET 0) l
    CROSS JOIN LATERAL (SELECT p.xmin FROM endpoints p WHERE p.id = walk.id AND p.state = 'active' OFFSET 0) p
    WHERE (l.quiet_until IS NULL OR l.quiet_until <= now()) AND ($1::uuid[] IS NULL OR l.id = ANY ($1))
      AND EXISTS (
        SELECT FROM generate_series(0, 3) AS rank CROSS JOIN LATERAL (
          SELECT FROM deliveries q WHERE q.endpoint_id = walk.id AND q.priority = rank AND q.next_at <= now() LIMIT 1
        ) x
      )
"""

# A lane is free when nobody holds it, when its lease is over, or when the beacon of its owner has gone out: Postgres
# lets go of the lock within milliseconds of the death of the process. A pump that takes over from one that lives sends
# again what that has sent and not yet written, so beacons are not trusted when they may all have gone out at once.
_CLAIM = """
    WITH free AS MATERIALIZED (
      SELECT l.id FROM lanes l
      WHERE l.id = ANY ($1) AND (l.quiet_until IS NULL OR l.quiet_until <= now())
        AND EXISTS (SELECT FROM endpoints p WHERE p.id = l.id AND p.state = 'active' OFFSET 0)
        AND (l.owner IS NULL OR l.owner = $2 OR l.claimed_until <= now()
          OR CASE WHEN coalesce(nullif(current_setting('broker.doubts_until', true), '')::timestamptz <= now(), true)
            THEN pg_try_advisory_xact_lock(7, l.owner) ELSE false END)
      ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
    )
    UPDATE lanes SET owner = $2, fence = lanes.fence + 1, claimed_until = now() + $3
    FROM free WHERE lanes.id = free.id RETURNING lanes.id, lanes.tenant_id, lanes.fence, lanes.recalls
"""

# Lanes are locked in the order of their ids, here as everywhere: a finish of the same lanes may run beside it.
_RENEW = """
    WITH held AS MATERIALIZED (
      SELECT l.id FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS f (id, fence) ORDER BY id) f
      CROSS JOIN LATERAL (
        SELECT l.id FROM lanes l WHERE l.id = f.id AND l.fence = f.fence AND l.owner = $4 FOR NO KEY UPDATE
      ) l
    )
    UPDATE lanes SET claimed_until = now() + $3 FROM held WHERE lanes.id = held.id RETURNING lanes.id, lanes.recalls
"""

_RELEASE = """
    WITH held AS MATERIALIZED (
      SELECT l.id FROM (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS f (id, fence) ORDER BY id) f
      CROSS JOIN LATERAL (
        SELECT l.id FROM lanes l WHERE l.id = f.id AND l.fence = f.fence AND l.owner = $3 FOR NO KEY UPDATE
      ) l
    )
    UPDATE lanes SET owner = NULL, claimed_until = NULL FROM held WHERE lanes.id = held.id
"""

_TARGETS = """
    SELECT p.id, p.xmin::text::bigint AS stamp, p.url, p.shape, p.rate_limit, p.headers,
      now() - p.failing_since AS failing_for, signers.ids, signers.sealed, signers.first_end - now() AS ends_in
    FROM unnest($1::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (SELECT p.xmin, p.* FROM endpoints p WHERE p.id = wanted.id AND p.state = 'active' OFFSET 0) p
    CROSS JOIN LATERAL (
      SELECT array_agg(s.id ORDER BY s.expires_at DESC NULLS FIRST) AS ids,
        array_agg(s.sealed ORDER BY s.expires_at DESC NULLS FIRST) AS sealed, min(s.expires_at) AS first_end
      FROM endpoint_secrets s
      WHERE s.endpoint_id = p.id AND s.tenant_id = p.tenant_id AND (s.expires_at IS NULL OR s.expires_at > now())
    ) signers
"""


async def find_due(line: Line, *, only: Sequence[UUID] | None = None) -> dict[UUID, Due]:
    """Lanes with something to send now (of `only` these)."""
    return {row["id"]: Due(row["owner"], row["stamp"]) for row in await line.fetch(_DUE, only)}


async def claim(line: Line, ids: Collection[UUID], *, pump: int, lease: timedelta) -> list[Held]:
    """Claims those of these lanes that are free and may be sent to."""
    rows = await line.fetch(_CLAIM, list(ids), pump, lease)
    return [Held(row["id"], row["tenant_id"], row["fence"], row["recalls"]) for row in rows]


async def renew(line: Line, lanes: Sequence[Held], *, pump: int, lease: timedelta) -> dict[UUID, int]:
    """Prolongs leases; those lanes that are still this pump's, and how often each was recalled."""
    rows = await line.fetch(_RENEW, [lane.id for lane in lanes], [lane.fence for lane in lanes], lease, pump)
    return {row["id"]: row["recalls"] for row in rows}


async def release(line: Line, lanes: Sequence[Held], *, pump: int) -> None:
    """Lets go of lanes."""
    await line.fetch(_RELEASE, [lane.id for lane in lanes], [lane.fence for lane in lanes], pump)


async def targets(line: Line, ids: Collection[UUID]) -> dict[UUID, Target]:
    """Where these lanes lead, as far as their endpoints are active."""
    rows = await line.fetch(_TARGETS, list(ids))
    return {row["id"]: _target(row) for row in rows}


def _target(row: Any) -> Target:
    return Target(
        id=row["id"],
        stamp=row["stamp"],
        url=row["url"],
        shape=Shape(row["shape"]),
        rate_limit=row["rate_limit"],
        secrets=dict(zip(row["ids"] or (), row["sealed"] or (), strict=True)),
        headers=row["headers"],
        failing_for=row["failing_for"],
        ends_in=row["ends_in"],
    )
