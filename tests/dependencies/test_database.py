"""A Postgres that is slow, silent, cut off or restarted: tenants are told to come back, and nothing is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import msgspec
import pytest
import pytest_asyncio

from broker.settings import Settings
from tests.dependencies.conftest import PATIENCE, Api, OwnPostgres, is_come_back, serving
from tests.feedback.sns import TOPIC, notification, signed
from tests.proxy import Proxy
from tests.webhooks.waiting import until_told

IN_TIME = 20 * PATIENCE.total_seconds()
"""Seconds in which a request is given up, on a slow machine too: some times what one thing may take, not for ever."""

Ask = Callable[[Api], Awaitable[httpx.Response]]


@asynccontextmanager
async def reaching(settings: Settings, way: Proxy) -> AsyncIterator[Api]:
    """A broker that reaches its database by `way`."""
    async with serving(msgspec.structs.replace(settings, database_url=way.url(settings.database_url))) as one:
        yield one
        way.flow()


@pytest_asyncio.fixture
async def api(own_settings: Settings, way: Proxy) -> AsyncIterator[Api]:
    """With a database that answers, slowly or not, or refuses."""
    async with reaching(own_settings, way) as one:
        yield one


@pytest_asyncio.fixture
async def hasty(own_settings: Settings, way: Proxy) -> AsyncIterator[Api]:
    """Soon gives up a database that says nothing."""
    async with reaching(msgspec.structs.replace(own_settings, database_patience=PATIENCE), way) as one:
        yield one


async def serves(api: Api) -> bool:
    """Whether a read and a write both succeed."""
    return (await api.me()).status_code == 200 and (await api.connect()).status_code == 201


@pytest.mark.parametrize("ask", [Api.me, Api.connect], ids=["read", "write"])
async def test_a_database_that_says_nothing_any_more_is_503_in_time(hasty: Api, way: Proxy, ask: Ask) -> None:
    """Neither refused nor answered: the one case in which a client without a limit of its own waits for ever."""
    way.stall()
    began = time.monotonic()
    answer = await ask(hasty)
    spent = time.monotonic() - began
    way.flow()

    assert is_come_back(answer)
    assert spent < IN_TIME
    await until_told(lambda: serves(hasty), seconds=30)


async def test_many_who_ask_a_silent_database_are_all_told_in_time(hasty: Api, way: Proxy) -> None:
    """More than there are connections: whoever has to connect first waits for that, too."""
    way.stall()
    began = time.monotonic()
    answers = await asyncio.gather(*(hasty.me() for _ in range(60)))
    spent = time.monotonic() - began
    way.flow()

    assert all(is_come_back(each) for each in answers)
    assert spent < IN_TIME
    await until_told(lambda: serves(hasty), seconds=30)


async def test_connections_that_were_forgotten_on_the_way_are_replaced(hasty: Api, way: Proxy) -> None:
    """As after a failover of a firewall: what was open carries nothing, and nobody says so."""
    await asyncio.gather(*(hasty.me() for _ in range(5)))
    way.forget()

    await until_told(lambda: serves(hasty), seconds=30)


@pytest.mark.parametrize("hurt", [Proxy.reset, Proxy.half_close])
async def test_connections_that_are_cut_are_made_again(api: Api, way: Proxy, hurt: Callable[[Proxy], None]) -> None:
    for _ in range(3):
        hurt(way)
        first, second = await api.connect(), await api.connect()

        assert first.status_code == 201 or is_come_back(first)
        assert 201 == second.status_code


async def test_a_slow_database_is_slow_and_right(api: Api, way: Proxy) -> None:
    way.latency = 0.02
    answers = [await api.connect() for _ in range(4)]  # a quota would make them wait for each other all the same
    way.latency = 0

    assert {201} == {each.status_code for each in answers}, [each.text for each in answers]
    assert 4 == len(await api.ids())


async def test_a_database_that_refuses_is_503_and_back_by_itself(api: Api, way: Proxy) -> None:
    way.refuse()
    answers = [await api.me(), await api.connect(), await api.http.get("/v1/grants")]
    way.flow()

    assert [True] * 3 == [is_come_back(each) for each in answers]
    await until_told(lambda: serves(api), seconds=30)


@pytest.mark.parametrize("hurt", [Proxy.refuse, Proxy.stall])
async def test_feedback_that_cannot_be_stored_is_503_so_that_sns_brings_it_again(
    hasty: Api, way: Proxy, hurt: Callable[[Proxy], None]
) -> None:
    """SNS tries again after a 5xx only (SNS Developer Guide, sns-message-delivery-retries); 404 would lose it."""
    path, message = "/v1/feedback/sns", signed(notification({}, TopicArn=TOPIC))

    async def is_of_nobody() -> bool:
        """404: a topic of nobody here, which only Postgres knows."""
        answer = await hasty.http.post(path, json=message)
        assert answer.status_code == 404 or is_come_back(answer)
        return answer.status_code == 404

    await until_told(is_of_nobody, seconds=30)
    hurt(way)
    began = time.monotonic()
    during = await hasty.http.post(path, json=message)
    spent = time.monotonic() - began
    way.flow()

    assert is_come_back(during)
    assert spent < IN_TIME
    await until_told(is_of_nobody, seconds=30)


async def test_an_answer_that_is_lost_after_the_commit_is_not_called_nothing(
    own_settings: Settings, way: Proxy
) -> None:
    """The commit arrives and its answer does not. Sent again under the same key it is one connection, not two."""
    patient = msgspec.structs.replace(own_settings, database_patience=4 * PATIENCE)  # all but one statement is answered
    async with reaching(patient, way) as api:
        await lose_an_answer(api, way)


async def lose_an_answer(api: Api, way: Proxy) -> None:
    """Of a write, and write again."""
    key = str(uuid4())
    way.silent_after = [b"COMMIT", b"COMMIT"]  # of the authentication, and of the connection
    lost = await api.connect("123456789012", key=key)
    way.flow()
    again = await api.connect("123456789012", key=key)

    assert is_come_back(lost)
    assert "same Idempotency-Key" in lost.json()["detail"]
    assert (201, "true") == (again.status_code, again.headers["idempotent-replayed"])
    assert 1 == len(await api.ids())


async def test_what_a_restart_cuts_off_is_told_and_never_half_done(
    own_settings: Settings, own_postgres: OwnPostgres
) -> None:
    """Killed under writes and started again: each write that was answered is there, and no 500 was."""
    async with serving(own_settings) as api:
        answers: list[httpx.Response] = []
        over = asyncio.Event()

        async def write() -> None:
            while not over.is_set():
                answers.append(await api.connect())
                await asyncio.sleep(0.005)

        writing = [asyncio.create_task(write()) for _ in range(4)]
        await until_told(lambda: _made(answers, 10), seconds=60)
        await asyncio.to_thread(own_postgres.kill)
        await until_told(lambda: _refused(answers), seconds=60)
        await asyncio.to_thread(own_postgres.start)
        made = len([each for each in answers if each.status_code == 201])
        await until_told(lambda: _made(answers, made + 10), seconds=60)
        over.set()
        await asyncio.gather(*writing)

        assert all(each.status_code == 201 or is_come_back(each) for each in answers)
        assert any(is_come_back(each) for each in answers)
        acknowledged = {each.json()["id"] for each in answers if each.status_code == 201}
        assert acknowledged <= await api.ids()


async def _refused(answers: list[httpx.Response]) -> bool:
    return any(is_come_back(each) for each in answers)


async def _made(answers: list[httpx.Response], number: int) -> bool:
    return len([each for each in answers if each.status_code == 201]) >= number
