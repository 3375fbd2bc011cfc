"""Keeping the books: what this process noted is written every few seconds, deltas are summed up, old hours dropped."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from sqlalchemy import BigInteger, Text, Uuid, bindparam, delete, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from broker import log
from broker.caller import NOBODY
from broker.db import Database
from broker.errors import BrokerError
from broker.points import reach
from broker.webhooks import counts
from broker.webhooks.ledger.ledger import Ledger, Stage, Sums, Taken, histogram_of
from broker.webhooks.ledger.models import LatencyRow
from broker.webhooks.ledger.service import KEPT

EVERY = 10.0  # seconds
SELDOM = 60.0  # seconds
SHARE = 100  # one hundredth of the time is spent writing, and more only where that would be too seldom
END_WITHIN = 5.0  # seconds
MOST_TENANTS = 100

logger = log.get(__name__)

# One statement for up to 100 tenants; the hour is the database's own, so no two processes' clocks are compared. Rows
# are written in the order of their keys: two processes at once wait for each other and never in a ring. Of two arrays
# the shorter one is filled up with NULL.
_ADD_TENANTS = text(
    """
    INSERT INTO latencies AS l (tenant_id, hour, ses_to_received, received_to_committed, committed_to_attempted,
      attempted_to_accepted, seconds, total)
    SELECT t.tenant_id, date_trunc('hour', now(), 'UTC'), CAST(t.first AS integer[]), CAST(t.second AS integer[]),
      CAST(t.third AS integer[]), CAST(t.fourth AS integer[]), CAST(t.seconds AS double precision[]), t.total
    FROM unnest(:tenant_ids, :first, :second, :third, :fourth, :seconds, :totals)
      AS t (tenant_id, first, second, third, fourth, seconds, total)
    ORDER BY t.tenant_id
    ON CONFLICT (tenant_id, hour) DO UPDATE SET
      ses_to_received = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(l.ses_to_received, EXCLUDED.ses_to_received) AS s (a, b)),
      received_to_committed = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(l.received_to_committed, EXCLUDED.received_to_committed) AS s (a, b)),
      committed_to_attempted = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(l.committed_to_attempted, EXCLUDED.committed_to_attempted) AS s (a, b)),
      attempted_to_accepted = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0)
        FROM unnest(l.attempted_to_accepted, EXCLUDED.attempted_to_accepted) AS s (a, b)),
      seconds = ARRAY(SELECT a + b FROM unnest(l.seconds, EXCLUDED.seconds) AS s (a, b)),
      total = l.total + EXCLUDED.total
    """
).bindparams(
    bindparam("tenant_ids", type_=ARRAY(Uuid())),
    *(bindparam(name, type_=ARRAY(Text())) for name in ("first", "second", "third", "fourth", "seconds")),
    bindparam("totals", type_=ARRAY(BigInteger())),
)
_ADD_ALL = text(
    """
    INSERT INTO latency_totals AS l (id, counts, seconds)
    VALUES (1, CAST(:counts AS bigint[]), CAST(:seconds AS double precision[]))
    ON CONFLICT (id) DO UPDATE SET
      counts = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0) FROM unnest(l.counts, EXCLUDED.counts) AS s (a, b)),
      seconds = ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0) FROM unnest(l.seconds, EXCLUDED.seconds) AS s (a, b))
    """
).bindparams(bindparam("counts", type_=Text()), bindparam("seconds", type_=Text()))
_ADD_TALLIES = text(
    """
    INSERT INTO tallies AS t (name, label, value)
    SELECT * FROM unnest(:names, :labels, :values) AS n (name, label, value) ORDER BY name, label
    ON CONFLICT (name, label) DO UPDATE SET value = t.value + EXCLUDED.value
    """
).bindparams(
    bindparam("names", type_=ARRAY(Text())),
    bindparam("labels", type_=ARRAY(Text())),
    bindparam("values", type_=ARRAY(BigInteger())),
)


async def flush(db: Database, ledger: Ledger) -> None:
    """Writes what the ledger has noted, in one transaction; on any error it is noted again, and the error raised.

    `db` has the role broker_pump. A commit whose answer is lost is written twice: a percentile can bear it.
    """
    taken = ledger.take()
    if taken.is_empty:
        return
    try:
        async with db.begin(NOBODY) as session:
            await _write(session, taken)
            reach("ledger.written")
    except BaseException:
        ledger.give_back(taken)
        raise


async def _write(session: AsyncSession, taken: Taken) -> None:
    tenants = sorted(taken.by_tenant.items(), key=lambda item: item[0].bytes)
    for start in range(0, len(tenants), MOST_TENANTS):
        await _add_tenants(session, dict(tenants[start : start + MOST_TENANTS]))
    if tenants:
        sums = taken.of_all
        await session.execute(_ADD_ALL, {"counts": _array(sums.counts), "seconds": _array(sums.seconds)})
    if taken.tallies:
        tallies = {
            "names": [what.value for what, _ in taken.tallies],
            "labels": [label for _, label in taken.tallies],
            "values": list(taken.tallies.values()),
        }
        await session.execute(_ADD_TALLIES, tallies)


async def _add_tenants(session: AsyncSession, tenants: Mapping[UUID, Sums]) -> None:
    await session.execute(
        _ADD_TENANTS,
        {
            "tenant_ids": list(tenants),
            "first": [_array(histogram_of(sums, Stage.SES_TO_RECEIVED)) for sums in tenants.values()],
            "second": [_array(histogram_of(sums, Stage.RECEIVED_TO_COMMITTED)) for sums in tenants.values()],
            "third": [_array(histogram_of(sums, Stage.COMMITTED_TO_ATTEMPTED)) for sums in tenants.values()],
            "fourth": [_array(histogram_of(sums, Stage.ATTEMPTED_TO_ACCEPTED)) for sums in tenants.values()],
            "seconds": [_array(sums.seconds) for sums in tenants.values()],
            "totals": [sum(sums.counts) for sums in tenants.values()],
        },
    )


def _array(numbers: Sequence[float]) -> str:
    """As Postgres writes an array; an array of arrays of several lengths has no type there."""
    return "{" + str(list(numbers))[1:-1] + "}"


async def forget(db: Database) -> int:
    """Drops the hours that are older than two weeks; tells how many rows that were. Role broker_pump."""
    async with db.begin(NOBODY) as session:
        old = delete(LatencyRow).where(LatencyRow.hour < func.now() - KEPT).returning(LatencyRow.total)
        return len((await session.scalars(old)).all())


@asynccontextmanager
async def kept(db: Database, ledger: Ledger, *, every: float = EVERY) -> AsyncIterator[None]:
    """Writes and sums up every few seconds while it is entered, and writes what is left at the end.

    `db` has the role broker_pump. Any number of processes may do so at once.
    """
    stop = asyncio.Event()
    keeping = asyncio.create_task(_keep(db, ledger, stop, every=every), name="ledger")
    try:
        yield
    finally:
        stop.set()
        _, hanging = await asyncio.wait({keeping}, timeout=END_WITHIN)
        for task in hanging:
            task.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(db: Database, ledger: Ledger, stop: asyncio.Event, *, every: float) -> None:
    """The loop, with a last round after `stop`; where there is much to write, it writes less often."""
    pause = every
    ended = False
    while not ended:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
        ended = stop.is_set()
        began = time.monotonic()
        await _safely(flush(db, ledger))
        pause = max(every, min(SHARE * (time.monotonic() - began), SELDOM))
        await _safely(_roll_up(db, stop))


async def _roll_up(db: Database, stop: asyncio.Event) -> None:
    while await counts.roll_up(db) >= counts.MOST_ROLLED_UP and not stop.is_set():
        pass
    reach("ledger.rolled_up")


async def _safely(work: Awaitable[None]) -> None:
    """The top of the loop: what fails is logged, and tried again the next time."""
    try:
        await work
    except BrokerError as error:
        logger.warning("the books were not written; it is tried again", error=error.detail)
    except Exception:
        logger.exception("the books were not written; it is tried again")
