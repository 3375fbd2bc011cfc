"""Day partitions of events, event keys and attempts: made ahead, dropped behind.

An event is kept for `event_retention`, and longer while an endpoint that takes events must still get it. What an
endpoint that is paused or disabled has not taken by then is given up and counted as dead; dead deliveries go with their
events. Keys are kept 25 days longer, so that a message that SNS repeats (for 23 days) about anything that happened to a
mail within the retention is still known.
"""

from datetime import timedelta

from sqlalchemy import Date, Integer, Text, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker import log
from broker.caller import NOBODY
from broker.db import Database

AHEAD = 8
REPEATS = timedelta(days=25)
MOST_AT_ONCE = 10_000

logger = log.get(__name__)


async def make(db: Database) -> int:
    """Makes the partitions of yesterday and the days to come that are missing; returns how many were."""
    async with db.begin(NOBODY) as session:
        made: int = (
            await session.execute(text("SELECT make_days(current_date - 1, :days)"), {"days": AHEAD + 1})
        ).scalar_one()
        return made


# Each in bounded batches, with no index on days: they are walks over rows that are few, or gone soon. What an endpoint
# that was deleted got at the last moment was never to be delivered: it is cancelled, like the rest before.
_CANCEL = text(
    """
    WITH gone AS (
      DELETE FROM deliveries d USING endpoints p
      WHERE p.id = d.endpoint_id AND p.state = 'deleted' RETURNING d.tenant_id, d.event_at
    ), counted AS (
      INSERT INTO delivery_deltas (tenant_id, day, cancelled)
      SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*) FROM gone GROUP BY 1, 2
    )
    SELECT count(*) FROM gone
    """
)
_GIVE_UP = text(
    """
    WITH gone AS (
      DELETE FROM deliveries WHERE (endpoint_id, event_id) IN (
        SELECT d.endpoint_id, d.event_id FROM deliveries d JOIN endpoints p ON p.id = d.endpoint_id
        WHERE p.state IN ('paused', 'disabled') AND d.event_at < current_date - CAST(:days AS integer) LIMIT :most)
      RETURNING tenant_id, event_at
    ), counted AS (
      INSERT INTO delivery_deltas (tenant_id, day, dead)
      SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*) FROM gone GROUP BY 1, 2
    )
    SELECT count(*) FROM gone
    """
)
_FORGET = text(
    """
    WITH gone AS (
      DELETE FROM dead_deliveries WHERE (endpoint_id, event_id) IN (
        SELECT endpoint_id, event_id FROM dead_deliveries
        WHERE event_at < current_date - CAST(:days AS integer) LIMIT :most)
      RETURNING 1
    )
    SELECT count(*) FROM gone
    """
)
_DROP = text("SELECT drop_days(:parent, current_date - CAST(:days AS integer))").columns(day=Date())
_DROP_ASTRAY = text("SELECT drop_astray(:parent, current_date - CAST(:days AS integer), :most)").bindparams(
    bindparam("parent", type_=Text()), bindparam("most", type_=Integer())
)


async def drop(db: Database, *, retention: timedelta) -> int:
    """Ends what is older than `retention` (25 days at least) and returns how many partitions were dropped.

    `db` has the role broker_pump. Each partition goes in a transaction of its own; `Unavailable` when a lock could not
    be had at once: what is left is dropped the next time.
    """
    await end(db, retention=retention)
    dropped = 0
    for parent, kept in (("attempts", retention), ("events", retention), ("event_keys", retention + REPEATS)):
        while await _drop_one(db, parent, kept):
            dropped += 1
        while await _drop_astray(db, parent, kept) >= MOST_AT_ONCE:
            pass
    return dropped


async def end(db: Database, *, retention: timedelta) -> int:
    """Cancels, gives up and forgets the deliveries of which no more can come; returns how many were still pending."""
    async with db.begin(NOBODY) as session:
        ended = int((await session.execute(_CANCEL)).scalar_one())
    while given_up := await _batch(db, _GIVE_UP, retention):
        ended += given_up
        logger.warning("deliveries given up: their endpoints did not take them in time", number=given_up)
    while await _batch(db, _FORGET, retention):
        pass
    return ended


async def _batch(db: Database, statement: TextClause, retention: timedelta) -> int:
    async with db.begin(NOBODY) as session:
        named = {"days": retention.days, "most": MOST_AT_ONCE}
        return int((await session.execute(statement, named)).scalar_one())


async def _drop_one(db: Database, parent: str, kept: timedelta) -> bool:
    async with db.begin(NOBODY) as session:
        day = (await session.execute(_DROP, {"parent": parent, "days": kept.days})).scalar_one()
    if day is not None:
        logger.info("day dropped", table=parent, day=str(day))
    return day is not None


async def _drop_astray(db: Database, parent: str, kept: timedelta) -> int:
    async with db.begin(NOBODY) as session:
        named = {"parent": parent, "days": kept.days, "most": MOST_AT_ONCE}
        return int((await session.execute(_DROP_ASTRAY, named)).scalar_one())


async def astray(session: AsyncSession) -> dict[str, int]:
    """Rows that lie in no day's partition, by table; more than a few: partitions were not made in time."""
    return {row.parent: row.number for row in await session.execute(text("SELECT * FROM count_astray()"))}
