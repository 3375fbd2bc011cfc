"""What was set aside: shown to the tenant whose topic it came through, else to operators, and forgotten in time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from broker.caller import NOBODY, Caller
from broker.db import Database
from broker.feedback.models import QuarantinedMessage, Topic
from broker.feedback.views import QuarantinedView

MOST_AT_ONCE = 10_000
SHOWN = 500  # characters of a payload, to operators


async def list_quarantined(
    db: Database, caller: Caller, *, after: UUID | None = None, limit: int = 50
) -> Sequence[QuarantinedView]:
    """Messages that came through topics of the caller's tenant, oldest first, up to `limit` after the id `after`.

    A broker topic is made for its owner but hears all senders' mail; what could not be attributed there may be about
    recipients that the owner must not see. So only who owns the topic itself sees the payload.
    """
    mine = and_(
        Topic.arn == QuarantinedMessage.topic_arn, Topic.tenant_id == caller.tenant, Topic.source == "tenant_topic"
    )
    query = (
        select(QuarantinedMessage, Topic.id)
        .outerjoin(Topic, mine)
        .where(QuarantinedMessage.tenant_id == caller.tenant)
        .order_by(QuarantinedMessage.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(QuarantinedMessage.id > after)
    async with db.read(caller) as session:
        return [_view(row, own_topic) for row, own_topic in await session.execute(query)]


async def list_of_nobody(db: Database, *, before: UUID | None = None, limit: int = 50) -> Sequence[QuarantinedView]:
    """What came through no tenant's topic, for operators: newest first, up to `limit` before the id `before`.

    The payload is clipped. `db` has the role broker_ingest.
    """
    clipped = func.left(QuarantinedMessage.payload, SHOWN)
    query = (
        select(QuarantinedMessage, clipped)
        .options(defer(QuarantinedMessage.payload))
        .where(QuarantinedMessage.tenant_id.is_(None))
        .order_by(QuarantinedMessage.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(QuarantinedMessage.id < before)
    async with db.read(NOBODY) as session:
        return [
            QuarantinedView(id=row.id, at=row.at, topic_arn=row.topic_arn[:SHOWN], reason=row.reason, payload=payload)
            for row, payload in await session.execute(query)
        ]


def _view(row: QuarantinedMessage, own_topic: UUID | None) -> QuarantinedView:
    payload = row.payload if own_topic is not None else None
    return QuarantinedView(id=row.id, at=row.at, topic_arn=row.topic_arn, reason=row.reason, payload=payload)


# The ids tell when they were made (UUIDv7: 48 bits of milliseconds), so the primary key serves.
_FORGET = text(
    """
    WITH gone AS (
      DELETE FROM quarantine WHERE id IN (
        SELECT id FROM quarantine
        WHERE id < CAST(rpad(lpad(to_hex(CAST(:before AS bigint)), 12, '0'), 32, '0') AS uuid) ORDER BY id LIMIT :most)
      RETURNING 1
    )
    SELECT count(*) FROM gone
    """
)


async def forget(db: Database, *, retention: timedelta) -> int:
    """Deletes what is older than `retention`, a batch at a time; how many. `db` has the role broker_pump."""
    async with db.read(NOBODY) as session:
        before = await _now(session) - retention
    forgotten = 0
    while True:
        async with db.begin(NOBODY) as session:
            named = {"before": int(before.timestamp() * 1000), "most": MOST_AT_ONCE}
            number = int((await session.execute(_FORGET, named)).scalar_one())
        forgotten += number
        if number < MOST_AT_ONCE:
            return forgotten


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(text("SELECT now()"))).scalar_one()
    return now
