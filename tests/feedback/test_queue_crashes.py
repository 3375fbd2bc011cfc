"""A real feedback worker is killed or ended at a named point: nothing is lost, and nothing becomes two events."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from broker.db import Database
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Settings
from tests.feedback.conftest import World, make_world
from tests.feedback.queues import Place, placed
from tests.feedback.test_queues import polling, signed, stored
from tests.local.programs import clean_environment
from tests.sandbox.aws import Account
from tests.sandbox.aws import Aws as LocalAws
from tests.webhooks.waiting import until, until_told

STARTED = 60.0  # seconds; the machine may be busy with other tests


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalAws]:
    with start_in_thread(dialect=Dialect(sns_retry_seconds=0.02)) as running:
        yield LocalAws(running)


@pytest_asyncio.fixture
async def place(cloud: LocalAws, settings: Settings) -> AsyncIterator[Place]:
    async with placed(cloud, settings) as found:
        yield found
    cloud.control("DELETE", "faults")


@pytest_asyncio.fixture
async def world(committed_db: Database) -> World:
    return await make_world(committed_db)


@asynccontextmanager
async def worker(place: Place, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`broker worker feedback` as a process of its own, killed at the end."""
    settings = place.settings
    keys = Account(place.aws, settings.aws_account_id).keys
    environment = clean_environment(
        {
            "BROKER_DATABASE_URL": settings.database_url,
            "BROKER_SECRET_KEYS": settings.secret_keys,
            "BROKER_API_KEY_PEPPER": settings.api_key_pepper,
            "BROKER_REDIS_URL": settings.redis_url,
            "BROKER_ENVIRONMENT": "local",
            "BROKER_REGISTRATION": "open",
            "BROKER_AWS_ACCOUNT_ID": settings.aws_account_id,
            "BROKER_AWS_REGION": settings.aws_region,
            "BROKER_AWS_ENDPOINT_URL": settings.aws_endpoint_url,
            "BROKER_FEEDBACK_QUEUES": settings.feedback_queues,
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        }
    )
    words = (sys.executable, "-m", "broker.cli", "worker", "feedback")
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*words, env=environment, stdout=file, stderr=file)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def fault(place: Place, operation: str, *, after: bool = False) -> None:
    """The next such call of the broker is never answered; `after`: it takes effect all the same."""
    given = {"service": "sqs", "operation": operation, "account_id": place.settings.aws_account_id}
    place.aws.control("POST", "faults", {"error": "timeout", "times": 1, "after": after, **given})


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_between_commit_and_delete_loses_nothing_and_makes_no_second_event(
    place: Place, world: World, tmp_path: Path, *, after: bool
) -> None:
    """It is killed while it waits for the answer to its delete, which SQS has heard (`after`) or not."""
    place.put(*(signed(place, world, number) for number in range(3)))
    fault(place, "DeleteMessageBatch", after=after)
    async with worker(place, tmp_path / "log") as process:
        await until(lambda: place.aws.control("GET", "faults") == [], seconds=STARTED)  # it waits for that answer
        await until(lambda: place.depth() == ((0, 0) if after else (0, 3)), seconds=STARTED)
        process.kill()
        await process.wait()
    assert await stored(world, 3)
    place.show_again()

    async with polling(place):
        await until(place.is_empty)

    assert 3 == len(await world.events(world.delegate))
    assert 6 == len(await world.deliveries())


async def test_a_crash_after_the_receive_loses_nothing(place: Place, world: World, tmp_path: Path) -> None:
    """SQS has handed them out, and the worker is killed before it has heard of it."""
    place.put(*(signed(place, world, number) for number in range(3)))
    fault(place, "ReceiveMessage", after=True)
    async with worker(place, tmp_path / "log") as process:
        await until(lambda: place.depth() == (0, 3), seconds=STARTED)
        process.kill()
        await process.wait()
    place.show_again()

    async with polling(place):
        await until(place.is_empty)

    assert 3 == len(await world.events(world.delegate))


async def test_a_worker_ends_in_good_order_and_at_once(place: Place, world: World, tmp_path: Path) -> None:
    """By SIGTERM, in the middle of a long poll, and after it has done its work."""
    place.put(signed(place, world))
    log = tmp_path / "log"
    async with worker(place, log) as process:
        await until(place.is_empty, seconds=STARTED)
        await until_told(lambda: stored(world))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):  # seconds; a long poll takes 20
            code = await process.wait()

    assert 0 == code, log.read_text()
    assert "worker stopped" in log.read_text()


async def test_a_feedback_worker_without_a_queue_says_so(settings: Settings) -> None:
    words = (sys.executable, "-m", "broker.cli", "worker", "feedback")
    environment = clean_environment(
        {
            "BROKER_DATABASE_URL": settings.database_url,
            "BROKER_SECRET_KEYS": settings.secret_keys,
            "BROKER_API_KEY_PEPPER": settings.api_key_pepper,
            "BROKER_REGISTRATION": "open",
        }
    )
    process = await asyncio.create_subprocess_exec(*words, env=environment, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()

    assert (1, True) == (process.returncode, b"Neither BROKER_FEEDBACK_QUEUES nor BROKER_EVENT_QUEUES is set" in said)
