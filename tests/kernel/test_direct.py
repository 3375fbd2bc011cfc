"""The line of the hot statements: one connection, made again when it is lost, its role and settings for good."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import make_url

from broker.db import Role
from broker.direct import Direct
from broker.errors import Unavailable
from broker.roundtrips import ROUND_TRIPS
from tests.operating import end, operating
from tests.proxy import LOOPBACK, Proxy
from tests.webhooks.waiting import until_told

PID = "SELECT pg_backend_pid() AS pid"

Make = Callable[..., Direct]


@pytest_asyncio.fixture
async def make(database_url: str) -> AsyncIterator[Make]:
    """`make(…)` gives a line that is closed at the end."""
    lines: list[Direct] = []

    def one(url: str = database_url, **wants: Any) -> Direct:
        lines.append(Direct(url, role=Role.PUMP, **wants))
        return lines[-1]

    yield one
    for line in lines:
        await line.close()


async def pid_of(line: Direct) -> int:
    (row,) = await line.fetch(PID)
    return int(row["pid"])


async def pid_after_a_loss(line: Direct) -> int:
    """One statement may meet the loss: it was not done, and says that it may be tried again."""
    try:
        return await pid_of(line)
    except Unavailable:
        return await pid_of(line)


async def answers(line: Direct) -> bool:
    """Whether it does; a slow machine may need more than the patience of a line that has little."""
    try:
        return 0 < await pid_of(line)
    except Unavailable:
        return False


async def at_work(database_url: str, pid: int) -> None:
    """Waits until this session has begun a statement."""
    query = "SELECT coalesce(bool_or(state = 'active'), false) FROM pg_stat_activity WHERE pid = $1"
    async with operating(database_url) as connection:
        await until_told(lambda: connection.fetchval(query, pid), seconds=30)


async def test_a_line_keeps_its_role_and_settings_on_one_connection(make: Make) -> None:
    line = make(settings={"enable_seqscan": "off"})
    pids = {await pid_of(line) for _ in range(3)}
    (row,) = await line.fetch("SELECT current_user AS role, current_setting('enable_seqscan') AS scan")

    assert ("broker_pump", "off", 1) == (row["role"], row["scan"], len(pids))


async def test_a_connection_that_is_lost_is_made_again(make: Make, database_url: str) -> None:
    line = make()
    first = await pid_of(line)
    await end(database_url, first)

    assert first != await pid_after_a_loss(line)


async def test_a_statement_that_is_cut_off_is_unavailable(make: Make, database_url: str) -> None:
    line = make()
    pid = await pid_of(line)
    sleeping = asyncio.create_task(line.fetch("SELECT pg_sleep(60)"))
    await at_work(database_url, pid)
    await end(database_url, pid)

    with pytest.raises(Unavailable):
        await sleeping
    assert pid != await pid_of(line)


async def test_a_server_that_cannot_be_heard_any_more_is_given_up(make: Make, database_url: str) -> None:
    """Nothing refuses and nothing answers: without a limit of its own, a loop of the engine would wait for ever."""
    parts = make_url(database_url)
    async with Proxy(parts.host or LOOPBACK, parts.port or 5432).serving() as proxy:
        line = make(proxy.url(database_url), patience=0.5)
        await until_told(lambda: answers(line), seconds=30)
        proxy.stall()
        with pytest.raises(Unavailable):
            await pid_of(line)
        proxy.flow()

        await until_told(lambda: answers(line), seconds=30)
        await line.close()


async def test_a_caller_that_gives_up_leaves_a_line_that_works(make: Make, database_url: str) -> None:
    """The answer of a statement that was given up is not taken for that of the next."""
    line = make()
    pid = await pid_of(line)
    sleeping = asyncio.create_task(line.fetch("SELECT 'the wrong answer' AS pid, pg_sleep(60)"))
    await at_work(database_url, pid)
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)

    assert 0 < await pid_of(line)


async def test_an_error_of_a_statement_is_no_trouble_of_the_database(make: Make) -> None:
    line = make()
    pid = await pid_of(line)

    with pytest.raises(asyncpg.DivisionByZeroError):
        await line.fetch("SELECT 1 / 0")
    with pytest.raises(asyncpg.DataError):
        await line.fetch("SELECT $1::smallint", 100_000)
    assert pid == await pid_of(line)


async def test_a_line_that_cannot_begin_as_it_must_is_not_used(make: Make) -> None:
    """A pump whose beacon is not lit holds nothing."""
    line = make(first="SELECT 1 / 0")

    for _ in range(2):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await pid_of(line)


async def test_the_first_statement_is_said_on_every_connection(make: Make, database_url: str) -> None:
    line = make(first="SET application_name = 'beacon'")
    told = []
    for _ in range(2):
        (row,) = await line.fetch("SELECT current_setting('application_name') AS name, pg_backend_pid() AS pid")
        told.append(row["name"])
        await end(database_url, row["pid"])
        await pid_after_a_loss(line)

    assert ["beacon", "beacon"] == told


async def test_a_line_says_more_on_a_connection_that_comes_after_a_loss(make: Make, database_url: str) -> None:
    line = make(again="SELECT set_config('app.again', 'yes', false)")
    told = []
    for _ in range(3):
        (row,) = await line.fetch("SELECT current_setting('app.again', true) AS again, pg_backend_pid() AS pid")
        told.append((row["again"], line.is_open))
        await end(database_url, row["pid"])
        await pid_after_a_loss(line)
    await line.close()
    closed = line.is_open
    (row,) = await line.fetch("SELECT current_setting('app.again', true) AS again")

    assert [(None, True), ("yes", True), ("yes", True)] == told
    assert (False, None) == (closed, row["again"])


async def test_a_line_says_more_on_a_connection_that_could_not_be_made_before(make: Make, database_url: str) -> None:
    parts = make_url(database_url)
    async with Proxy(parts.host or LOOPBACK, parts.port or 5432).serving() as proxy:
        line = make(proxy.url(database_url), again="SELECT set_config('app.again', 'yes', false)")
        proxy.refuse()
        with pytest.raises(Unavailable):
            await pid_of(line)
        proxy.flow()
        (row,) = await line.fetch("SELECT current_setting('app.again', true) AS again")
        await line.close()

    assert "yes" == row["again"]


async def test_a_line_can_be_closed_when_its_server_is_gone(make: Make, database_url: str) -> None:
    line = make()
    await end(database_url, await pid_of(line))

    await line.close()

    assert 0 < await pid_after_a_loss(line)


async def test_a_statement_is_one_round_trip(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = asyncio.current_task()
    counted: list[
        asyncio.Task[Any] | None
    ] = []  # a broker that another file has started here keeps its books meanwhile
    line = make()
    await pid_of(line)
    monkeypatch.setattr(ROUND_TRIPS, "add", lambda: counted.append(asyncio.current_task()))
    for _ in range(3):
        await pid_of(line)

    assert 3 == counted.count(ours)


async def test_a_server_that_only_reads_is_unavailable_and_asked_for_anew(make: Make) -> None:
    """After a failover the connection may still lead to what is a standby now."""
    line = make(settings={"default_transaction_read_only": "on"})
    before = await pid_of(line)
    with pytest.raises(Unavailable):
        await line.fetch("INSERT INTO levels (name, label, value) VALUES ('x', 'x', 1)")

    assert before != await pid_of(line)
