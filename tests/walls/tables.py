"""Walks every table of a database with two tenants and no `where`: row-level security has to hold alone.

Everything happens in one transaction that is rolled back. Constraints are dropped in it, so that each table takes a row
of each tenant, made from nothing but the catalogue: a new table cannot escape.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from broker.db import Role
from broker.ids import new_id

PARTIES = ("tenant_id", "owner_id", "delegate_id", "counterpart_id")
PRIVATE = (Role.API, Role.WORKER)
"""The roles that act for one tenant at a time; the others cross tenants on the tables that a test lists."""

_REFUSED = "42501"  # insufficient_privilege (PostgreSQL, errcodes-appendix), a row refused by a policy too
_MADE: dict[str, str] = {
    "uuid": "gen_random_uuid()",
    "text": "gen_random_uuid()::text",
    "bytea": "gen_random_uuid()::text::bytea",
    "timestamptz": "now()",
    "date": "current_date",
    "jsonb": "'{}'",
    "bool": "false",
}


class Column(msgspec.Struct, frozen=True):
    """A column as far as a row has to be made for it."""

    name: str
    kind: str
    needed: bool

    @property
    def made(self) -> str:
        """An expression of its type."""
        return "'{}'" if self.kind.startswith("_") else _MADE.get(self.kind, "1")


class Walked(msgspec.Struct, frozen=True):
    """What was tried, and what the wall let through: a sentence for each."""

    tables: int
    tried: int
    leaks: Sequence[str]


class Tables:
    """The tables of one migrated database, seen by two tenants who have a row in each."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.mine, self.theirs = new_id(), new_id()
        self._columns: dict[str, list[Column]] = {}
        self._tried = 0
        self._leaks: list[str] = []

    async def walk(self) -> Walked:
        """Fills every table, then looks, writes and deletes everywhere, as each role, as a tenant and as nobody."""
        await self._prepare()
        for table, columns in self._columns.items():
            parties = parties_of(table, columns)
            for tenant in (self.mine, self.theirs) if parties else ():
                await self._insert(table, columns, dict.fromkeys(parties, tenant))
        for role in PRIVATE:
            for table, columns in self._columns.items():
                await self._try(role, table, parties_of(table, columns))
        await self._try_partitions()
        return Walked(len(self._columns), self._tried, self._leaks)

    async def _prepare(self) -> None:
        for role in Role:
            await self._run(f"GRANT {role.value} TO CURRENT_USER")
        for row in await self._rows(
            "SELECT conrelid::regclass::text AS of, conname FROM pg_constraint WHERE contype IN ('f', 'c')"
            " AND connamespace = 'public'::regnamespace AND conislocal AND conparentid = 0"
        ):
            await self._run(f'ALTER TABLE {row.of} DROP CONSTRAINT IF EXISTS "{row.conname}" CASCADE')
        for row in await self._rows(
            "SELECT c.relname, a.attname, t.typname, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS needed"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum"
        ):
            self._columns.setdefault(row.relname, []).append(Column(row.attname, row.typname, row.needed))

    async def _try(self, role: Role, table: str, parties: Sequence[str]) -> None:
        whole = f"{role.name.lower()} {{}} {table}"
        if not parties:  # nobody's: no role of one tenant has business there
            await self._expect(role, self.mine, f"SELECT FROM {table}", 0, whole.format("reads"), refused=True)
            return
        for tenant, own in ((self.mine, 1), (None, 0)):
            who = whole if tenant else f"nobody as {whole}"
            await self._expect(role, tenant, f"SELECT FROM {table}", own, who.format("reads"))
            await self._expect(role, tenant, f"DELETE FROM {table}", own, who.format("deletes from"))
            for column in await self._may_update(role, table):
                change = f"UPDATE {table} SET {column} = {column}"
                await self._expect(role, tenant, change, own, who.format(f"updates {column} of"))
            for party in parties:
                moved = f"UPDATE {table} SET {party} = '{self.theirs}'"
                await self._expect(role, tenant, moved, 0, who.format(f"moves {party} of"), gives_away=True)
            made = self._statement(table, self._columns[table], dict.fromkeys(parties, self.theirs))
            await self._expect(role, tenant, made, 0, who.format("inserts for another into"))

    async def _try_partitions(self) -> None:
        """The policies are those of the whole: no role may touch a part directly."""
        parts = await self._rows(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relispartition AND relkind = 'r'"
        )
        for role in Role:
            for part in parts:
                asked = f"SELECT FROM {part.name}"
                await self._expect(role, self.mine, asked, 0, f"{role.name.lower()} reads the part {part.name}")

    async def _expect(
        self, role: Role, tenant: UUID | None, statement: str, most: int, what: str, *, refused: bool = False,
        gives_away: bool = False,
    ) -> None:  # fmt: skip
        """Runs it and puts it back; a leak where it touches more than `most` rows."""
        self._tried += 1
        touched = await self._touched(role, tenant, statement)
        if touched is None:
            return
        # A row of one's own stays visible to oneself only where one is the other party of it still.
        if refused or touched > most or (gives_away and touched):
            self._leaks.append(f"{what}: {touched} rows")

    async def _touched(self, role: Role, tenant: UUID | None, statement: str) -> int | None:
        """How many rows; None where Postgres refused."""
        point = await self._connection.begin_nested()
        try:
            await self._run(f"SET LOCAL ROLE {role.value}")
            await self._run(f"SELECT set_config('app.tenant_id', '{tenant or ''}', true)")
            done = await self._connection.execute(text(statement))
            return len(done.all()) if done.returns_rows else done.rowcount
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _REFUSED:
                raise
            return None
        finally:
            await point.rollback()

    async def _may_update(self, role: Role, table: str) -> list[str]:
        rows = await self._rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:table AS regclass) AND attnum > 0"
            " AND NOT attisdropped AND attidentity = '' AND has_column_privilege(:role, attrelid, attnum, 'update')"
            " ORDER BY attnum",
            table=table,
            role=role.value,
        )
        return [row.attname for row in rows]

    async def _insert(self, table: str, columns: Sequence[Column], parties: dict[str, UUID]) -> None:
        await self._run(self._statement(table, columns, parties))

    def _statement(self, table: str, columns: Sequence[Column], parties: dict[str, UUID]) -> str:
        values = {column.name: column.made for column in columns if column.needed}
        values |= {name: f"'{tenant}'" for name, tenant in parties.items()}
        return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"

    async def _run(self, statement: str) -> None:
        await self._connection.execute(text(statement))

    async def _rows(self, query: str, **named: object) -> Sequence[Row[Any]]:
        return (await self._connection.execute(text(query), named)).all()


def parties_of(table: str, columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns that say whose a row is; none: it is nobody's."""
    if table == "tenants":
        return ("id",)
    return tuple(column.name for column in columns if column.name in PARTIES)


async def walk_tables(owner_url: str) -> Walked:
    """Walks the tables of a migrated database under its owner's URL; nothing of it stays."""
    engine = create_async_engine(owner_url)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            return await Tables(connection).walk()
    finally:
        await engine.dispose()
