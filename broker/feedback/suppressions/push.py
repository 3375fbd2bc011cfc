"""Puts suppressions into the suppression list of a delegate's own SES account, where that is switched on."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.clock import now
from broker.connections.models import Connection
from broker.crypto import Keyring
from broker.db import Database
from broker.due import Claim, back_off, settle
from broker.errors import Conflict, Flaw, Invalid, NotFound, Refused, Unavailable
from broker.feedback.suppressions.models import NIL, PushRow
from broker.feedback.suppressions.views import Push, PushView
from broker.idempotency import remember
from broker.ids import new_id
from broker.points import reach

KIND = "suppression_pushes"
LEASE = timedelta(seconds=60)
AT_ONCE = 10
CALLS = 10  # of one look; SES takes about one a second (SES Developer Guide, quotas)
SETTLED = timedelta(minutes=1)  # ids are made before they are committed: what is younger may still get company
SOON, LATER, REFUSED_AGAIN = timedelta(seconds=1), timedelta(minutes=5), timedelta(hours=1)
USABLE = frozenset({"verified", "degraded"})
_REASONS = {"complaint": "COMPLAINT", "hard_bounce": "BOUNCE"}

logger = log.get(__name__)


class SuppressionList(Protocol):
    """The account-level suppression list in a delegate's account. Raises `Unavailable` or `Refused`."""

    async def suppress(self, access: RoleAccess, address: str, *, reason: str) -> None:
        """Puts an address there, with the reason `BOUNCE` or `COMPLAINT`; being there already is success."""
        ...


async def switch(db: Database, caller: Caller, wanted: Push) -> PushView:
    """On or off, for an account with a role in a Region of its connection."""
    async with db.begin(caller) as session:
        connection = await session.scalar(
            select(Connection).where(Connection.id == wanted.connection_id, Connection.tenant_id == caller.tenant)
        )
        if connection is None:
            raise NotFound("There is no connection with this id.")
        if wanted.enabled:
            _refuse(connection, wanted)
        row = await _switched(session, caller, wanted)
        state = "enabled" if wanted.enabled else "disabled"
        await record(
            session, caller, f"suppression_push.{state}", subject=("connection", connection.id), region=row.region
        )
        return await remember(session, caller, _view(row))


def _refuse(connection: Connection, wanted: Push) -> None:
    if connection.role_arn is None or connection.state not in USABLE:
        raise Conflict("Nothing can be put there: the connection has no role that works.")
    if wanted.region not in connection.regions:
        raise Invalid("The connection does not cover this Region.", flaws=(Flaw("/region", "Not one of its Regions."),))


async def _switched(session: AsyncSession, caller: Caller, wanted: Push) -> PushRow:
    new = insert(PushRow).values(
        id=new_id(),
        tenant_id=caller.tenant,
        connection_id=wanted.connection_id,
        region=wanted.region,
        enabled=wanted.enabled,
    )
    again = new.on_conflict_do_update(
        constraint="suppression_pushes_connection_id_region_key", set_={"enabled": wanted.enabled, "reason": None}
    )
    row = (await session.scalars(again.returning(PushRow), execution_options={"populate_existing": True})).one()
    if wanted.enabled:
        due.wake(session, row)
        await session.flush()
    return row


async def list_some(db: Database, caller: Caller, *, after: UUID | None = None, limit: int = 50) -> Sequence[PushView]:
    """One's switches, oldest first, up to `limit` after the id `after`."""
    query = select(PushRow).where(PushRow.tenant_id == caller.tenant, PushRow.id > (after or NIL))
    async with db.read(caller) as session:
        return [_view(row) for row in await session.scalars(query.order_by(PushRow.id).limit(limit))]


def _view(row: PushRow) -> PushView:
    return PushView(
        id=row.id,
        connection_id=row.connection_id,
        region=row.region,
        enabled=row.enabled,
        pushed=row.pushed,
        reason=row.reason,
        created_at=row.created_at,
    )


class _Entry(msgspec.Struct, frozen=True):
    """`id` is its stamp: pushes go along changes, so that a guess that became sure is not missed."""

    id: UUID
    address: str
    reason: str


class _Work(msgspec.Struct, frozen=True):
    """`access` None: it is switched off, or we may not act there any more."""

    access: RoleAccess | None
    entries: Sequence[_Entry]


class _Done(msgspec.Struct, frozen=True):
    """How many were put there, up to which entry, why it stopped, and when to go on."""

    pushed: int
    last: UUID | None
    reason: str | None
    again_in: timedelta | None
    failed: bool = False


async def run(db: Database, ses: SuppressionList, keyring: Keyring, *, only: Sequence[UUID] | None = None) -> int:
    """Works on the switches that are due (of those in `only`, if given); returns how many."""

    async def do(claimed: Claim) -> None:
        work = await _load(db, claimed, keyring, at=now())
        await _settle(db, claimed, await _push(ses, work, claimed))

    return await due.work(db, KIND, do, most=AT_ONCE, lease=LEASE, only=only)


# Only of grants that this account sends under, only what the delegate may see, and no guesses. What no topic of the
# broker's said may have been made up. Where the owner's own topics are heard, it may be the owner's word, who has no
# say in this account and its other clients; it is pushed once the broker's topic says so. Else it is the delegate's.
_ENTRIES = text(
    """
    SELECT s.stamp AS id, s.address, s.reason FROM suppressions s JOIN grants g ON g.id = s.grant_id
    WHERE s.delegate_id = :me AND s.stamp > :after AND s.stamp < :before AND s.active AND NOT s.guessed
      AND s.delegate_view = 'full' AND s.address IS NOT NULL AND s.reason IN ('complaint', 'hard_bounce')
      AND (s.vouched OR NOT EXISTS (
        SELECT FROM routes r WHERE r.tenant_id = s.owner_id AND r.delegate_id = :me AND r.kind = 'identity_topic'
          AND jsonb_path_exists(r.found, '$.identities.*.* ? (@ == "owners_topic")')))
      AND split_part(s.identity_arn, ':', 4) = :region AND :account = ANY (g.accounts)
    ORDER BY s.stamp LIMIT :most
    """
)


async def _load(db: Database, claimed: Claim, keyring: Keyring, *, at: datetime) -> _Work:
    query = (
        select(PushRow, Connection)
        .join(Connection, Connection.id == PushRow.connection_id)
        .where(PushRow.id == claimed.id)
    )
    async with db.read(_caller(claimed)) as session:
        row, connection = (await session.execute(query)).one()
        if not row.enabled or connection.role_arn is None or connection.state not in USABLE:
            return _Work(None, ())
        named = {
            "me": row.tenant_id,
            "after": row.after_id,
            "before": UUID(int=int((at - SETTLED).timestamp() * 1000) << 80),
            "region": row.region,
            "account": connection.account_id,
            "most": CALLS,
        }
        found = [_entry(each, keyring) for each in await session.execute(_ENTRIES, named)]
    return _Work(connection.access(row.region), found)


def _entry(row: Any, keyring: Keyring) -> _Entry:
    return _Entry(row.id, keyring.open(row.address).decode(), _REASONS[row.reason])


async def _push(ses: SuppressionList, work: _Work, claimed: Claim) -> _Done:
    if work.access is None:
        return _Done(0, None, None, None)
    pushed, last = 0, None
    for entry in work.entries:
        try:
            await ses.suppress(work.access, entry.address, reason=entry.reason)
            reach("pushes.suppressed")
            pushed += 1
        except Unavailable as error:
            wait = SOON if pushed else back_off(claimed.attempts, first=SOON, most=LATER)
            return _Done(pushed, last, error.detail, wait, failed=not pushed)
        except Refused as error:
            # SES does not take this address (SES API v2, PutSuppressedDestination: BadRequestException); others it may.
            if error.code != "BadRequestException":
                return _Done(pushed, last, error.detail, REFUSED_AGAIN)
            logger.warning("SES does not take a suppression", stamp=str(entry.id))
        last = entry.id
    return _Done(pushed, last, None, SOON if len(work.entries) == CALLS else LATER)


async def _settle(db: Database, claimed: Claim, done: _Done) -> None:
    async with db.begin(_caller(claimed)) as session:
        row = (await session.scalars(select(PushRow).where(PushRow.id == claimed.id).with_for_update())).one()
        row.after_id = done.last or row.after_id
        row.pushed += done.pushed
        if row.reason != done.reason:
            row.reason = done.reason
            action = "suppression_push.waiting" if done.reason else "suppression_push.resumed"
            await record(
                session, _caller(claimed), action, subject=("connection", row.connection_id), reason=done.reason
            )
        await session.flush()
        await settle(session, claimed, again_in=done.again_in, failed=done.failed)


def _caller(claimed: Claim) -> Caller:
    return Caller.system(claimed.tenant_id, job=KIND)
