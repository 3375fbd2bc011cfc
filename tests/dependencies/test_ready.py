"""`/health/ready` tells the truth: which dependency is gone, since when, and whether that matters."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.local.redis import EmbeddedRedis
from broker.settings import Settings
from tests.dependencies.conftest import serving
from tests.local.helpers import reserved_port
from tests.proxy import Proxy


@pytest.fixture
def settings_by_way(own_settings: Settings, way: Proxy) -> Settings:
    """The database is reached by `way`."""
    return msgspec.structs.replace(own_settings, database_url=way.url(own_settings.database_url))


def told(answer: tuple[int, Any]) -> tuple[int, str, str, str]:
    """Status code, and how the whole, the database and Redis are."""
    status, said = answer
    return status, said["status"], said["database"]["status"], said["redis"]["status"]


async def test_without_redis_it_is_ready_and_degraded(own_settings: Settings, tmp_path: Path) -> None:
    """And all is well again when Redis is back, at the same address and empty."""
    with reserved_port() as port:
        start = partial(EmbeddedRedis.start, tmp_path, port=port, password="the-same")
        first = await asyncio.to_thread(start)
        async with serving(msgspec.structs.replace(own_settings, redis_url=first.url)) as api:
            well = await api.ready()
            first.kill()
            first.stop()
            gone, before = [await api.ready() for _ in range(2)], datetime.now(UTC)
            second = await asyncio.to_thread(start)
            back = await api.ready()
        second.stop()

    assert (200, "ok", "ok", "ok") == told(well) == told(back)
    assert {(200, "degraded", "ok", "unavailable")} == {told(each) for each in gone}
    assert 1 == len({each["redis"]["since"] for _, each in gone})
    lost, found = (datetime.fromisoformat(each[1]["redis"]["since"]) for each in (gone[0], back))
    assert datetime.fromisoformat(well[1]["redis"]["since"]) < lost < before < found


@pytest.mark.parametrize("hurt", [Proxy.refuse, Proxy.stall])
async def test_without_the_database_it_is_not_ready(settings_by_way: Settings, way: Proxy, hurt: Any) -> None:
    """Refused or silent, the answer comes by itself, and says when to ask again."""
    async with serving(settings_by_way) as api:
        well = await api.ready()
        hurt(way)
        async with asyncio.timeout(15):
            answer = await api.http.get("/health/ready")
        way.flow()
        back = await api.ready()

    gone = (answer.status_code, answer.json())
    assert (200, "degraded", "ok", "unavailable") == told(well) == told(back)
    assert (503, "unavailable", "unavailable", "unavailable") == told(gone)
    assert "2" == answer.headers["retry-after"]
    times = [datetime.fromisoformat(each[1]["database"]["since"]) for each in (well, gone, back)]
    assert times[0] < times[1] < times[2]


async def test_it_is_alive_whatever_is_gone(settings_by_way: Settings, way: Proxy) -> None:
    """Nobody is to kill a process because its database is away."""
    async with serving(settings_by_way) as api:
        way.refuse()
        answer = await api.http.get("/health/live")

    assert 200 == answer.status_code
