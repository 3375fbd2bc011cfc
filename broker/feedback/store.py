"""The statements of the hot path: what a batch needs to know, and how it is stored, each one round trip for any number.

What is known of topics and grants is remembered between batches, each with a stamp over everything that was read of
it. The statement that stores compares the stamps in its own snapshot, and stores nothing where one has changed: so
nothing is ever attributed by what was true a moment ago.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from broker.db import Line
from broker.feedback.attribution import Candidate, Source, Standing
from broker.feedback.events import AFTER_END, BROKER_TOPIC, NewEvent
from broker.feedback.sort import Sorted
from broker.ids import new_id
from broker.policies.terms import FeedbackTerms

# The order of the joins is as it is written: from the batch, by index, to the tables. Only lists of ours are hashed.
AS_WRITTEN = {
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_mergejoin": "off",
}

Stamp = int | None
"""Of one topic or identity; None: there was nothing."""

# One number over all that is read of a topic, and over all grants of an identity that were ever active.
_TOPIC_STAMP = "hashtextextended(concat_ws('|', t.id, t.tenant_id, t.accounts::text, t.source, t.configuration_set), 1)"
_GRANT_STAMP = (
    "sum(hashtextextended(concat_ws('|', g.id, g.owner_id, g.delegate_id, g.accounts::text, g.feedback::text,"
    " coalesce(g.activated_at::text, ''), coalesce(g.ended_at::text, ''), coalesce(g.verified_at::text, ''),"
    " coalesce(g.not_before::text, ''), coalesce(g.expires_at::text, ''), coalesce(g.suspended_at::text, ''),"
    " coalesce(g.resumed_at::text, ''), g.from_addresses::text), 2)"
    " & 4503599627370495)::bigint"
)
# The whole of what is read of an identity; None where it has neither grants nor an owner who hears its own mail.
_IDENTITY_STAMP = (
    "CASE WHEN i.tenant_id IS NULL THEN found.stamp"
    " ELSE coalesce(found.stamp, 0) # hashtextextended(i.tenant_id::text, 3) END"
)
_OF_IDENTITY = f"""
      CROSS JOIN LATERAL (
        SELECT {_GRANT_STAMP} AS stamp FROM grants g WHERE g.identity_arn = k.arn AND g.activated_at IS NOT NULL
      ) found
      LEFT JOIN identities i ON i.arn = k.arn AND i.own_mail AND i.removed_at IS NULL"""  # noqa: S608 - our own text

_SOURCES = f"""
    SELECT t.arn, t.tenant_id, t.accounts, t.source, t.configuration_set, {_TOPIC_STAMP} AS stamp
    FROM topics t WHERE t.arn = ANY ($1::text[])
"""  # noqa: S608 - our own text

# One row per grant that was ever active on these identities; those of a removed connection are still looked for.
_CANDIDATES = """
    SELECT g.id, g.owner_id, g.delegate_id, g.identity_arn, g.accounts, g.feedback::text AS feedback, g.activated_at,
      g.ended_at, g.verified_at, g.from_addresses::text AS from_addresses, g.not_before, g.expires_at,
      g.suspended_at, g.resumed_at
    FROM grants g WHERE g.identity_arn = ANY ($1::text[]) AND g.activated_at IS NOT NULL
"""

# One row per identity asked for.
_IDENTITIES = f"""
    SELECT k.arn, {_IDENTITY_STAMP} AS stamp, i.tenant_id AS own_mail_of
    FROM unnest($1::text[]) AS k (arn){_OF_IDENTITY}
"""  # noqa: S608 - our own text

# Keys, events and deliveries in one statement: only a new key makes an event, only a new event is fanned out. What
# a tenant's own topic said first and a topic of the broker's says later makes an event that nobody hears (both views
# are null): no delivery, no feed; it is only reckoned, so that forged news cannot hide the true. What the parties hear
# stays the first copy, also where the two contradict each other. Who comes first is decided by the key's row, not by
# the snapshot: two routes may bring the same at once. News of mail after the end does not depend on who told. Answers
# with one row: whether everything was still as it was known, how many events are new, the endpoints that got something
# and the routes that were heard for the first time or after a silence; a route's own worker makes it `live`, here it
# only learns of the day, and about once a minute that it still is. An `identity_topic` is heard by the broker's topic
# and by any of the owner's own that hold a slot (asked for as a value: EXISTS would hash the whole table). `fan_out`
# is volatile, so it sees the events that `stored` has just made (PostgreSQL, xfunc-volatility). `woken` are
# reckonings that slept; those that are awake are not touched. It comes last, as in the reckoning itself, so that both
# lock lanes before reckonings.
_SAVE = f"""
    WITH stale AS MATERIALIZED (
      SELECT k.arn FROM unnest($1::text[], $2::bigint[]) AS k (arn, stamp)
      LEFT JOIN topics t ON t.arn = k.arn
      WHERE k.stamp IS DISTINCT FROM CASE WHEN t.id IS NOT NULL THEN {_TOPIC_STAMP} END
      UNION ALL
      SELECT k.arn FROM unnest($3::text[], $4::bigint[]) AS k (arn, stamp){_OF_IDENTITY}
      WHERE k.stamp IS DISTINCT FROM {_IDENTITY_STAMP}
    ), fit AS MATERIALIZED (SELECT NOT EXISTS (SELECT FROM stale) AS fit), wanted AS MATERIALIZED (
      SELECT w.* FROM unnest($5::date[], $6::bytea[], $7::uuid[], $8::timestamptz[], $9::text[], $10::uuid[],
        $11::uuid[], $12::uuid[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
      AS w (day, key, id, at, type, owner_id, delegate_id, grant_id, source,
        owner_view, delegate_view, recipient_hash, data, payload) JOIN fit ON fit.fit
    ), taken AS (
      INSERT INTO event_keys (day, key, event_id, vouched)
      SELECT day, key, id, source = '{BROKER_TOPIC}' OR type = '{AFTER_END}' FROM wanted
      ON CONFLICT (day, key) DO UPDATE SET vouched = true WHERE excluded.vouched AND NOT event_keys.vouched
      RETURNING day, key, event_id
    ), fresh AS MATERIALIZED (
      SELECT w.id, t.event_id = w.id AS heard FROM wanted w JOIN taken t ON t.day = w.day AND t.key = w.key
    ), stored AS (
      INSERT INTO events (id, at, type, owner_id, delegate_id, grant_id, source,
        owner_view, delegate_view, recipient_hash, data, payload)
      SELECT w.id, w.at, w.type, w.owner_id, w.delegate_id, w.grant_id, w.source,
        CASE WHEN f.heard THEN w.owner_view END, CASE WHEN f.heard THEN w.delegate_view END, w.recipient_hash,
        CAST(w.data AS jsonb), CASE WHEN f.heard THEN w.payload END
      FROM wanted w JOIN fresh f ON f.id = w.id
      RETURNING id, at, type, owner_id, delegate_id, grant_id, owner_view, delegate_view
    ), noted AS (
      INSERT INTO audit (id, tenant_id, counterpart_id, actor, request_id, action, subject_kind, subject_id, details)
      SELECT s.id, s.owner_id, s.delegate_id, 'system:ingest', '', s.type, 'grant', s.grant_id,
        jsonb_build_object('event_id', s.id)
      FROM stored s WHERE s.type = '{AFTER_END}'
    ), aside AS (
      INSERT INTO quarantine (id, tenant_id, topic_arn, reason, payload)
      SELECT q.* FROM unnest($19::uuid[], $20::uuid[], $21::text[], $22::text[], $23::text[])
        AS q (id, tenant_id, topic_arn, reason, payload) JOIN fit ON fit.fit
    ), heard AS (
      UPDATE routes r SET live_at = coalesce(r.live_at, now()), heard_at = now(),
        due_at = CASE WHEN r.live_at IS NULL OR r.state = 'quiet' THEN now() ELSE r.due_at END
      FROM unnest($24::uuid[], $25::text[]) AS h (grant_id, topic_arn) JOIN topics t ON t.arn = h.topic_arn
      JOIN fit ON fit.fit
      WHERE r.grant_id = h.grant_id AND (r.topic_id = t.id OR t.configuration_set IS NULL AND t.tenant_id = (
          SELECT o.tenant_id FROM topics o WHERE o.id = r.topic_id AND o.configuration_set IS NULL))
        AND (r.heard_at IS NULL OR r.heard_at < now() - interval '50 seconds')
      RETURNING r.id, r.due_at
    ), made AS (
      SELECT array_agg(id) AS ids, array_agg(at) AS ats, count(*) AS number FROM stored
      WHERE coalesce(owner_view, delegate_view) IS NOT NULL
    ), woken AS (
      INSERT INTO reckonings (id, tenant_id, due_at)
      SELECT o.owner_id, o.owner_id, now()
      FROM (SELECT DISTINCT w.owner_id FROM wanted w JOIN fresh f ON f.id = w.id) o
      WHERE o.owner_id IS NOT NULL AND (SELECT r.asleep FROM reckonings r WHERE r.id = o.owner_id) IS NOT FALSE
      ORDER BY o.owner_id
      ON CONFLICT (id) DO UPDATE SET asleep = false, due_at = now() WHERE reckonings.asleep
      RETURNING id
    )
    SELECT fit.fit, made.number, ARRAY(SELECT fan_out(made.ids, made.ats)) AS endpoints,
      ARRAY(SELECT id FROM heard WHERE due_at = now()) AS routes, ARRAY(SELECT id FROM woken) AS reckonings
    FROM made, fit
"""  # noqa: S608 - our own text


class Saved(msgspec.Struct, frozen=True):
    """What one batch came to: how many events were new; the lanes, routes and reckonings that have something to do."""

    number: int
    endpoints: Sequence[UUID]
    routes: Sequence[UUID]
    reckonings: Sequence[UUID]


async def sources(line: Line, topic_arns: Sequence[str]) -> dict[str, tuple[Source | None, Stamp]]:
    """What is known of these topics, by ARN, with stamps; None for those of no route."""
    found: dict[str, tuple[Source | None, Stamp]] = dict.fromkeys(topic_arns, (None, None))
    for row in await line.fetch(_SOURCES, topic_arns):
        source = Source(
            topic_arn=row["arn"],
            tenant_id=row["tenant_id"],
            accounts=tuple(row["accounts"]),
            source=row["source"],
            configuration_set=row["configuration_set"],
        )
        found[row["arn"]] = (source, row["stamp"])
    return found


async def standings(line: Line, identity_arns: Sequence[str]) -> dict[str, tuple[Standing, Stamp]]:
    """What is known of these identities, by ARN, with stamps: their grants that were ever active, and own mail.

    The stamps are read first: what changes between the two readings does not fit its stamp, and is read again.
    """
    identities = await line.fetch(_IDENTITIES, identity_arns)
    found: dict[str, list[Candidate]] = {arn: [] for arn in identity_arns}
    for row in await line.fetch(_CANDIDATES, identity_arns):
        found[row["identity_arn"]].append(_candidate(row))
    return {row["arn"]: (Standing(found[row["arn"]], row["own_mail_of"]), row["stamp"]) for row in identities}


def _candidate(row: Any) -> Candidate:
    return Candidate(
        grant_id=row["id"],
        owner_id=row["owner_id"],
        delegate_id=row["delegate_id"],
        identity_arn=row["identity_arn"],
        accounts=tuple(row["accounts"]),
        feedback=msgspec.json.decode(row["feedback"] or b"{}", type=FeedbackTerms),
        activated_at=row["activated_at"],
        ended_at=row["ended_at"],
        verified_at=row["verified_at"],
        from_addresses=msgspec.json.decode(row["from_addresses"] or b"[]", type=tuple[str, ...]),
        not_before=row["not_before"],
        expires_at=row["expires_at"],
        suspended_at=row["suspended_at"],
        resumed_at=row["resumed_at"],
    )


async def save(
    line: Line,
    found: Sorted,
    heard: Sequence[tuple[UUID, str]],
    *,
    topics: Mapping[str, Stamp],
    identities: Mapping[str, Stamp],
) -> Saved | None:
    """Stores what is new, with its deliveries and what goes into quarantine; None, and nothing, under an old stamp.

    `heard`: (grant, topic ARN) of routes that an event of their delegate's account came through.
    """
    (row,) = await line.fetch(
        _SAVE,
        list(topics),
        list(topics.values()),
        list(identities),
        list(identities.values()),
        *_columns(found.events),
        [new_id() for _ in found.asides],
        [aside.tenant_id for aside in found.asides],
        [aside.topic_arn for aside in found.asides],
        [aside.reason.value for aside in found.asides],
        [aside.payload for aside in found.asides],
        [grant_id for grant_id, _ in heard],
        [topic_arn for _, topic_arn in heard],
    )
    return Saved(row["number"], row["endpoints"], row["routes"], row["reckonings"]) if row["fit"] else None


def _columns(events: Sequence[NewEvent]) -> list[list[Any]]:
    return [
        [each.key.day for each in events],
        [each.key.digest for each in events],
        [each.id for each in events],
        [each.at for each in events],
        [each.type for each in events],
        [each.owner_id for each in events],
        [each.delegate_id for each in events],
        [each.grant_id for each in events],
        [each.source for each in events],
        [each.owner_view for each in events],
        [each.delegate_view for each in events],
        [each.recipient_hash for each in events],
        [msgspec.json.encode(each.data).decode() for each in events],
        [each.payload for each in events],
    ]
