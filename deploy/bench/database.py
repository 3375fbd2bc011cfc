"""The database of a run: its tables, the rows that it begins with, and questions to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from bench.history import add_history
from bench.world import World, seed
from broker.crypto import Keyring
from broker.local.postgres import EmbeddedPostgres
from broker.local.postgres_data import APP


@contextlib.asynccontextmanager
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to Postgres by one of the URLs of ``Stack.postgres``."""
    opened = await asyncpg.connect(url.replace("+asyncpg", "", 1))
    try:
        yield opened
    finally:
        await opened.close()


async def fill(
    postgres: EmbeddedPostgres, keyring: Keyring, world: World, urls: Sequence[str], *, events: int, pending: int
) -> None:
    """Write a history and the world, and leave nothing for later that would cost the run something."""
    async with connection(postgres.owner_url) as opened:
        await add_history(opened, keyring, events=events, pending=pending)
        await seed(opened, world, keyring, urls)
        await opened.execute("ANALYZE", timeout=600)
    async with connection(postgres.admin_url) as opened:
        await opened.execute("CHECKPOINT", timeout=600)


async def ask(url: str, sql: str, *arguments: object) -> Any:
    """One value."""
    async with connection(url) as opened:
        return await opened.fetchval(sql, *arguments)


def migrate(postgres: EmbeddedPostgres) -> None:
    """Bring the tables about."""
    from broker.migrate import migrate as bring_up  # noqa: PLC0415 — half a second, while the servers start

    asyncio.run(bring_up(postgres.owner_url, login=APP))
