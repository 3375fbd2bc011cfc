"""Runs the migrations, each in its own transaction, with limits on waiting for locks."""

import asyncio
import os
from typing import Any

from alembic import context
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from broker.models import metadata
from broker.points import reach

PARTITION_PARENTS = ("events_", "event_keys_", "attempts_")


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Day partitions are made by the workers, not by migrations, and are no model's table."""
    return not (kind == "table" and name is not None and name.startswith(PARTITION_PARENTS))


def applying(*_told: Any, **_more: Any) -> None:
    """Called within the transaction of each migration, at its end."""
    reach("migrations.applying")


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=include_name,
        compare_server_default=False,
        transaction_per_migration=True,
        on_version_apply=applying,
    )
    with context.begin_transaction():
        connection.execute(text("SET lock_timeout = '5s'"))
        connection.execute(text("SET statement_timeout = '60s'"))
        connection.execute(text("SET timezone = 'UTC'"))  # partitions by day begin at its midnight
        context.run_migrations()


async def main(url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(main(os.environ["BROKER_MIGRATION_DATABASE_URL"]))
