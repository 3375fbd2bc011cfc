"""Brings the database to this version's schema."""

from pathlib import Path
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from broker.db import Role
from broker.points import reach

LOCK = 5_320_117  # any number of ours: two migrations at once would wait for each other, not mix


def scripts() -> Path:
    """Where the migrations are: beside the code in a wheel, at the top of a checkout."""
    packaged = Path(__file__).parent / "_migrations"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "migrations"


async def migrate(url: str, *, login: str | None = None, revision: str = "head") -> str:
    """Runs what is missing under the owner's `url` and lets `login`, the service's own, take the roles of its work.

    Returns the revision that the database has now. Safe to run twice and from two places at once.
    """
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            await connection.commit()
            reach("migrations.locked")
            await connection.run_sync(_upgrade, revision)
            await connection.commit()
            reach("migrations.applied")
            if login:
                roles = ", ".join(role.value for role in Role)
                await connection.execute(text(f'GRANT {roles} TO "{login.replace(chr(34), "")}"'))
                await connection.commit()
            reach("migrations.granted")
            await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
    finally:
        await engine.dispose()
    return head() if revision == "head" else revision


def head() -> str:
    """The newest revision that this code knows."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def _upgrade(connection: Connection, revision: str) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    if revision == "head" or int(revision) >= int(_current(connection)):
        command.upgrade(config, revision)
    else:
        command.downgrade(config, revision)


def _current(connection: Connection) -> str:
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return "0"
    return str(connection.execute(text("SELECT coalesce(max(version_num), '0') FROM alembic_version")).scalar())


def configuration() -> Config:
    """Alembic's configuration, wherever the migrations lie."""
    config = Config()
    config.set_main_option("script_location", quote(str(scripts()), safe="/ "))
    return config
