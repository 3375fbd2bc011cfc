"""A long life before the run: events that were, and deliveries that must not go out yet."""

from datetime import UTC, datetime

import asyncpg
import msgspec

from bench import payloads
from bench.world import Group, World, copy, plan_group, seed
from broker.crypto import Keyring
from broker.ids import new_id


async def add_history(connection: asyncpg.Connection, keyring: Keyring, *, events: int, pending: int) -> None:
    """Fill the tables as a long life does: ``events`` of today, and ``pending`` deliveries that must not go out yet.

    The deliveries belong to a hundred endpoints of a tenant's own. Half of these are paused, and theirs are due; those
    of the other half are due in an hour.
    """
    if not events and not pending:
        return
    # A group of its own, far from the numbers of those that messages are sent to.
    group = msgspec.structs.replace(plan_group(999_999, 1), endpoints=())
    await seed(connection, World(groups=(group,), fan_out=1, secrets={}), keyring, [])
    endpoints = [(new_id(), group.delegate, "http://127.0.0.1:9/", ("paused", "active")[n % 2]) for n in range(100)]
    await copy(connection, "endpoints", ["id", "tenant_id", "url", "state"], endpoints)
    await copy(connection, "lanes", ["id", "tenant_id"], [(each[0], group.delegate) for each in endpoints])
    text = payloads.payload(1, group.number, datetime.now(UTC)).decode()
    count = max(events, pending)
    parties = (group.owner, group.delegate, group.grant)
    await connection.execute(_EVENTS, *parties, text, _data(group), count, timeout=3600)
    await connection.execute(_KEYS, count, timeout=3600)
    await connection.execute(_PENDING, group.delegate, [each[0] for each in endpoints], pending, timeout=3600)
    await connection.execute(_DELTAS, group.delegate, timeout=3600)
    await connection.execute("VACUUM ANALYZE", timeout=3600)


# Ids as the broker makes them (UUIDv7), one event per millisecond back from now.
_EVENTS = """
INSERT INTO events (id, at, type, owner_id, delegate_id, grant_id, source, owner_view, delegate_view, recipient_hash,
  data, payload)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3) || '8'
    || substr(hash, 4, 15))::uuid,
  at, 'email.delivered', $1, $2, $3, 'broker_topic', 'hashed', 'full', hash || hash, $5::text::jsonb, $4
FROM (SELECT now() - n * interval '1 ms' AS at, md5(n::text) AS hash FROM generate_series(1, $6::integer) AS n) AS made
"""
_KEYS = """
INSERT INTO event_keys (day, key, event_id)
SELECT current_date, sha256(n::text::bytea), gen_random_uuid() FROM generate_series(1, $1::integer) AS n
"""
_PENDING = """
INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority, next_at)
SELECT ($2::uuid[])[1 + n % 100], id, at, $1, 2, CASE WHEN n % 2 = 0 THEN now() ELSE now() + interval '1 hour' END
FROM (SELECT id, at, row_number() OVER () AS n FROM events WHERE delegate_id = $1 LIMIT $3) AS picked
"""
_DELTAS = """
INSERT INTO delivery_deltas (tenant_id, day, created)
SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*) FROM deliveries WHERE tenant_id = $1 GROUP BY 1, 2
"""


def _data(group: Group) -> str:
    """The data of a delivery, in the size that they have."""
    return msgspec.json.encode(
        {
            "event_id": new_id(), "grant_id": group.grant, "source": "broker_topic", "recipient_hash": "0" * 64,
            "identity": payloads.identity_arn(group.number), "message_id": "0" * 60, "kind": "delivery",
            "sending_account": payloads.delegate_account(group.number), "sent_at": "2026-01-05T11:59:00Z",
            "occurred_at": "2026-01-05T11:59:10Z", "recipient": "recipient.00000001@mail.example.org", "final": None,
            "bounce_type": None, "bounce_sub_type": None, "complaint_sub_type": None, "status": None, "action": None,
            "diagnostic_code": None, "reporting_mta": "a8-70.smtp-out.amazonses.com", "remote_mta": "192.0.2.44",
            "feedback_type": None, "user_agent": None, "smtp_response": "250 2.6.0 Message received", "link": None,
            "processing_ms": 546, "from": "newsletter@example.com", "subject": "What is new this week",
            "tags": {"campaign": ["spring"]}, "configuration_set": "delegation-broker-bench",
        }
    ).decode()  # fmt: skip
