"""What Postgres is told once and for all: sessions that do not linger in a transaction, tables cleared up in time."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.caller import NOBODY
from broker.db import Database, Role, connect, sessions
from broker.direct import Direct
from broker.errors import Unavailable
from broker.ids import new_id
from broker.migrate import migrate
from tests.kernel.test_direct import pid_after_a_loss
from tests.operating import operating
from tests.servers import Postgres, at, execute
from tests.webhooks.waiting import until_told

SHOW = "SELECT current_setting('idle_in_transaction_session_timeout') AS told"
PID = "SELECT pg_backend_pid() AS pid"
AT_ONCE = "1ms"

# Queues: a fixed number of dead rows, however large the table; at full speed, since they die by thousands a second.
# A lane and what is summed up are updated in place (PostgreSQL, storage-hot): that needs room in their pages.
QUEUE = {"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "20000"}
SMALL = {"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "2000"}
HASTE = {"autovacuum_vacuum_cost_delay": "0"}
TABLES = {
    "deliveries": {**QUEUE, **HASTE},
    "delivery_deltas": {**QUEUE, **HASTE},
    "delivery_counts": {**SMALL, **HASTE, "fillfactor": "70"},
    "lanes": {**SMALL, **HASTE, "fillfactor": "50"},
    "latencies": {"autovacuum_vacuum_scale_factor": "0.05", **HASTE, "fillfactor": "70"},
    "dead_deliveries": {"autovacuum_vacuum_scale_factor": "0.05"},
    "endpoint_secrets": {"fillfactor": "70"},
    "endpoints": {"fillfactor": "90"},
    "replays": {"fillfactor": "50"},
    "digests": {"fillfactor": "70"},
}


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_whose_rows_come_and_go_is_cleared_up_in_time(engine: AsyncEngine, table: str) -> None:
    query = text("SELECT reloptions FROM pg_class WHERE oid = CAST(:name AS regclass)")
    async with engine.connect() as connection:
        options = await connection.scalar(query, {"name": table})

    assert TABLES[table] == dict(option.split("=") for option in options)


async def test_no_session_may_stay_idle_in_a_transaction(database_url: str) -> None:
    """One that did would hold the dead rows of every queue (PostgreSQL, routine-vacuuming)."""
    pool, line = connect(database_url, pool_size=1), Direct(database_url, role=Role.INGEST)
    async with Database(sessions(pool), role=Role.API).begin(NOBODY) as session:
        pooled = await session.scalar(text(SHOW))
    (direct,) = await line.fetch(SHOW)
    await pool.dispose()
    await line.close()

    assert ("10s", "10s") == (pooled, direct["told"])


async def gone(watcher: "asyncpg.Connection[asyncpg.Record]", pid: int) -> bool:
    """Whether this session is over."""
    return not await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", pid)


async def test_a_pooled_session_that_idles_in_a_transaction_is_cut_off(database_url: str) -> None:
    """Its user is told to come back, and the next one gets another session."""
    pool = connect(database_url, pool_size=1)
    db = Database(sessions(pool), role=Role.API)
    pids = []

    async def idle() -> None:
        async with db.begin(NOBODY) as session, operating(database_url) as watcher:
            pids.append(await session.scalar(text(PID)))
            await session.execute(text(f"SET idle_in_transaction_session_timeout = '{AT_ONCE}'"))
            await until_told(lambda: gone(watcher, pids[0]), seconds=30)
            await session.execute(text(PID))

    with pytest.raises(Unavailable):
        await idle()
    async with db.begin(NOBODY) as session:
        pids.append(await session.scalar(text(PID)))
    await pool.dispose()

    assert 2 == len(set(pids))


async def test_a_direct_line_that_idles_in_a_transaction_is_cut_off_and_made_again(database_url: str) -> None:
    line = Direct(database_url, role=Role.INGEST, settings={"idle_in_transaction_session_timeout": AT_ONCE})
    (first,) = await line.fetch(PID)
    await line.fetch("BEGIN")

    async with operating(database_url) as watcher:
        await until_told(lambda: gone(watcher, first["pid"]), seconds=30)
    second = await pid_after_a_loss(line)  # it is no session any more a moment before its connection is closed
    await line.close()

    assert first["pid"] != second


async def test_days_begin_at_midnight_of_utc_wherever_the_server_thinks_it_is(
    postgres: Postgres, database_url: str
) -> None:
    """With the server's own zone, partitions would begin elsewhere than the days that are counted and signed."""
    name = f"zone_{new_id().hex}"
    owner_url = await asyncio.to_thread(postgres.create_database, name)
    await execute(owner_url, f"ALTER DATABASE {name} SET timezone = 'Pacific/Auckland'")
    await migrate(owner_url)
    url = at(database_url, name)
    pool, line = connect(url, pool_size=1), Direct(url, role=Role.INGEST)

    (row,) = await line.fetch("SELECT current_setting('timezone') AS zone")
    async with Database(sessions(pool), role=Role.API).begin(NOBODY) as session:
        zone = await session.scalar(text("SELECT current_setting('timezone')"))
        bounds = (
            await session.scalars(
                text(
                    "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                    " WHERE i.inhparent = 'events'::regclass"
                )
            )
        ).all()
    await line.close()
    await pool.dispose()
    await asyncio.to_thread(postgres.drop_database, name)

    assert ("UTC", "UTC") == (row["zone"], zone)
    assert "DEFAULT" in bounds
    assert len(bounds) > 1
    assert [] == [bound for bound in bounds if bound != "DEFAULT" and bound.count(" 00:00:00+00'") != 2]
