"""A disk of a few megabytes under some tables, which can be filled up: as root a real one, else one that is played."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

from tests.dependencies.conftest import OwnPostgres

SIZE = "24m"
TABLES = ("connections", "audit", "idempotency_keys")


class RealDisk:
    """A tablespace on a file system of its own; `fill` writes until Postgres is told that there is no room."""

    def __init__(self, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._admin = admin

    async def fill(self) -> None:
        """First in large steps, then in the smallest: what is left takes no page."""
        await self._admin.execute("CREATE TABLE ballast (piece text) TABLESPACE small")
        await self._admin.execute("ALTER TABLE ballast ALTER piece SET STORAGE PLAIN")
        for pieces in (1_000, 100, 1):
            try:
                while True:
                    await self._admin.execute(
                        "INSERT INTO ballast SELECT repeat('x', 8000) FROM generate_series(1, $1)", pieces
                    )
            except asyncpg.DiskFullError:
                continue

    async def free(self) -> None:
        """Makes room again."""
        await self._admin.execute("DROP TABLE ballast")


class PlayedDisk:
    """Every insert into the tables fails with what Postgres says when a disk is full."""

    def __init__(self, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._admin = admin

    async def fill(self) -> None:
        await self._admin.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        for table in TABLES:
            await self._admin.execute(
                f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"
            )

    async def free(self) -> None:
        await self._admin.execute("DROP FUNCTION full_disk CASCADE")


@asynccontextmanager
async def small_disk(postgres: OwnPostgres, place: Path) -> AsyncIterator[RealDisk | PlayedDisk]:
    """The tables on it, and back on the large one at the end."""
    plain = make_url(postgres.now.admin_url).set(drivername="postgresql").render_as_string(hide_password=False)
    admin = await asyncpg.connect(plain)
    try:
        if not _mounted(place):
            yield PlayedDisk(admin)
            return
        try:
            await admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            await _move(admin, "small")
            yield RealDisk(admin)
            await _move(admin, "pg_default")
            await admin.execute("DROP TABLESPACE small")
        finally:
            await asyncio.to_thread(_unmount, place)
    finally:
        await admin.close()


def _mounted(place: Path) -> bool:
    """Only root may; and where a container forbids it to root as well, the disk is played."""
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0777", "tmpfs", str(place)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603


def _unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S603, S607


async def _move(admin: "asyncpg.Connection[asyncpg.Record]", tablespace: str) -> None:
    for table in TABLES:
        await admin.execute(f"ALTER TABLE {table} SET TABLESPACE {tablespace}")
