"""Transactions: what a database in trouble looks like to a tenant, and what its errors may say."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.caller import NOBODY, Caller
from broker.db import Database, Role, connect, sessions
from broker.errors import Unavailable
from broker.ids import new_id


async def test_an_error_of_a_statement_does_not_show_its_parameters(committed_db: Database) -> None:
    """They hold digests, names and recipients' addresses, and errors are logged."""
    with pytest.raises(DBAPIError) as failed:
        async with committed_db.begin(NOBODY) as session:
            await session.execute(text("SELECT CAST(:canary AS text), 1 / 0"), {"canary": "canary@example.org"})

    assert "canary@example.org" not in str(failed.value)


@pytest.mark.parametrize(
    "statement",
    [
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '55P03'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '57014'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53300'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '58030'; END $$",
        "DO $$ BEGIN SET LOCAL transaction_read_only = on; CREATE TABLE x (); END $$",
    ],
)
async def test_trouble_that_passes_is_unavailable(committed_db: Database, statement: str) -> None:
    """A lock not had in time, a deadlock, a statement cut off, no connection left, a broken disk, a standby."""
    with pytest.raises(Unavailable):
        async with committed_db.begin(NOBODY) as session:
            await session.execute(text(statement))


async def test_a_pool_that_is_used_up_is_unavailable(engine: AsyncEngine) -> None:
    """Whoever waits too long for a connection is told to come back."""
    small = connect(engine.url.render_as_string(hide_password=False), pool_size=1, pool_wait=0.05)
    database = Database(sessions(small), role=Role.API)

    async def hold(until: asyncio.Event, held: asyncio.Event) -> None:
        async with database.read(NOBODY):
            held.set()
            await until.wait()

    until, held = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(hold(until, held))
    await asyncio.wait_for(held.wait(), 30)

    with pytest.raises(Unavailable):
        async with database.read(NOBODY):
            pass

    until.set()
    await holding
    await small.dispose()


async def test_role_and_tenant_come_with_the_begin_and_go_with_the_transaction(committed_db: Database) -> None:
    """No statement runs before them, and none after the transaction under them: connections are used again."""
    tenants = [new_id(), new_id()]
    seen = []
    for tenant in tenants:
        async with committed_db.begin(Caller.system(tenant, job="test")) as session:
            entered = text("SELECT current_user, current_setting('app.tenant_id'), pg_backend_pid()")
            seen.append(tuple((await session.execute(entered)).one()))
    async with committed_db.read(NOBODY) as session:
        nobody = (await session.execute(text("SELECT current_setting('app.tenant_id')"))).scalar_one()

    assert [(Role.API, str(tenant)) for tenant in tenants] == [each[:2] for each in seen]
    assert "" == nobody
