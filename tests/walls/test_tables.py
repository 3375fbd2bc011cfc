"""The second wall alone: what row-level security lets a role see, in every table, when a `where` is forgotten (I2)."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.db import Role
from broker.ids import new_id
from tests.servers import Postgres, execute
from tests.walls.tables import walk_tables


@pytest_asyncio.fixture
async def own_database(postgres: Postgres, migrated: str) -> AsyncIterator[str]:
    """A migrated database for one test: the walk locks every table, or finds the walls pulled down."""
    name = f"walls_{new_id().hex}"
    yield await asyncio.to_thread(postgres.create_database, name, template=migrated)
    await asyncio.to_thread(postgres.drop_database, name)


async def test_no_table_shows_or_takes_a_row_of_another_tenant(own_database: str) -> None:
    walked = await walk_tables(own_database)

    assert not walked.leaks, "\n".join(walked.leaks)
    assert walked.tables > 35
    assert walked.tried > 1000


async def test_the_walk_sees_a_wall_that_is_down(own_database: str) -> None:
    """Else the test above could not fail: one policy that shows all, one table without security, one right too many."""
    await execute(
        own_database,
        "CREATE POLICY all_of_it ON audit FOR SELECT TO broker_api USING (true)",
        "ALTER TABLE endpoints DISABLE ROW LEVEL SECURITY",
        "GRANT UPDATE (delegate_id) ON grants TO broker_worker",
        "GRANT SELECT ON levels TO broker_api",
    )

    leaks = set((await walk_tables(own_database)).leaks)

    assert {"api reads audit: 2 rows", "nobody as api reads audit: 2 rows", "api reads endpoints: 2 rows"} <= leaks
    assert {"worker moves delegate_id of grants: 1 rows", "api reads levels: 0 rows"} <= leaks


async def test_roles_own_nothing_and_cannot_get_past_the_wall(engine: AsyncEngine) -> None:
    """Nor can one become another, or the login do anything without becoming one of them (migration 0001)."""
    names = [role.value for role in Role]
    query = text(
        "SELECT rolname, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication,"
        " (SELECT count(*) FROM pg_class WHERE relowner = r.oid), (SELECT count(*) FROM pg_auth_members"
        " WHERE member = r.oid) FROM pg_roles r WHERE rolname = ANY (:names) ORDER BY rolname"
    )
    async with engine.connect() as connection:
        found = [tuple(row) for row in await connection.execute(query, {"names": names})]
        with pytest.raises(ProgrammingError, match="permission denied"):
            await connection.execute(text("SELECT FROM tenants"))

    assert [(name, False, 0, 0) for name in sorted(names)] == found


async def test_only_these_roles_cross_tenants_and_only_there(engine: AsyncEngine) -> None:
    """A policy without the tenant has to be on this list: what delivers, and what takes feedback in."""
    query = text(
        "SELECT DISTINCT role, tablename FROM pg_policies, unnest(roles) AS role WHERE schemaname = 'public'"
        " AND coalesce(qual, with_check) NOT LIKE '%current_tenant%'"
    )
    async with engine.connect() as connection:
        found: dict[str, set[str]] = {}
        for role, table in await connection.execute(query):
            found.setdefault(role, set()).add(table)

    assert {
        "broker_ingest": {
            "audit", "deliveries", "event_keys", "events", "grants", "identities", "quarantine", "reckonings", "routes",
            "topics",
        },
        "broker_pump": {
            "attempts", "dead_deliveries", "deliveries", "delivery_counts", "delivery_deltas",
            "endpoint_secrets", "endpoints", "events", "lanes", "latencies", "latency_totals", "levels", "quarantine",
            "tallies",
        },
    } == found  # fmt: skip
