"""`broker release-account`: the operator frees an AWS account that is bound to the wrong tenant."""

import asyncio
import os

import click

from broker.errors import Conflict, NotFound
from broker.local.child import StartError


@click.command("release-account", short_help="Unbind an AWS account from its tenant.")
@click.argument("account_id")
@click.option("--reason", required=True, help="Told to the tenant that loses it, and kept in its audit trail.")
def release_account(account_id: str, reason: str) -> None:
    """Unbind an AWS account from the tenant that holds it, so that the next one that shows it gets it.

    Refused while a grant rests on it: end that first. The tenant's connection is lost, with the reason.
    """
    from broker.configuration import load
    from broker.local.databases import usable

    try:
        with usable():
            connection = asyncio.run(_released(load(os.environ).database_url, account_id, reason))
    except (Conflict, NotFound) as error:
        raise StartError(error.detail) from error
    click.echo(f"Account {account_id} is free; connection {connection} has lost it.")


async def _released(url: str, account_id: str, reason: str) -> str:
    import broker.models  # noqa: F401 - foreign keys need every table
    from broker.connections import displace
    from broker.db import Database, Role, sessions
    from broker.grants.release import release
    from broker.local.databases import engine_for

    async with engine_for(url) as engine:
        db = Database(sessions(engine), role=Role.WORKER)
        return str(await displace.release_account(db, account_id, why=reason, release=release))
