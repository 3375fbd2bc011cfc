"""The migrations: one line, up and down, and equal to the models."""

import asyncio

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from broker.ids import new_id
from broker.migrate import configuration, head, migrate
from tests.servers import Postgres


async def test_every_migration_goes_down_and_up_again(postgres: Postgres, database_url: str) -> None:
    """On a database of its own, one step at a time."""
    name = f"steps_{new_id().hex}"
    url = await asyncio.to_thread(postgres.create_database, name)
    revisions = [script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()]

    await migrate(url)
    for revision in revisions[1:]:
        await migrate(url, revision=revision)
    again = await migrate(url)

    assert head() == again == revisions[0]
    await asyncio.to_thread(postgres.drop_database, name)


async def test_the_models_are_what_the_migrations_made(postgres: Postgres, database_url: str) -> None:
    """`alembic check` finds nothing to do."""
    engine = create_async_engine(postgres.owner_url)

    def check(connection: Connection) -> None:
        config = configuration()
        config.attributes["connection"] = connection
        command.check(config)

    async with engine.connect() as connection:
        await connection.run_sync(check)
    await engine.dispose()


async def test_only_listed_functions_cross_tenants(postgres: Postgres, database_url: str) -> None:
    """Every SECURITY DEFINER function is on this list, pins its search path and is closed to PUBLIC."""
    engine = create_async_engine(postgres.owner_url)
    async with engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT proname, array_to_string(proconfig, ' ') AS config,"
                " has_function_privilege('public', oid, 'execute') AS open"
                " FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace ORDER BY proname"
            )
        )
        found = {row.proname: (row.config, row.open) for row in rows}
    await engine.dispose()

    assert {
        "account_tenants",
        "alarm_addresses",
        "authenticate",
        "cancel_deliveries",
        "lanes_with",
        "recall_lanes",
        "claim_due",
        "count_astray",
        "deny_ahead",
        "drop_astray",
        "drop_days",
        "fan_out",
        "find_identity",
        "forget_answers",
        "forget_secrets",
        "identity_ground",
        "lock_identity",
        "make_days",
        "next_due",
        "plan_retentions",
        "policies_of_grant",
        "register_tenant",
        "tenant_names",
        "unreckoned",
        "wake_chains",
        "wake_identity",
    } == set(found)
    assert {(True, False)} == {
        (config.startswith("search_path=public, pg_temp"), public) for config, public in found.values()
    }


async def test_every_table_has_row_level_security(postgres: Postgres, database_url: str) -> None:
    """A new table has to say who may see it."""
    engine = create_async_engine(postgres.owner_url)
    async with engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relrowsecurity"
                " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
            )
        )
        unguarded = [row.relname for row in rows]
    await engine.dispose()

    assert [] == unguarded
