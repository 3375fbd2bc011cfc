"""What an operator of the database does: looks at the sessions of the service and ends them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url


@asynccontextmanager
async def operating(url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection of the service's own login, under no role: it may end its own sessions."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    try:
        yield connection
    finally:
        await connection.close()


async def end(url: str, pid: int) -> None:
    """Ends a session and waits until it is gone."""
    async with operating(url) as connection:
        await connection.fetch("SELECT pg_terminate_backend($1, 5000)", pid)
