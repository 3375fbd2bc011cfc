"""The embedded Redis is private, forgets everything, and dies with us."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from broker.local.child import PortTakenError
from broker.local.redis import EmbeddedRedis
from tests.local.helpers import end, is_gone, read_pid, start_parent, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis.start(tmp_path_factory.mktemp("redis with space")) as running:
        yield running


async def test_its_url_gives_access(server: EmbeddedRedis) -> None:
    async with Redis.from_url(server.url) as client:
        await client.set("key", "value")

        assert await client.get("key") == b"value"


async def test_it_lets_nobody_in_without_the_password(server: EmbeddedRedis) -> None:
    async with Redis(port=server.port) as client:
        with pytest.raises(AuthenticationError):
            await client.get("key")


def test_its_password_is_in_no_file_and_no_command_line(tmp_path: Path) -> None:
    password = b"a-password-to-look-for"
    with EmbeddedRedis.start(tmp_path, password=password.decode()) as server:
        command_line = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        files = [path.name for path in tmp_path.rglob("*") if password in path.read_bytes()]

    assert password not in command_line
    assert files == []


async def test_it_is_reached_by_loopback_only_and_saves_nothing(server: EmbeddedRedis) -> None:
    async with Redis.from_url(server.url) as client:
        settings = {name: (await client.config_get(name))[name] for name in ("bind", "save", "appendonly")}

    assert settings == {"bind": "127.0.0.1", "save": "", "appendonly": "no"}


def test_two_run_side_by_side_in_one_directory(tmp_path: Path) -> None:
    with EmbeddedRedis.start(tmp_path) as one, EmbeddedRedis.start(tmp_path) as other:
        ports = {one.port, other.port}

    assert len(ports) == 2
    assert is_gone(one.pid)
    assert is_gone(other.pid)


def test_a_port_that_is_taken_is_said_to_be(server: EmbeddedRedis, tmp_path: Path) -> None:
    with pytest.raises(PortTakenError, match="Address already in use"):
        EmbeddedRedis.start(tmp_path, port=server.port)


async def test_it_can_come_back_empty_under_the_same_url(tmp_path: Path, port: int) -> None:
    with EmbeddedRedis.start(tmp_path, port=port, password="the-same") as first:
        async with Redis.from_url(first.url) as client:
            await client.set("key", "value")
        first.kill()

        with EmbeddedRedis.start(tmp_path, port=port, password="the-same") as second:
            async with Redis.from_url(first.url) as client:
                value = await client.get("key")

    assert first.url == second.url
    assert value is None


PARENT = """
import sys, time
from pathlib import Path
from broker.local.redis import EmbeddedRedis
print(EmbeddedRedis.start(Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    parent = start_parent(PARENT, tmp_path)
    pid = read_pid(parent)
    was_there = not is_gone(pid)
    parent.kill()
    wait_for(lambda: is_gone(pid))
    end(parent)

    assert was_there
