"""The stages of an erasure: each looks at a bounded number of rows, blanks, and says how far it is.

Text SQL where rows are walked along an ordered index. The database looks for both parts of an address, which stand in
every form of it; whether a row holds the address is decided by `traces`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
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
from broker.feedback.keys import recipient_hash
from broker.webhooks.replays import batches

EVENTS_AT_ONCE = 1000
WAIT = timedelta(seconds=1)


class Step(msgspec.Struct, frozen=True):
    """What one look came to. `ended`: nothing is left of the stage; `waits`: look again after that."""

    ended: bool
    erased: Mapping[str, int] = {}
    waits: timedelta | None = None


_XMIN = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
HOLDS = "(strpos(lower({0}), :local) > 0 AND strpos(lower({0}), :domain) > 0 OR strpos({0}, '\\u00') > 0)"

_END = text("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)")

# Of the caller and of those who lend to it. A definer function, since a delegate sees no reckoning of an owner's.
_UNRECKONED = text("SELECT unreckoned(:until)")

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
            party=party, xmin=_XMIN, data=HOLDS.format("CAST(e.data AS text)"), payload=HOLDS.format("e.payload")
        )
    )
    for stage, party in ((Stage.OWNED, "owner_id"), (Stage.LENT, "delegate_id"))
}
GRANTS = text("SELECT id, owner_id, delegate_id, identity_arn FROM grants WHERE :me IN (owner_id, delegate_id)")


async def events(session: AsyncSession, caller: Caller, job: ErasureRow, traces: Traces, keyring: Keyring) -> Step:
    """Both stages of events; `waits` when a delivery of one was just being finished, or a transaction is under way."""
    await batches.pin(session)
    if job.until_xact is None:
        job.until_xact = (await session.execute(_END)).scalar_one()
    grants = await session.execute(GRANTS, {"me": caller.tenant})
    # Own mail, which no grant speaks of, is hashed with the key of its owner.
    keys = [str(caller.tenant), *(str(row.id) for row in grants)]
    hashes = [hash_of(keyring, "recipient-hash", each, traces) for each in keys]
    rows = (await session.execute(_WALKS[Stage(job.stage or "")], _named(job, caller, traces, hashes))).all()
    # What is blank tells the reckoning of no recipient: so it goes first, and suppresses who must not be mailed again.
    # Asked after the look: all that it found is asked about.
    if (await session.execute(_UNRECKONED, {"until": job.until_xact})).scalar_one():
        return Step(ended=False, waits=WAIT)
    found = [each for row in rows if row.id is not None and (each := _blank(row, traces))]
    done = await blank(session, found)
    job.lanes = sorted({*(job.lanes or ()), *done.lanes})
    if done.busy:
        return Step(ended=False, waits=WAIT, erased={"deliveries": done.cancelled, "answers": done.answers})
    await _tell_the_others(session, caller, job, [row for row in rows if row.id in {each.id for each in found}])
    first = rows[0]
    if first.looked_at:
        job.after_xact, job.after_id = first.last_xact, first.last_id
    at_the_end = first.looked_at < EVENTS_AT_ONCE
    gone = sum(each.is_gone for each in found)
    return Step(
        ended=at_the_end and first.settled,
        waits=WAIT if at_the_end and not first.settled else None,
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
    in_payload = row.payload is not None and traces.in_text(row.payload)
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


def hash_of(keyring: Keyring, label: str, context: str, traces: Traces) -> str:
    """The hash of the address under the key of this use and context."""
    return recipient_hash(keyring.derive(label, context), traces.address)


def begin(job: ErasureRow, stage: Stage | None) -> None:
    """Puts the job at the beginning of a stage."""
    job.stage, job.after_xact, job.after_endpoint, job.after_id = stage, 0, NIL, NIL
