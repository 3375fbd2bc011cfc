"""A Redis that is wiped, read-only, silent or away: rings are lost, requests are not delayed, the bell comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from broker.gateways import queue
from broker.gateways.queue import POLICIES, ArqBell
from broker.ids import new_id
from broker.local.redis import EmbeddedRedis
from broker.settings import Settings
from tests.dependencies.conftest import serving
from tests.gateways.test_queue import listening
from tests.proxy import LOOPBACK, Proxy
from workers import doorbell

Hurt = Callable[["Place"], Awaitable[None]]


class Place:
    """A Redis and the way to it."""

    def __init__(self, server: EmbeddedRedis, way: Proxy) -> None:
        self.server = server
        self.way = way
        self.url = server.url.replace(f":{server.port}/", f":{way.port}/")

    async def command(self, *words: str) -> None:
        """By another way."""
        async with Redis.from_url(self.server.url) as client:
            await client.execute_command(*words)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    with await asyncio.to_thread(EmbeddedRedis.start, tmp_path) as server:
        async with Proxy(LOOPBACK, server.port).serving() as way:
            yield Place(server, way)
            way.flow()


async def _wipe(place: Place) -> None:
    await place.command("FLUSHALL")


async def _silence(place: Place) -> None:
    place.way.stall()


async def _black_hole(place: Place) -> None:
    """What a firewall does that forgets connections, or a host that is gone: no reset, and no answer for ever."""
    place.way.forget()


async def _refuse(place: Place) -> None:
    place.way.refuse()


async def _write_nothing(place: Place) -> None:
    await place.command("REPLICAOF", "127.0.0.1", "1")  # a replica only reads, as after a failover


async def _mend(place: Place) -> None:
    place.way.flow()
    await place.command("REPLICAOF", "NO", "ONE")


HURTS = [_wipe, _silence, _black_hole, _refuse, _write_nothing]
SOON = 6.0  # seconds; TCP itself would take a quarter of an hour
PATIENCE = 60.0  # seconds; what a slow machine may make of it
GIVEN_UP_AFTER = 15.0  # seconds; more than five requests take a slow machine


@pytest.mark.parametrize("hurt", HURTS)
async def test_the_bell_is_heard_again_whatever_happened_to_redis(
    place: Place, hurt: Hurt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no process started again, and the connections that both sides had lost or not."""
    monkeypatch.setattr(doorbell, "RESTART_AFTER", 0.05)
    bell = ArqBell(place.url)
    async with listening(place.url, POLICIES) as rung, asyncio.timeout(PATIENCE):
        await bell.ring("identities", [new_id()])
        await rung.wait()
        await hurt(place)
        await bell.ring("identities", [new_id()])
        await _mend(place)
        rung.clear()
        await ring_until(bell, rung)
    await bell.close()


async def test_a_worker_notices_that_nobody_is_at_the_other_end(place: Place) -> None:
    """Nothing is said on the old connections any more; the bell is heard within seconds, by new ones."""
    bell = ArqBell(place.url)
    async with listening(place.url, POLICIES) as rung, asyncio.timeout(PATIENCE):
        await bell.ring("identities", [new_id()])
        await rung.wait()
        await at_rest(place)
        await _black_hole(place)
        before = place.way.connections
        rung.clear()
        await ring_until(bell, rung)
    await bell.close()

    assert place.way.connections > before
    assert queue.ANSWER_TIMEOUT < SOON


async def at_rest(place: Place) -> None:
    """Waits until no job is left: what a worker asks then, it asks on a connection that it had before."""
    async with Redis.from_url(place.server.url) as client:
        while await client.keys("arq:job:*") or await client.keys("arq:in-progress:*"):  # noqa: ASYNC110 - Redis's doing
            await asyncio.sleep(0.01)


async def ring_until(bell: ArqBell, rung: asyncio.Event) -> None:
    """Rings, as what happens meanwhile does, until it is heard."""
    heard = asyncio.create_task(rung.wait())
    while not heard.done():
        await bell.ring("identities", [new_id()])
        await asyncio.wait({heard}, timeout=0.1)


@pytest.mark.parametrize("hurt", HURTS)
async def test_a_tenant_notices_nothing(
    place: Place, own_settings: Settings, hurt: Hurt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rings is answered as fast as ever, and as well: long before a ring is given up."""
    for name in ("RING_TIMEOUT", "ANSWER_TIMEOUT"):
        monkeypatch.setattr(queue, name, GIVEN_UP_AFTER)
    async with serving(msgspec.structs.replace(own_settings, redis_url=place.url)) as api:
        connection_id = (await api.connect()).json()["id"]
        await api.verify(connection_id)
        await hurt(place)
        began = time.monotonic()
        answers = [await api.verify(connection_id) for _ in range(5)]
        spent = time.monotonic() - began
        await _mend(place)
        place.way.reset()  # what still waits for an answer gets none

    assert [202] * 5 == [each.status_code for each in answers]
    assert spent < GIVEN_UP_AFTER
