"""Transactions: one per use case, under the role and the tenant of its caller."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    bindparam,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from broker import idempotency
from broker.bell import Bell, SilentBell
from broker.caller import Caller
from broker.errors import Unavailable
from broker.points import reach
from broker.roundtrips import ROUND_TRIPS


class Role(StrEnum):
    """Postgres roles, each with the rights of one job; the login itself has none (migration 0001)."""

    API = "broker_api"
    INGEST = "broker_ingest"
    PUMP = "broker_pump"
    WORKER = "broker_worker"


E = TypeVar("E", bound=StrEnum)


class EnumText(TypeDecorator[E]):
    """A StrEnum stored as text; which texts there may be is a check in the schema."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[E]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else self.kind(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.kind(value)


class Base(DeclarativeBase):
    """Every table. Columns follow their annotations: aware times, text, jsonb, arrays of text."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own hook, read once
        datetime: DateTime(timezone=True),
        str: Text(),
        dict[str, Any]: JSONB(),
        list[dict[str, Any]]: JSONB(),
        list[str]: ARRAY(Text()),
    }


# Here rather than beside its use, because `idempotency` lies below this module.
Table(
    "idempotency_keys",
    Base.metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("tenant_id", Uuid),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("sealed", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("idempotency_keys_created_at_idx", "created_at"),
)

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
    ) -> None:
        self._sessions = sessions
        self._role = role
        self._bell = bell or SilentBell()
        self.line = line

    def as_role(self, role: Role, *, line: Line | None = None) -> "Database":
        """The same connections under another role; `line` has that one."""
        return Database(self._sessions, role=role, bell=self._bell, line=line)

    def with_bell(self, bell: Bell) -> "Database":
        """The same connections with another bell."""
        return Database(self._sessions, role=self._role, bell=bell, line=self.line)

    @asynccontextmanager
    async def begin(self, caller: Caller) -> AsyncIterator[AsyncSession]:
        """A transaction of `caller`: committed at the end, rolled back on error; the bell rings after the commit."""
        rung: dict[str, set[UUID]] = {}
        with _translated():
            async with self._sessions() as session, session.begin():
                session.info["woken"] = rung
                await self._enter(session, caller)
                if caller.idempotency:
                    await idempotency.start(session, caller.idempotency, caller.tenant_id)
                yield session
                reach("db.committing")
        reach("db.committed")
        for kind, ids in rung.items():
            await self._bell.ring(kind, ids)

    @asynccontextmanager
    async def read(self, caller: Caller) -> AsyncIterator[AsyncSession]:
        """A transaction of `caller` that only reads; never committed."""
        with _translated():
            async with self._sessions() as session:
                await self._enter(session, caller)
                yield session

    async def _enter(self, session: AsyncSession, caller: Caller) -> None:
        await session.execute(_ENTER, {"role": self._role.value, "tenant": str(caller.tenant_id or "")})


# SQLSTATE classes and codes (PostgreSQL, errcodes-appendix): connection exception, a server that only reads (as after a
# failover), serialization failure, deadlock, insufficient resources, lock not available, operator intervention (a
# statement that was cut off is one), system error.
PASSING = ("08", "25006", "40001", "40P01", "53", "55P03", "57", "58")


@contextmanager
def _translated() -> Iterator[None]:
    """Lost connections and what passes by itself become `Unavailable`, so that the tenant is told to come back."""
    try:
        yield
    except (InterfaceError, OperationalError, ConnectionError) as error:
        raise Unavailable("The database cannot be reached right now; nothing was changed.") from error
    except PoolTimeoutError as error:
        raise Unavailable("Too much is under way right now; nothing was changed.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("The database cannot be reached right now; nothing was changed.") from error
        if str(getattr(error.orig, "sqlstate", None)).startswith(PASSING):
            raise Unavailable("The database could not do this in time; nothing was changed.") from error
        raise


def connect(url: str, *, pool_size: int = 20, pool_wait: float = 10.0) -> AsyncEngine:
    """A pool of connections; statements and idle transactions are cut off, so that no old snapshot stays open.

    `pool_wait`: seconds to wait for a free connection. The one last used is used next: it has its statements prepared.
    None is made beyond the pool: one that is closed after its use costs Postgres a process and the driver a dozen
    round trips, just when there is most to do.
    """
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=pool_wait,
        hide_parameters=True,  # errors are logged, and parameters are addresses, digests and secrets
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        connect_args={
            "timeout": 5,
            "server_settings": {
                "application_name": "ses-delegation-broker",
                "statement_timeout": "15s",
                "idle_in_transaction_session_timeout": "10s",
                "lock_timeout": "5s",
            },
        },
    )
    ROUND_TRIPS.watch(engine)
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
                    "SELECT session_user AS login, rolsuper OR rolbypassrls AS bypasses,"
                    " EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid AND relname = 'tenants') AS owns"
                    " FROM pg_roles WHERE rolname = session_user"
                )
            )
        ).one()
    if row.bypasses:
        return f"The database login {row.login} is a superuser or bypasses row-level security; use one that cannot."
    if row.owns:
        return f"The database login {row.login} owns the tables and so bypasses row-level security; use another."
    return None
