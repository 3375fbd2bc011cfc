"""What Prometheus is told: what all processes did, as the database knows it, and how this one is."""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.process_collector import ProcessCollector
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import NOBODY
from broker.db import Database
from broker.webhooks import counts, days
from broker.webhooks.ledger.families import Families, Reading, families_of, queue_of
from broker.webhooks.ledger.ledger import Sums, add_up
from broker.webhooks.ledger.models import LatencyRow, LatencyTotalRow, LevelRow, TallyRow

FRESH = 5.0  # seconds
SHARE = 20  # at most one twentieth of the time is spent reading
MOST_TENANTS = 200

Queue = Callable[[], int]


class Metrics:
    """Reads at most every five seconds, and less often where reading takes long. `db` has the role broker_pump.

    `queue` tells how many messages wait to be stored in this process.
    """

    def __init__(self, db: Database, *, queue: Queue = lambda: 0, fresh: float = FRESH) -> None:
        self._db = db
        self._queue = queue
        self._fresh = fresh
        self._text = b""
        self._good_until = 0.0
        self._lock = asyncio.Lock()
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    async def text(self) -> bytes:
        """In Prometheus' text format, version 0.0.4; `Unavailable` while the database cannot be reached."""
        async with self._lock:
            if not self._text or time.monotonic() >= self._good_until:
                began = time.monotonic()
                async with self._db.read(NOBODY) as session:
                    reading = await read(session)
                ended = time.monotonic()
                # In a thread: for many tenants it takes longer than the requests beside it should wait.
                self._text = await asyncio.to_thread(_written, reading)
                self._good_until = ended + max(self._fresh, SHARE * (ended - began) if self._fresh else 0.0)
            told = self._text
        return told + generate_latest(Families([queue_of(self._queue())])) + generate_latest(self._process)


def _written(reading: Reading) -> bytes:
    return generate_latest(Families(families_of(reading)))


async def read(session: AsyncSession) -> Reading:
    """Nine round trips; `deliveries` are of one moment."""
    lanes = (
        await session.execute(
            text("SELECT count(*) AS known, count(*) FILTER (WHERE claimed_until > now()) AS held FROM lanes")
        )
    ).one()
    total = await session.scalar(select(LatencyTotalRow))
    return Reading(
        deliveries=await counts.overview(session),
        dead_kept=await _number(session, "SELECT count(*) FROM dead_deliveries"),
        lanes=lanes.known,
        lanes_held=lanes.held,
        deltas=await _number(session, "SELECT count(*) FROM delivery_deltas"),
        astray=await days.astray(session),
        tallies={(row.name, row.label): row.value for row in await session.scalars(select(TallyRow))},
        levels={(row.name, row.label): (row.value, row.at) for row in await session.scalars(select(LevelRow))},
        latencies=add_up([Sums(total.counts, total.seconds)] if total is not None else []),
        tenants=await _tenants(session),
    )


async def _number(session: AsyncSession, query: str) -> int:
    return int((await session.execute(text(query))).scalar_one())


async def _tenants(session: AsyncSession) -> dict[UUID, Sums]:
    """The 200 busiest of the running hour and the one before, with both hours added up."""
    recent = LatencyRow.hour >= func.now() - text("interval '2 hours'")
    busiest = (
        select(LatencyRow.tenant_id)
        .where(recent)
        .group_by(LatencyRow.tenant_id)
        .order_by(func.sum(LatencyRow.total).desc(), LatencyRow.tenant_id)
        .limit(MOST_TENANTS)
    )
    found: dict[UUID, list[Sums]] = {}
    for row in await session.scalars(select(LatencyRow).where(recent, LatencyRow.tenant_id.in_(busiest))):
        found.setdefault(row.tenant_id, []).append(row.sums)
    return {tenant_id: add_up(rows) for tenant_id, rows in found.items()}
