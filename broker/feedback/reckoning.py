"""The reckoning: each new feedback event of an owner is added up once, in the order of its feed, off the hot path.

The cursor moves in the transaction that adds up, under the fence of its claim: so each event counts exactly once.

Who stores events wakes a reckoning only if it sleeps, and finds that out in a snapshot that may be a moment old. So
nothing falls asleep at once: it is marked as asleep, and is looked at once more after `LINGER`, when every statement
has ended that may have seen it awake.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, Select, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.caller import Caller
from broker.db import Database
from broker.due import Claim, Superseded
from broker.feedback.events import EVENT_TYPES
from broker.feedback.reckoned import Fold, Reckoned
from broker.feedback.usage.models import ReckoningRow
from broker.points import reach
from broker.policies.terms import FeedbackKind
from broker.webhooks.models import EventRow

KIND = "reckonings"
LEASE = timedelta(seconds=30)
MOST = 2000  # events in one transaction
SOON = timedelta(seconds=1)
LINGER = timedelta(seconds=20)  # longer than any statement of ingest lives (broker/direct.py)

logger = log.get(__name__)

_KIND_OF: Mapping[str, FeedbackKind] = MappingProxyType(
    {name: kind for kind, name in EVENT_TYPES.items() if kind is not None}
)
_COLUMNS = (
    EventRow.xact,
    EventRow.id,
    EventRow.type,
    EventRow.source,
    EventRow.owner_id,
    EventRow.delegate_id,
    EventRow.grant_id,
    EventRow.recipient_hash,
    EventRow.data,
    func.coalesce(EventRow.owner_view, EventRow.delegate_view).is_not(None).label("heard"),
)
# As in the feed: what is above may be followed by an earlier transaction that has not ended yet.
_SETTLED = text("events.xact < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
_PINNED = ("enable_sort", "enable_seqscan", "enable_bitmapscan")


class _Preferences(msgspec.Struct, frozen=True):
    """What a subscription event says that the recipient wants from now on."""

    unsubscribe_all: bool | None = None


class _Told(msgspec.Struct, frozen=True):
    """What is read of an event's data. `recipients`: of its message, where that is told."""

    identity: str
    message_id: str
    sent_at: datetime
    occurred_at: datetime
    recipient: str | None = None
    recipients: int | None = None
    final: bool | None = None
    bounce_type: str | None = None
    bounce_sub_type: str | None = None
    complaint_sub_type: str | None = None
    feedback_type: str | None = None
    new_topic_preferences: _Preferences | None = None


_Found = Row[int, UUID, str, str, UUID | None, UUID | None, UUID | None, str | None, dict[str, Any], bool]


async def run(
    db: Database,
    folds: Sequence[Fold],
    *,
    only: Sequence[UUID] | None = None,
    most: int = MOST,
    pace: timedelta = timedelta(0),
) -> int:
    """Adds up the next `most` events of one owner that is due (of those in `only`); 0 when none is.

    `db` has the role broker_worker. `pace`: between two small batches of one owner, since each costs a dozen round
    trips, however small.
    """
    do = partial(reckon, db, folds, most=most, pace=pace)
    return await due.work(db, KIND, do, most=1, lease=LEASE, only=only)


async def reckon(
    db: Database, folds: Sequence[Fold], claim: Claim, *, most: int = MOST, pace: timedelta = timedelta(0)
) -> None:
    """One transaction: the sums, the cursor and the end of the lease, or none of them.

    `Superseded`, with nothing written, when another worker has claimed the reckoning since.
    """
    async with db.begin(Caller.system(claim.tenant_id, job="reckoning")) as session:
        query = select(ReckoningRow.after_xact, ReckoningRow.after_id, ReckoningRow.asleep, func.now()).where(
            ReckoningRow.id == claim.id, ReckoningRow.fence == claim.fence
        )
        found = (await session.execute(query)).one_or_none()
        if found is None:
            raise Superseded(f"The reckoning of {claim.id} was claimed by another worker.")
        xact, event_id, asleep, now = found
        rows = await next_events(session, claim.tenant_id, (xact, event_id), most=most)
        events = reckoned(rows)
        if events:
            for fold in folds:
                await fold(session, events, now=now)
            reach("reckonings.folded")
        if rows:
            await _move(session, claim, after_xact=rows[-1].xact, after_id=rows[-1].id, asleep=False)
            await due.settle(session, claim, again_in=timedelta(0) if len(rows) > most // 2 else pace)
        elif await _waiting(session, claim.tenant_id, (xact, event_id)):
            await due.settle(session, claim, again_in=SOON)
        elif asleep:
            await due.settle(session, claim, again_in=None)
        else:
            await _move(session, claim, asleep=True)
            await due.settle(session, claim, again_in=LINGER)
    reach("reckonings.moved")


async def _move(session: AsyncSession, claim: Claim, **values: Any) -> None:
    await session.execute(update(ReckoningRow).where(ReckoningRow.id == claim.id).values(**values))


async def next_events(session: AsyncSession, owner_id: UUID, after: tuple[int, UUID], *, most: int) -> Sequence[_Found]:
    """Up to `most` of the owner's next events, along the index of its feed; a message is never cut in two.

    Pinned for this one statement: of a day that was never analysed the planner would read and sort everything.
    """
    query = _events(owner_id, after).where(_SETTLED).limit(most)
    await session.execute(_planner("off"))
    rows = (await session.execute(query)).all()
    await session.execute(_planner("on"))
    return rows if len(rows) < most else whole(rows)


async def _waiting(session: AsyncSession, owner_id: UUID, after: tuple[int, UUID]) -> bool:
    """Whether there is more, as soon as an older transaction ends."""
    await session.execute(_planner("off"))
    return (await session.execute(_events(owner_id, after).limit(1))).one_or_none() is not None


def _events(owner_id: UUID, after: tuple[int, UUID]) -> "Select[Any]":
    return (
        select(*_COLUMNS)
        .where(EventRow.owner_id == owner_id, tuple_(EventRow.xact, EventRow.id) > tuple_(*after))
        .order_by(EventRow.xact, EventRow.id)
    )


def _planner(switch: str) -> Any:
    return text("SELECT " + ", ".join(f"set_config('{name}', '{switch}', true)" for name in _PINNED))


def whole(rows: Sequence[_Found]) -> Sequence[_Found]:
    """The rows without those of the last message, which may go on; all of them where there is no other message.

    The events of one message were made one after another, in one transaction.
    """
    last = _message(rows[-1])
    kept = len(rows)
    while kept and _message(rows[kept - 1]) == last:
        kept -= 1
    return rows[:kept] or rows


def reckoned(rows: Sequence[_Found]) -> list[Reckoned]:
    """The feedback events among these rows, in their order."""
    of_message = Counter(_message(row) for row in rows)
    made = []
    for row in rows:
        kind = _KIND_OF.get(row.type)
        if kind is not None and (event := _reckoned(row, kind, of_message[_message(row)])) is not None:
            made.append(event)
    return made


def _message(row: _Found) -> tuple[int, str, object]:
    """Whatever came in one SNS message: one transaction, one kind, one mail."""
    return row.xact, row.type, row.data.get("message_id")


def _reckoned(row: _Found, kind: FeedbackKind, together: int) -> Reckoned | None:
    try:
        told = msgspec.convert(row.data, _Told)
    except msgspec.ValidationError as error:
        # An event that cannot be read must not stop all that come after it.
        logger.warning("event not reckoned", event_id=str(row.id), type=row.type, error=str(error))
        return None
    return Reckoned(
        event_id=row.id,
        kind=kind,
        owner_id=row.owner_id,
        delegate_id=row.delegate_id,
        grant_id=row.grant_id,
        identity_arn=told.identity,
        source=row.source,
        message_id=told.message_id,
        sent_at=told.sent_at,
        occurred_at=told.occurred_at,
        recipient=told.recipient,
        recipient_hash=row.recipient_hash,
        recipients=told.recipients or together,
        final=told.final,
        bounce_type=told.bounce_type,
        bounce_sub_type=told.bounce_sub_type,
        feedback_type=told.feedback_type,
        complaint_sub_type=told.complaint_sub_type,
        opted_out=told.new_topic_preferences.unsubscribe_all if told.new_topic_preferences else None,
        heard=row.heard,
    )
