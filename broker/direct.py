"""A connection of its own for hot statements: one role for good, its own planner settings, one round trip a call.

Transactions through `db.Database` cost four round trips and an ORM; what runs thousands of times a minute goes this
way, each statement a transaction of its own. The role and the settings belong to the connection, so it must not pass a
pooler in transaction mode.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import asyncpg
from sqlalchemy import make_url

from broker.db import SESSION, Role
from broker.errors import Unavailable
from broker.roundtrips import ROUND_TRIPS
from broker.trouble import PASSING, PATIENCE

CONNECT_TIMEOUT = 5.0  # seconds
CLOSE_TIMEOUT = 1.0
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Direct:
    """A `Line` of its own: one connection, made when it is needed, and again when lost; one statement at a time."""

    def __init__(
        self,
        url: str,
        *,
        role: Role,
        settings: Mapping[str, str] = _NOTHING,
        first: str = "",
        again: str = "",
        patience: float = PATIENCE,
    ) -> None:
        """`first`: a statement for every new connection, such as taking an advisory lock for as long as it lives.

        `again`: one more for a connection that comes after one that was lost or could not be made.
        `patience`: seconds after which a statement without an answer is given up, with its connection.
        """
        parts = make_url(url)
        # SQLAlchemy's name for what the driver, given a URL, calls sslmode.
        query = {"sslmode" if name == "ssl" else name: value for name, value in parts.query.items()}
        self._dsn = parts.set(drivername="postgresql", query=query).render_as_string(hide_password=False)
        self._settings = {**SESSION, "jit": "off", **settings, "role": role.value}
        self._first, self._again = first, again
        self._patience = patience
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._had_trouble = False
        self._turn = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of one statement, which is committed with it; `Unavailable` when it could not be done now."""
        async with self._turn:
            with _translated():
                connection = await self._connected()
                ROUND_TRIPS.add()
                try:
                    return await connection.fetch(statement, *arguments, timeout=self._patience)
                except asyncpg.ReadOnlySQLTransactionError:  # no longer the primary: the next try asks who is
                    self._drop()
                    raise
                except asyncpg.PostgresError:
                    raise
                except BaseException:  # cut off in the middle: what the connection would answer next is unknown
                    self._drop()
                    raise

    async def close(self) -> None:
        """Closes the connection; it would be made again."""
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await connection.close(timeout=CLOSE_TIMEOUT)

    @property
    def is_open(self) -> bool:
        """Whether its connection stands, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            is_again = self._had_trouble or self._connection is not None
            self._had_trouble = True  # until one stands
            connection = await asyncpg.connect(self._dsn, timeout=CONNECT_TIMEOUT, server_settings=self._settings)
            try:
                for statement in (self._first, self._again if is_again else ""):
                    if statement:
                        await connection.execute(statement, timeout=self._patience)
            except BaseException:
                connection.terminate()
                raise
            self._connection, self._had_trouble = connection, False
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection, self._had_trouble = None, True


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        if str(error.sqlstate).startswith(PASSING):
            raise Unavailable("The database could not do this right now; nothing was changed.") from error
        raise
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise Unavailable("The database cannot be reached right now; nothing was changed.") from error
