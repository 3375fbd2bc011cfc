"""Things that rise and fall outside of us, such as how full a queue is: the last reading, which `/metrics` shows."""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from broker.caller import NOBODY
from broker.db import Database
from broker.webhooks.ledger.models import LevelRow


class Level(StrEnum):
    """What is read, each by Region."""

    WAITING = "queue_waiting"
    """Messages of feedback that wait in SQS."""
    IN_FLIGHT = "queue_in_flight"
    """Messages that a worker has in hand."""
    DEAD = "queue_dead"
    """Messages in the dead-letter queue."""


async def tell(db: Database, label: str, read: Mapping[Level, int]) -> None:
    """Writes the readings of one label; one statement. `db` has the role broker_pump."""
    rows = [{"name": name.value, "label": label, "value": value} for name, value in sorted(read.items())]
    new = insert(LevelRow).values(rows)
    told = new.on_conflict_do_update(
        index_elements=[LevelRow.name, LevelRow.label], set_={"value": new.excluded.value, "at": func.now()}
    )
    async with db.begin(NOBODY) as session:
        await session.execute(told)
