"""The worker process: a bell that breaks is mended, and a part that ends takes the process with it, loudly."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from broker.gateways.queue import DELIVERIES, POLICIES, QUEUE_OF, ArqBell, connect, disconnect
from broker.ids import new_id
from broker.local.environment import LOCAL_SETTINGS, without_cloud
from broker.parts import Parts
from broker.settings import Settings
from workers import doorbell, main

DEADLINE = 60.0
UNREADABLE = b"\xff\xfe"  # no id of arq's: those are text
FALLEN = """
import sys
from workers import doorbell, main

async def fall(*_):
    raise RuntimeError("the bell fell down")

doorbell.answer = fall
sys.argv = ["workers.main", "policy"]
main.run()
"""


async def poison(url: str, queue: str) -> None:
    """Puts an entry into a queue that arq's worker cannot read, ahead of all others."""
    pool = connect(url, queue)
    await pool.zadd(queue, {UNREADABLE: 1})
    await disconnect(pool)


@pytest.mark.parametrize("queue", [DELIVERIES, POLICIES])
async def test_an_entry_that_breaks_the_bell_is_logged_once_and_rung_past(
    redis_url: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """arq decodes ids as UTF-8 and ends at one that is not; the entry goes, so that the next does not end too."""
    monkeypatch.setattr(doorbell, "RESTART_AFTER", 0.05)
    rung = asyncio.Event()

    def ring(_ids: Sequence[UUID]) -> None:
        rung.set()

    await poison(redis_url, queue)
    bell = ArqBell(redis_url)
    with capture_logs() as logs:
        task = asyncio.create_task(doorbell.answer(redis_url, queue, {kind: [ring] for kind in QUEUE_OF}))
        async with asyncio.timeout(DEADLINE):
            while not rung.is_set():
                await bell.ring({DELIVERIES: "lanes", POLICIES: "identities"}[queue], [new_id()])
                await asyncio.wait({asyncio.ensure_future(rung.wait()), task}, timeout=0.1)
        ended = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await bell.close()

    broken = [line for line in logs if line["event"] == "doorbell broken; its queue is emptied"]
    assert not ended
    assert [(queue, "error", True)] == [(line["queue"], line["log_level"], line["exc_info"]) for line in broken]


async def test_a_queue_that_is_no_queue_is_mended_too(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis answers WRONGTYPE, which is an error of Redis and no sign that it is gone."""
    monkeypatch.setattr(doorbell, "RESTART_AFTER", 0.05)
    pool = connect(redis_url, DELIVERIES)
    await pool.set(DELIVERIES, "no sorted set")
    task = asyncio.create_task(doorbell.answer(redis_url, DELIVERIES, {}))
    async with asyncio.timeout(DEADLINE):
        while await pool.exists(DELIVERIES):
            await asyncio.wait({task}, timeout=0.02)
    await disconnect(pool)
    ended = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert not ended


async def _end() -> None:
    return


async def _fail() -> None:
    raise RuntimeError("broken")


async def _cancel() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(("part", "reason"), [(_end, None), (_fail, RuntimeError), (_cancel, None)])
async def test_a_part_that_ends_by_itself_ends_the_rest_and_is_named(
    part: Callable[[], Coroutine[None, None, None]], reason: type[Exception] | None
) -> None:
    well = asyncio.create_task(_wait(), name="well")
    broken = asyncio.create_task(part(), name="pump")

    with capture_logs() as logs:
        async with asyncio.timeout(DEADLINE):
            stopped = await main.attend([well, broken], asyncio.Event())

    assert (False, True) == (stopped, well.cancelled())
    assert ["pump"] == [line["part"] for line in logs]
    assert reason is (type(logs[0]["exc_info"]) if logs[0]["exc_info"] else None)


@pytest.mark.parametrize("name", ["feedback", "all"])
@pytest.mark.parametrize("setting", ["feedback_queues", "event_queues"])
async def test_whatever_queue_is_set_is_polled(settings: Settings, name: str, setting: str) -> None:
    """Those of EventBridge, too, where SNS has none."""
    queue = {setting: "eu-west-1=http://127.0.0.1:9/123456789012/feedback"}
    parts = Parts(msgspec.structs.replace(settings, **queue))

    tasks = main.begin(parts, main.QUEUES[name])

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await parts.close()
    assert "poller" in {task.get_name() for task in tasks}


async def test_a_worker_that_is_told_to_stop_ends_well_and_says_nothing() -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(_wait())
    stop.set()

    with capture_logs() as logs:
        async with asyncio.timeout(DEADLINE):
            stopped = await main.attend([task], stop)

    assert (True, True, []) == (stopped, task.cancelled(), logs)


async def _wait() -> None:
    await asyncio.Event().wait()


def test_a_process_of_which_a_part_ended_says_why_and_does_not_exit_with_zero(
    settings: Settings, redis_url: str
) -> None:
    """Whoever watches over processes (systemd, Compose) starts it again only then."""
    environment = {
        **without_cloud(os.environ),
        **LOCAL_SETTINGS,
        "BROKER_DATABASE_URL": settings.database_url,
        "BROKER_REDIS_URL": redis_url,
        "BROKER_SECRET_KEYS": settings.secret_keys,
        "BROKER_API_KEY_PEPPER": settings.api_key_pepper,
        "BROKER_LOG_FORMAT": "json",
        "BROKER_AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "BROKER_AWS_ACCOUNT_ID": "999999999999",
        "BROKER_AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "none",
    }

    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", FALLEN], env=environment, capture_output=True, check=False, text=True, timeout=300
    )

    assert 1 == done.returncode, done.stderr
    assert "the bell fell down" in done.stderr
    assert "doorbell of broker:policies" in done.stderr
