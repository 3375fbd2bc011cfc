"""The stages of an erasure: each looks at a bounded number of rows, blanks, and says how far it is.

Text SQL where rows are walked along an ordered index. The database looks for both parts of an address, which stand in
every form of it; whether a row holds the address is decided by `traces`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.crypto import Keyring
from broker.feedback.erasures.blanking import Blank, blank
from broker.feedback.erasures.models import NIL, ErasureRow, Stage
from broker.feedback.erasures.traces import Traces
from broker.feedback.keys import pair_context, recipient_hash
from broker.webhooks.replays import batches

EVENTS_AT_ONCE = 1000
OTHERS_AT_ONCE = 2000


class Step(msgspec.Struct, frozen=True):
    """What one look came to. `ended`: nothing is left of the stage; `waits`: look again a bit later."""

    ended: bool
    erased: Mapping[str, int] = {}
    waits: bool = False


_XMIN = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
_HOLDS = "(strpos(lower({0}), :local) > 0 AND strpos(lower({0}), :domain) > 0 OR strpos({0}, '\\u00') > 0)"

_END = text("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)")

# One walk along the party's ordered index. Events of transactions that are still under way are waited for, as in the
# feed: those before `until_xact` were asked for while this erasure was.
_EVENTS = """
    WITH scanned AS MATERIALIZED (
      SELECT e.id, e.at, e.xact, e.owner_id, e.delegate_id, e.data, e.payload,
        e.recipient_hash = ANY (CAST(:hashes AS text[])) AS is_recipient,
        starts_with(e.type, 'email.') AND (e.recipient_hash = ANY (CAST(:hashes AS text[]))
          OR {data} OR coalesce({payload}, false)) AS may
      FROM events e
      WHERE e.{party} = :me AND (e.xact, e.id) > (:after_xact, :after_id) AND e.xact < least(:until_xact, {xmin})
      ORDER BY e.xact, e.id LIMIT :most
    ), last AS (SELECT xact, id FROM scanned ORDER BY xact DESC, id DESC LIMIT 1)
    SELECT (SELECT count(*) FROM scanned) AS looked_at, last.xact AS last_xact, last.id AS last_id,
      {xmin} >= :until_xact AS settled, s.id, s.at, s.owner_id, s.delegate_id, s.data, s.payload, s.is_recipient
    FROM (SELECT) one LEFT JOIN last ON true LEFT JOIN scanned s ON s.may
"""
_WALKS = {
    stage: text(
        _EVENTS.format(
            party=party, xmin=_XMIN, data=_HOLDS.format("CAST(e.data AS text)"), payload=_HOLDS.format("e.payload")
        )
    )
    for stage, party in ((Stage.OWNED, "owner_id"), (Stage.LENT, "delegate_id"))
}
_GRANTS = text("SELECT id, owner_id, delegate_id, identity_arn FROM grants WHERE :me IN (owner_id, delegate_id)")


async def events(session: AsyncSession, caller: Caller, job: ErasureRow, traces: Traces, keyring: Keyring) -> Step:
    """Both stages of events; `waits` when a delivery of one was just being finished, or a transaction is under way."""
    await batches.pin(session)
    if job.until_xact is None:
        job.until_xact = (await session.execute(_END)).scalar_one()
    grants = await session.execute(_GRANTS, {"me": caller.tenant})
    hashes = [_hash_of(keyring, "recipient-hash", str(row.id), traces) for row in grants]
    rows = (await session.execute(_WALKS[Stage(job.stage or "")], _named(job, caller, traces, hashes))).all()
    found = [each for row in rows if row.id is not None and (each := _blank(row, traces))]
    done = await blank(session, found)
    if done is None:
        return Step(ended=False, waits=True)
    await _tell_the_others(session, caller, job, [row for row in rows if row.id in {each.id for each in found}])
    first = rows[0]
    if first.looked_at:
        job.after_xact, job.after_id = first.last_xact, first.last_id
    at_the_end = first.looked_at < EVENTS_AT_ONCE
    gone = sum(each.is_gone for each in found)
    return Step(
        ended=at_the_end and first.settled,
        waits=at_the_end and not first.settled,
        erased={
            "events": gone,
            "mentions": len(found) - gone,
            "deliveries": done.cancelled,
            "answers": done.answers,
        },
    )


def _named(job: ErasureRow, caller: Caller, traces: Traces, hashes: Sequence[str]) -> dict[str, Any]:
    return {
        "me": caller.tenant,
        "hashes": list(hashes),
        "local": traces.needle.local,
        "domain": traces.needle.domain,
        "after_xact": job.after_xact,
        "after_id": job.after_id,
        "until_xact": job.until_xact,
        "most": EVENTS_AT_ONCE,
    }


def _blank(row: Any, traces: Traces) -> Blank | None:
    data = traces.blanked(row.data, is_recipient=bool(row.is_recipient))
    if data is not None:
        return Blank(row.id, row.at, data, is_gone=data.get("erased") is True)
    in_payload = row.payload is not None and traces.in_json(row.payload)
    return Blank(row.id, row.at, row.data, is_gone=False) if in_payload else None


async def _tell_the_others(session: AsyncSession, caller: Caller, job: ErasureRow, rows: Sequence[Any]) -> None:
    """The other party of each event learns from its audit trail that some were blanked; not whose."""
    parties = [party for row in rows for party in (row.owner_id, row.delegate_id) if party not in (None, caller.tenant)]
    for party in sorted(set(parties)):
        await record(
            session,
            caller,
            "recipient.erased",
            subject=("erasure", job.id),
            counterpart_id=party,
            events=parties.count(party),
        )


_ATTEMPTS = text(
    f"""
    WITH scanned AS MATERIALIZED (
      SELECT a.* FROM endpoints p CROSS JOIN LATERAL (
        SELECT a.id, a.at, a.endpoint_id, a.event_id, concat(a.error, chr(10), a.answer) AS told FROM attempts a
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
      s.id, s.at, s.told
    FROM (SELECT) one LEFT JOIN last ON true LEFT JOIN scanned s ON {_HOLDS.format("s.told")}
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
    found = [row for row in rows if row.id is not None and traces.in_json(row.told)]
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
    found = [row.id for row in rows if traces.in_json(row.payload)]
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
    grants = await session.execute(_GRANTS, {"me": me})
    own = await session.scalars(_IDENTITIES, {"me": me})
    pairs = {(row.owner_id, row.delegate_id, row.identity_arn) for row in grants} | {(me, me, arn) for arn in own}
    listed = sorted(pairs)
    hashes = [bytes.fromhex(_hash_of(keyring, "recipient-state", pair_context(*pair), traces)) for pair in listed]
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


def _hash_of(keyring: Keyring, label: str, context: str, traces: Traces) -> str:
    return recipient_hash(keyring.derive(label, context), traces.address)


def begin(job: ErasureRow, stage: Stage | None) -> None:
    """Puts the job at the beginning of a stage."""
    job.stage, job.after_xact, job.after_endpoint, job.after_id = stage, 0, NIL, NIL
