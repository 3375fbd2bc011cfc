"""The stages of an erasure beside events: answers of receivers, quarantine, stored answers, and recipients' states."""

from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.crypto import Keyring
from broker.feedback.erasures.models import ErasureRow
from broker.feedback.erasures.stages import GRANTS, HOLDS, Step, hash_of
from broker.feedback.erasures.traces import Traces
from broker.feedback.keys import pair_context
from broker.webhooks.replays import batches

OTHERS_AT_ONCE = 2000

_ATTEMPTS = text(
    f"""
    WITH scanned AS MATERIALIZED (
      SELECT a.* FROM endpoints p CROSS JOIN LATERAL (
        SELECT a.id, a.at, a.endpoint_id, a.event_id, a.error, a.answer,
          concat(a.error, chr(10), a.answer) AS told FROM attempts a
        WHERE a.endpoint_id = p.id AND (a.endpoint_id, a.event_id) > (:after_endpoint, :after_id)
        ORDER BY a.endpoint_id, a.event_id LIMIT :most
      ) a
      WHERE p.tenant_id = :me AND p.id >= :after_endpoint
      ORDER BY a.endpoint_id, a.event_id LIMIT :most
    ), final AS (
      SELECT endpoint_id, event_id FROM scanned ORDER BY endpoint_id DESC, event_id DESC LIMIT 1
    ), last AS (
      -- A full look may have cut off some attempts of its last event: that is looked at again.
      SELECT endpoint_id, event_id FROM scanned
      WHERE (SELECT count(*) FROM scanned) < :most
        OR (endpoint_id, event_id) < (SELECT f.endpoint_id, f.event_id FROM final f)
      ORDER BY endpoint_id DESC, event_id DESC LIMIT 1
    )
    SELECT (SELECT count(*) FROM scanned) AS looked_at, last.endpoint_id AS last_endpoint, last.event_id AS last_id,
      s.id, s.at, s.error, s.answer
    FROM (SELECT) one LEFT JOIN last ON true LEFT JOIN scanned s ON {HOLDS.format("s.told")}
    """  # noqa: S608 - our own text
)
_BLANK_ATTEMPTS = text(
    """
    UPDATE attempts a SET answer = NULL, error = CASE WHEN a.error IS NULL THEN NULL ELSE 'Erased.' END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS b (id, at) WHERE a.at = b.at AND a.id = b.id
    """
)


async def attempts(session: AsyncSession, caller: Caller, job: ErasureRow, traces: Traces) -> Step:
    """What receivers of this tenant answered to anything; an event has at most a few dozen attempts per endpoint."""
    await batches.pin(session)
    named = {
        "me": caller.tenant,
        "local": traces.needle.local,
        "domain": traces.needle.domain,
        "after_endpoint": job.after_endpoint,
        "after_id": job.after_id,
        "most": OTHERS_AT_ONCE,
    }
    rows = (await session.execute(_ATTEMPTS, named)).all()
    found = [row for row in rows if any(traces.in_text(told) for told in (row.error, row.answer) if told)]
    await session.execute(_BLANK_ATTEMPTS, {"ids": [row.id for row in found], "ats": [row.at for row in found]})
    if rows[0].last_id:
        job.after_endpoint, job.after_id = rows[0].last_endpoint, rows[0].last_id
    return Step(ended=rows[0].looked_at < OTHERS_AT_ONCE, erased={"answers": len(found)})


_QUARANTINE = text("SELECT id, payload FROM quarantine WHERE tenant_id = :me AND id > :after ORDER BY id LIMIT :most")
_BLANK_QUARANTINE = text("UPDATE quarantine SET payload = '' WHERE id = ANY (:ids)")


async def quarantine(session: AsyncSession, caller: Caller, job: ErasureRow, traces: Traces) -> Step:
    """Messages of this tenant's topics that were not to be trusted."""
    named = {"me": caller.tenant, "after": job.after_id, "most": OTHERS_AT_ONCE // 10}
    rows = (await session.execute(_QUARANTINE, named)).all()
    found = [row.id for row in rows if traces.in_text(row.payload)]
    await session.execute(_BLANK_QUARANTINE, {"ids": found})
    if rows:
        job.after_id = rows[-1].id
    return Step(ended=len(rows) < OTHERS_AT_ONCE // 10, erased={"quarantined": len(found)})


# A key's answers are found by its id, with which the primary key begins; they are kept for a day.
_ANSWERS = text(
    """
    SELECT i.scope, i.key, i.body, i.sealed FROM idempotency_keys i
    WHERE i.scope = ANY (ARRAY(SELECT CAST(k.id AS text) FROM api_keys k WHERE k.tenant_id = :me))
    """
)
_BLANK_ANSWER = text("UPDATE idempotency_keys SET body = :body WHERE scope = :scope AND key = :key")


async def answers(session: AsyncSession, caller: Caller, traces: Traces, keyring: Keyring) -> Step:
    """Stored answers keep their form, so that a repeated request is still answered and not carried out again."""
    erased = 0
    for row in (await session.execute(_ANSWERS, {"me": caller.tenant})).all():
        body = msgspec.json.decode(keyring.open(row.body) if row.sealed else row.body)
        if traces.in_value(body):
            left = msgspec.json.encode(traces.out_of(body))
            named = {"scope": row.scope, "key": row.key, "body": keyring.seal(left) if row.sealed else left}
            await session.execute(_BLANK_ANSWER, named)
            erased += 1
    return Step(ended=True, erased={"stored_answers": erased})


_IDENTITIES = text("SELECT arn FROM identities WHERE tenant_id = :me")
_BLANK_SUPPRESSIONS = text(
    """
    UPDATE suppressions s SET address = NULL
    FROM unnest(CAST(:owners AS uuid[]), CAST(:delegates AS uuid[]), CAST(:arns AS text[]), CAST(:hashes AS bytea[]))
      AS w (owner_id, delegate_id, arn, hash)
    WHERE s.owner_id = w.owner_id AND s.delegate_id = w.delegate_id AND s.identity_arn = w.arn
      AND s.recipient_hash = w.hash
    """
)
_FORGET_STATES = text(
    """
    DELETE FROM recipients r
    USING unnest(CAST(:owners AS uuid[]), CAST(:delegates AS uuid[]), CAST(:arns AS text[]), CAST(:hashes AS bytea[]))
      AS w (owner_id, delegate_id, arn, hash)
    WHERE r.owner_id = w.owner_id AND r.delegate_id = w.delegate_id AND r.identity_arn = w.arn
      AND r.recipient_hash = w.hash AND r.state NOT IN ('permanent_bounce', 'complaint')
    """
)


async def recipients(session: AsyncSession, caller: Caller, traces: Traces, keyring: Keyring) -> Step:
    """States are forgotten but for what suppresses; that stays under its keyed hash, without the address."""
    me = caller.tenant
    grants = await session.execute(GRANTS, {"me": me})
    own = await session.scalars(_IDENTITIES, {"me": me})
    pairs = {(row.owner_id, row.delegate_id, row.identity_arn) for row in grants} | {(me, me, arn) for arn in own}
    listed = sorted(pairs)
    hashes = [bytes.fromhex(hash_of(keyring, "recipient-state", pair_context(*pair), traces)) for pair in listed]
    named = {
        "owners": [owner for owner, _, _ in listed],
        "delegates": [delegate for _, delegate, _ in listed],
        "arns": [arn for _, _, arn in listed],
        "hashes": hashes,
    }
    kept = await session.execute(_BLANK_SUPPRESSIONS.columns(), named)
    await session.execute(_FORGET_STATES, named)
    return Step(ended=True, erased={"suppressions": _count(kept)})


def _count(result: Any) -> int:
    return int(result.rowcount)
