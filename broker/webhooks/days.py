"""Day partitions of events, event keys and attempts, made ahead."""

from sqlalchemy import text

from broker.caller import NOBODY
from broker.db import Database

AHEAD = 8


async def make(db: Database) -> int:
    """Makes the partitions of yesterday and the days to come that are missing; returns how many were."""
    async with db.begin(NOBODY) as session:
        made: int = (
            await session.execute(text("SELECT make_days(current_date - 1, :days)"), {"days": AHEAD + 1})
        ).scalar_one()
        return made
