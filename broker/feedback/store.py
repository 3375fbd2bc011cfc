"""The statements of the hot path: what a batch needs to know, and how it is stored.

Each function is one round trip for any number of messages.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Date, DateTime, LargeBinary, Text, Uuid, bindparam, insert, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from broker.feedback.attribution import Candidate, Source
from broker.feedback.events import NewEvent
from broker.feedback.models import QuarantinedMessage, Topic
from broker.feedback.sort import Aside
from broker.ids import new_id
from broker.policies.terms import FeedbackTerms

_UUIDS = ARRAY(Uuid())
_TEXTS = ARRAY(Text())

# One row per grant that was ever active on these identities; those of a removed connection are still looked for.
_CANDIDATES = text(
    "SELECT g.id, g.owner_id, g.delegate_id, g.identity_arn, g.accounts, g.feedback, g.activated_at, g.ended_at,"
    " g.verified_at FROM grants g WHERE g.identity_arn = ANY (:arns) AND g.activated_at IS NOT NULL"
).bindparams(bindparam("arns", type_=_TEXTS))

# Keys, events and deliveries in one statement: only a new key makes an event, only a new event is fanned out. Answers
# with one row: how many events are new, and the endpoints that got something. `fan_out` is volatile, so it sees the
# events that `stored` has just made (PostgreSQL, xfunc-volatility).
_SAVE = text(
    """
    WITH wanted AS (
      SELECT * FROM unnest(:days, :keys, :ids, :ats, :types, :owner_ids, :delegate_ids, :grant_ids, :sources,
        :owner_views, :delegate_views, :recipient_hashes, :data, :payloads)
      AS w (day, key, id, at, type, owner_id, delegate_id, grant_id, source,
        owner_view, delegate_view, recipient_hash, data, payload)
    ), fresh AS (
      INSERT INTO event_keys (day, key, event_id) SELECT day, key, id FROM wanted
      ON CONFLICT DO NOTHING RETURNING event_id
    ), stored AS (
      INSERT INTO events (id, at, type, owner_id, delegate_id, grant_id, source,
        owner_view, delegate_view, recipient_hash, data, payload)
      SELECT w.id, w.at, w.type, w.owner_id, w.delegate_id, w.grant_id, w.source,
        w.owner_view, w.delegate_view, w.recipient_hash, CAST(w.data AS jsonb), w.payload
      FROM wanted w JOIN fresh ON fresh.event_id = w.id
      RETURNING id, at
    ), made AS (SELECT array_agg(id) AS ids, array_agg(at) AS ats, count(*) AS number FROM stored)
    SELECT made.number, ARRAY(SELECT fan_out(made.ids, made.ats)) AS endpoints FROM made
    """
).bindparams(
    bindparam("days", type_=ARRAY(Date())),
    bindparam("keys", type_=ARRAY(LargeBinary())),
    bindparam("ats", type_=ARRAY(DateTime(timezone=True))),
    *(bindparam(name, type_=_UUIDS) for name in ("ids", "owner_ids", "delegate_ids", "grant_ids")),
    *(bindparam(name, type_=_TEXTS) for name in ("types", "sources", "owner_views", "delegate_views")),
    *(bindparam(name, type_=_TEXTS) for name in ("recipient_hashes", "data", "payloads")),
)

# The route's own worker makes it `live`, with its audit row; here it only learns of the day.
_HEARD = text(
    "UPDATE routes r SET live_at = now(), due_at = now()"
    " FROM unnest(:grant_ids, :topic_arns) AS h (grant_id, topic_arn) JOIN topics t ON t.arn = h.topic_arn"
    " WHERE r.grant_id = h.grant_id AND r.topic_id = t.id AND r.live_at IS NULL RETURNING r.id"
).bindparams(bindparam("grant_ids", type_=_UUIDS), bindparam("topic_arns", type_=_TEXTS))


async def sources(session: AsyncSession, topic_arns: Sequence[str]) -> dict[str, Source]:
    """What is known of these topics, by ARN; those of no route are missing."""
    columns = (Topic.arn, Topic.tenant_id, Topic.accounts, Topic.source)
    rows = await session.execute(select(*columns).where(Topic.arn.in_(topic_arns)))
    return {
        arn: Source(topic_arn=arn, tenant_id=tenant, accounts=tuple(accounts), source=source)
        for arn, tenant, accounts, source in rows
        if arn is not None
    }


async def candidates(session: AsyncSession, identity_arns: Sequence[str]) -> dict[str, list[Candidate]]:
    """The grants on these identities that were ever active, by the identity's ARN."""
    found: dict[str, list[Candidate]] = {}
    for row in await session.execute(_CANDIDATES, {"arns": list(identity_arns)}):
        found.setdefault(row.identity_arn, []).append(_candidate(row))
    return found


def _candidate(row: Any) -> Candidate:
    return Candidate(
        grant_id=row.id,
        owner_id=row.owner_id,
        delegate_id=row.delegate_id,
        identity_arn=row.identity_arn,
        accounts=tuple(row.accounts),
        feedback=msgspec.convert(row.feedback or {}, FeedbackTerms),
        activated_at=row.activated_at,
        ended_at=row.ended_at,
        verified_at=row.verified_at,
    )


async def save(session: AsyncSession, events: Sequence[NewEvent]) -> int:
    """Stores those with a new key, together with their deliveries; tells how many. The bell rings for their lanes."""
    if not events:
        return 0
    columns: dict[str, list[Any]] = {
        "days": [each.key.day for each in events],
        "keys": [each.key.digest for each in events],
        "ids": [each.id for each in events],
        "ats": [each.at for each in events],
        "types": [each.type for each in events],
        "owner_ids": [each.owner_id for each in events],
        "delegate_ids": [each.delegate_id for each in events],
        "grant_ids": [each.grant_id for each in events],
        "sources": [each.source for each in events],
        "owner_views": [each.owner_view for each in events],
        "delegate_views": [each.delegate_view for each in events],
        "recipient_hashes": [each.recipient_hash for each in events],
        "data": [msgspec.json.encode(each.data).decode() for each in events],
        "payloads": [each.payload for each in events],
    }
    row = (await session.execute(_SAVE, columns)).one()
    _woken(session, "lanes", row.endpoints)
    return int(row.number)


async def quarantine(session: AsyncSession, asides: Sequence[Aside]) -> None:
    """Keeps what cannot be trusted or read."""
    if asides:
        rows = [{"id": new_id(), **msgspec.structs.asdict(aside)} for aside in asides]
        await session.execute(insert(QuarantinedMessage), rows)


async def mark_heard(session: AsyncSession, heard: Iterable[tuple[UUID, str]]) -> None:
    """Tells the routes of these (grant, topic ARN) that an event of their delegate's account came through."""
    pairs = sorted(heard)
    if pairs:
        named = {"grant_ids": [grant for grant, _ in pairs], "topic_arns": [arn for _, arn in pairs]}
        _woken(session, "routes", (await session.scalars(_HEARD, named)).all())


def _woken(session: AsyncSession, kind: str, ids: Iterable[UUID]) -> None:
    found = set(ids)
    if found:
        session.info.setdefault("woken", {}).setdefault(kind, set()).update(found)
