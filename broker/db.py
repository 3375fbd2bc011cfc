"""Transactions: one per use case, under the role and the tenant of its caller."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import Text, bindparam, event, text
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from broker import idempotency
from broker.bell import Bell, SilentBell
from broker.caller import Caller
from broker.points import reach
from broker.quotas import Quotas
from broker.roundtrips import ROUND_TRIPS
from broker.trouble import PATIENCE, translated, watch


class Role(StrEnum):
    """Postgres roles, each with the rights of one job; the login itself has none (migration 0001)."""

    API = "broker_api"
    INGEST = "broker_ingest"
    PUMP = "broker_pump"
    WORKER = "broker_worker"


CONNECT_TIMEOUT = 5.0  # seconds
SESSION: Mapping[str, str] = MappingProxyType(
    {
        "application_name": "ses-delegation-broker",
        "statement_timeout": "15s",
        "idle_in_transaction_session_timeout": "10s",
        "lock_timeout": "5s",
        "timezone": "UTC",  # days begin and end by it, whatever the server is set to
    }
)
"""What every session begins with; statements and idle transactions are cut off, so that no old snapshot stays open."""

# Both settings last for the transaction only: a pooled connection leaks neither, behind pgbouncer either.
_ENTER = text("SELECT set_config('role', :role, true), set_config('app.tenant_id', :tenant, true)").bindparams(
    bindparam("role", type_=Text()), bindparam("tenant", type_=Text())
)


class Line(Protocol):
    """Where hot statements go (`broker/direct.py`)."""

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of one statement, which is committed with it; `Unavailable` when it could not be done now."""
        ...


class Database:
    """Opens transactions for use cases; rings the bell for what they woke, once they are committed.

    `line`, where there is one, has the same role, and is for single statements that are asked all the time.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        role: Role,
        bell: Bell | None = None,
        line: Line | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self._quotas = quotas or Quotas()
        self._sessions = sessions
        self._role = role
        self._bell = bell or SilentBell()
        self.line = line

    def as_role(self, role: Role, *, line: Line | None = None) -> "Database":
        """The same connections under another role; `line` has that one."""
        return Database(self._sessions, role=role, bell=self._bell, line=line, quotas=self._quotas)

    @asynccontextmanager
    async def begin(self, caller: Caller) -> AsyncIterator[AsyncSession]:
        """A transaction of `caller`: committed at the end, rolled back on error; the bell rings after the commit."""
        rung: dict[str, set[UUID]] = {}
        with translated() as progress:
            async with self._sessions() as session, session.begin():
                session.info["woken"] = rung
                session.info["quotas"] = self._quotas
                await self._enter(session, caller)
                if caller.idempotency:
                    await idempotency.start(session, caller.idempotency, caller.tenant_id)
                yield session
                reach("db.committing")
                progress.committing = True
        reach("db.committed")
        for kind, ids in rung.items():
            await self._bell.ring(kind, ids)

    @asynccontextmanager
    async def read(self, caller: Caller) -> AsyncIterator[AsyncSession]:
        """A transaction of `caller` that only reads; never committed."""
        with translated():
            async with self._sessions() as session:
                await self._enter(session, caller)
                yield session

    async def _enter(self, session: AsyncSession, caller: Caller) -> None:
        connection = (await (await session.connection()).get_raw_connection()).driver_connection
        if isinstance(connection, _Connection) and not connection.is_in_transaction():
            connection.enter(self._role, caller.tenant_id)
        else:
            await session.execute(_ENTER, {"role": self._role.value, "tenant": str(caller.tenant_id or "")})


if TYPE_CHECKING:
    _DriverConnection = asyncpg.Connection[asyncpg.Record]
else:
    _DriverConnection = asyncpg.Connection  # generic in its stubs only


class _Connection(_DriverConnection):
    """Sends role and tenant of a transaction along with its BEGIN: one round trip instead of two."""

    _entering = ""

    def enter(self, role: Role, tenant: UUID | None) -> None:
        """Of the next transaction. Neither is text of anybody's: a member of an enum and a parsed id."""
        self._entering = (
            f" SELECT set_config('role', '{role.value}', true), set_config('app.tenant_id', '{tenant or ''}', true)"
        )

    async def execute(self, query: str, *args: Any, **how: Any) -> str:
        """As asyncpg's own, which starts a transaction by it."""
        if self._entering and query.startswith("BEGIN"):
            query, self._entering = query + self._entering, ""
        return await super().execute(query, *args, **how)


def connect(url: str, *, pool_size: int = 20, pool_wait: float = 10.0, patience: float = PATIENCE) -> AsyncEngine:
    """A pool of connections.

    `pool_wait`: seconds to wait for a free connection; `patience`: for the answer to a statement, and for anything.

    The connection last used is used next: it has its statements prepared. None is made beyond the pool: one that is
    closed after its use costs Postgres a process and the driver a dozen round trips, just when there is most to do.
    """
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=min(pool_wait, patience),
        hide_parameters=True,  # errors are logged, and parameters are addresses, digests and secrets
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        connect_args={
            "timeout": min(CONNECT_TIMEOUT, patience),
            "command_timeout": patience,
            "connection_class": _Connection,
            "server_settings": dict(SESSION),
        },
    )
    ROUND_TRIPS.watch(engine)
    watch(engine)
    event.listen(engine.sync_engine, "checkout", _replace_if_closed)
    return engine


def _replace_if_closed(connection: AdaptedConnection, _record: object, _proxy: object) -> None:
    """The driver knows when the server has closed a connection: no round trip is needed to ask, as a ping would."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """The maker of sessions over one pool; loaded rows stay readable after the commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def check_role(engine: AsyncEngine) -> str | None:
    """Why this login must not be used, as a sentence, or None: it could bypass row-level security (design, I2)."""
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                text(
                    "SELECT session_user AS login, bool_or(rolsuper OR rolbypassrls) AS bypasses,"
                    " bool_or(EXISTS (SELECT FROM pg_class WHERE relowner = r.oid AND relname = 'tenants')) AS owns"
                    " FROM pg_roles r WHERE pg_has_role(session_user, r.oid, 'MEMBER')"
                )
            )
        ).one()
    if row.bypasses:
        return f"The database login {row.login} is or may become one that bypasses row-level security; use another."
    if row.owns:
        return f"The database login {row.login} owns the tables or may become their owner, past row-level security."
    return None
