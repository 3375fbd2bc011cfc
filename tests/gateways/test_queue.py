"""The doorbell over a real Redis: what is rung is heard, and a Redis that is gone costs nothing but latency."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from broker.due import KINDS
from broker.gateways.queue import CONTROL, POLICIES, QUEUE_OF, ArqBell, decode, encode
from broker.ids import new_id
from broker.local.redis import EmbeddedRedis
from workers import doorbell

DEADLINE = 60.0


@asynccontextmanager
async def listening(url: str, queue: str) -> AsyncIterator[asyncio.Event]:
    """The supervised arq worker of one queue, and the event that it sets."""
    rung = asyncio.Event()

    def ring(_ids: Sequence[UUID]) -> None:
        rung.set()

    task = asyncio.create_task(doorbell.answer(url, queue, {kind: [ring] for kind in QUEUE_OF}))
    try:
        yield rung
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_rung_is_heard_on_its_own_queue(redis_url: str) -> None:
    """And by nobody else."""
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(POLICIES, CONTROL)  # what others rang here before
    bell = ArqBell(redis_url)
    async with listening(redis_url, POLICIES) as policies, listening(redis_url, CONTROL) as control:
        await bell.ring("identities", [new_id()])
        async with asyncio.timeout(DEADLINE):
            await policies.wait()
            heard_by_control = control.is_set()
            await bell.ring("routes", [new_id()])
            await control.wait()
    await bell.close()

    assert not heard_by_control


async def test_a_queue_that_is_rung_all_the_time_does_not_silence_another(redis_url: str) -> None:
    """And a ring for nobody is none."""
    bell = ArqBell(redis_url)
    async with listening(redis_url, POLICIES) as policies, listening(redis_url, CONTROL) as control:
        async with asyncio.timeout(DEADLINE):
            await bell.ring("routes", [])
            await bell.ring("identities", [new_id()])
            while not policies.is_set():
                await bell.ring("connections", [new_id()])
                await asyncio.sleep(0)
            await control.wait()  # it is looked at less often
    await bell.close()

    assert policies.is_set()


async def test_a_bell_can_be_rung_again_and_again(redis_url: str) -> None:
    """No job id is reused, so that no ring is swallowed by the one before it."""
    bell = ArqBell(redis_url)
    async with listening(redis_url, POLICIES) as rung, asyncio.timeout(DEADLINE):
        for _ in range(3):
            await bell.ring("identities", [new_id()])
            await rung.wait()
            rung.clear()
    await bell.close()


async def test_ringing_without_redis_raises_nothing_and_waits_for_nobody() -> None:
    """Nothing depends on it."""
    bell = ArqBell("redis://127.0.0.1:1/0")

    async with asyncio.timeout(0.5):
        await bell.ring("identities", [new_id()])
    await bell.close()


async def test_the_bell_rings_again_when_redis_is_back(tmp_path: Path) -> None:
    """A Redis that was killed and came back empty is used again, with nobody's help."""
    first = await asyncio.to_thread(EmbeddedRedis.start, tmp_path)
    url, port, password = first.url, first.port, first.url.split(":")[2].split("@")[0]
    bell = ArqBell(url)
    await bell.ring("identities", [new_id()])
    async with listening(url, POLICIES) as rung, asyncio.timeout(DEADLINE):
        await rung.wait()
        first.kill()
        first.stop()
        await bell.ring("identities", [new_id()])
        second = await asyncio.to_thread(EmbeddedRedis.start, tmp_path, port=port, password=password)
        rung.clear()
        heard = asyncio.create_task(rung.wait())
        while not heard.done():
            await bell.ring("identities", [new_id()])
            await asyncio.wait({heard}, timeout=0.1)

    await bell.close()
    second.stop()


def test_every_kind_of_due_row_has_a_queue() -> None:
    """A new table of due rows needs a bell; lanes, which are held by pumps, have one too."""
    assert KINDS | {"lanes"} == set(QUEUE_OF)


@pytest.mark.parametrize("job", [{"f": "look", "a": (POLICIES,), "k": {}, "t": 1, "et": 5}, {"r": ValueError("x")}])
def test_jobs_are_no_pickles(job: dict[str, Any]) -> None:
    """Whoever writes to Redis must not be able to run code in a worker."""
    assert not encode(job).startswith(b"\x80\x04")
    assert set(job) == set(decode(encode(job)))
