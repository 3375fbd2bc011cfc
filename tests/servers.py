"""Real servers for the tests: the ones that are named, containers where a Docker engine answers, else embedded ones."""

import asyncio
import contextlib
import gc
import os
import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from docker import DockerClient
from docker.errors import DockerException
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from testcontainers.postgres import PostgresContainer
from testcontainers.redis import RedisContainer

from broker.local.postgres import EmbeddedPostgres
from broker.local.redis import EmbeddedRedis

APP = "broker_test_app"
EMPTY = "template1"


class Postgres(Protocol):
    """A server: the owner of the tables, the login of the service, and further databases."""

    owner_url: str
    app_url: str

    def create_database(self, name: str, *, template: str = EMPTY) -> str:
        """One more database, empty or a copy; the URL of its owner."""

    def drop_database(self, name: str) -> None:
        """Removes it again."""


class GivenPostgres:
    """A server that somebody else runs; `url` is a login that may make databases and roles."""

    def __init__(self, url: str) -> None:
        self.owner_url = url
        password = secrets.token_hex(16)
        asyncio.run(
            execute(
                url,
                f"DO $$ BEGIN CREATE ROLE {APP} LOGIN NOINHERIT; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
                f"ALTER ROLE {APP} PASSWORD '{password}'",
            )
        )
        self.app_url = make_url(url).set(username=APP, password=password).render_as_string(hide_password=False)

    def create_database(self, name: str, *, template: str = EMPTY) -> str:
        """One more database, empty or a copy; the URL of its owner."""
        asyncio.run(execute(self.owner_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        return at(self.owner_url, name)

    def drop_database(self, name: str) -> None:
        """Removes it again."""
        asyncio.run(execute(self.owner_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


class OwnPostgres:
    """The embedded server."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self.owner_url = server.owner_url
        self.app_url = server.app_url

    def create_database(self, name: str, *, template: str = EMPTY) -> str:
        """One more database, empty or a copy; the URL of its owner."""
        self._server.create_database(name, template=template)
        return at(self.owner_url, name)

    def drop_database(self, name: str) -> None:
        """Removes it again."""
        self._server.drop_database(name)


class OneDatabase:
    """A server as one sees it who works in one of its databases."""

    def __init__(self, server: Postgres, name: str) -> None:
        self._server = server
        self.owner_url = at(server.owner_url, name)
        self.app_url = at(server.app_url, name)

    def create_database(self, name: str, *, template: str = EMPTY) -> str:
        """One more database, empty or a copy; the URL of its owner."""
        return self._server.create_database(name, template=template)

    def drop_database(self, name: str) -> None:
        """Removes it again."""
        self._server.drop_database(name)


def at(url: str, database: str) -> str:
    """The URL of another database of the same server, for the same login."""
    return make_url(url).set(database=database).render_as_string(hide_password=False)


async def execute(url: str, *statements: str) -> None:
    """Runs statements outside a transaction."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


@contextlib.contextmanager
def postgres(directory: Path) -> Iterator[Postgres]:
    """The Postgres of this test session. The embedded one is not durable: nobody pulls the plug during the tests.

    No transaction of autovacuum's holds up what waits for all those that began before.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield GivenPostgres(url)
    elif has_docker():
        with PostgresContainer("postgres:18", driver="asyncpg").with_command("-c autovacuum=off") as container:
            yield GivenPostgres(container.get_connection_url())
    else:
        with EmbeddedPostgres.start(directory, durable=False, autovacuum=False, discard=True) as server:
            yield OwnPostgres(server)


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[str]:
    """The URL of a Redis for this test session."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
    elif has_docker():
        with RedisContainer("redis:8") as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
    else:
        with EmbeddedRedis.start(directory) as server:
            yield server.url


def has_docker() -> bool:
    """Whether a Docker engine answers."""
    with warnings.catch_warnings():
        # Docker's client leaves its socket open where nobody answers: it is collected here, not in some test.
        warnings.simplefilter("ignore", ResourceWarning)
        found = _finds_docker()
        gc.collect()
    return found


def _finds_docker() -> bool:
    try:
        client = DockerClient.from_env(timeout=2)
    except DockerException:
        return False
    client.close()
    return True
