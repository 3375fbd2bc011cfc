"""The database as an operator's command uses it: one connection, and a sentence where that is not to be had."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.db import connect
from broker.errors import Unavailable
from broker.local.child import StartError


@contextmanager
def usable() -> Iterator[None]:
    """Makes a `StartError` of what says that the database cannot be used."""
    try:
        yield
    except (OSError, DBAPIError, Unavailable) as error:
        raise StartError(f"the database cannot be used: {first_line(error)}") from error


@asynccontextmanager
async def engine_for(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with a single connection, closed at the end."""
    engine = connect(url, pool_size=1)
    try:
        yield engine
    finally:
        await engine.dispose()


def first_line(error: Exception) -> str:
    """What the database said, without the statement."""
    cause = getattr(error, "orig", None) or error
    return str(cause).partition("\n")[0] or type(cause).__name__
