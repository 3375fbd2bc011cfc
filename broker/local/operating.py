"""What only an operator does: looks into quarantine, changes keys at rest, allows a tenant more."""

import asyncio
import os
import sys
from uuid import UUID

import click

from broker.local.child import StartError

# Each command imports what it needs: `broker --help` has to answer at once.


@click.command(short_help="List feedback that came through no tenant's topic.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--before", type=click.UUID, default=None, help="Show what is older than the message with this id.")
def quarantine(*, limit: int, before: UUID | None) -> None:
    """List feedback in quarantine that came through no tenant's topic: newest first, one JSON object a line.

    It may hold recipients' addresses. What came through a tenant's topic is the tenant's: GET /v1/quarantine.
    """
    from broker.configuration import load
    from broker.local.databases import usable

    with usable():
        lines = asyncio.run(_quarantined(load(os.environ).database_url, limit=limit, before=before))
    for line in lines:
        click.echo(line)


@click.group(short_help="Change the keys of secrets at rest.")
def secrets() -> None:
    """Change the keys that secrets at rest are sealed with: BROKER_SECRET_KEYS, the newest first."""


@secrets.command("rotate")
def rotate_secrets() -> None:
    """Seal everything with the first key again; may be stopped and run again, beside a broker that works.

    First put the new key before the others and start every process again; at the end it says when others may go.
    """
    _reseal(look_only=False)


@secrets.command("check")
def check_secrets() -> None:
    """Count what is sealed with which key, and say whether older keys may go; exit code 1 if not."""
    _reseal(look_only=True)


@click.command(short_help="Allow one tenant more or less.")
@click.argument("tenant", type=click.UUID)
@click.argument("name")
@click.argument("most", type=click.IntRange(0), required=False)
def quota(*, tenant: UUID, name: str, most: int | None) -> None:
    """Allow one tenant another number of something, 0 for no limit; without MOST, what all tenants may have.

    For everybody: BROKER_QUOTAS. Needs BROKER_MIGRATION_DATABASE_URL, the login that owns the tables.
    """
    from broker.configuration import migration_urls
    from broker.errors import NotFound
    from broker.local.databases import usable
    from broker.quotas import Quota

    if name not in list(Quota):
        raise click.BadParameter(f"{name} is no quota of a tenant; there are {', '.join(Quota)}.", param_hint="NAME")
    owner, _ = migration_urls(os.environ)
    try:
        with usable():
            asyncio.run(_allow(owner, tenant, name, most=most))
    except NotFound as error:
        raise StartError(error.detail) from error
    click.echo(f"{name}: {'as all' if most is None else most or 'no limit'}")


def _reseal(*, look_only: bool) -> None:
    from broker.configuration import load
    from broker.errors import BrokerError
    from broker.local.databases import usable
    from broker.reseal import Count, Place, reseal, summary

    settings = load(os.environ)
    found: dict[str, Count] = {}
    word = "to seal again" if look_only else "sealed again"

    def tell(place: Place, count: Count) -> None:
        found[place.name] = count
        click.echo(f"{place.name}: {count.seen} looked at, {count.older} {word}, {count.lost} unreadable", err=True)

    try:
        with usable():
            work = reseal(settings.owner_database_url, settings.fernet_keys, told=tell, look_only=look_only)
            clean = asyncio.run(work)
    except BrokerError as error:
        raise StartError(error.detail) from error
    click.echo(summary(found, clean=clean, keys=len(settings.fernet_keys)))
    if not clean:
        sys.exit(1)


async def _quarantined(url: str, *, limit: int, before: UUID | None) -> list[str]:
    import msgspec

    from broker.db import Database, Role, sessions
    from broker.feedback.quarantine import list_of_nobody
    from broker.local.databases import engine_for

    async with engine_for(url) as engine:
        found = await list_of_nobody(Database(sessions(engine), role=Role.INGEST), before=before, limit=limit)
        return [msgspec.json.encode(each).decode() for each in found]


async def _allow(url: str, tenant: UUID, name: str, *, most: int | None) -> None:
    import broker.models  # noqa: F401 - foreign keys need every table
    from broker.local.databases import engine_for
    from broker.quotas import Quota
    from broker.tenants.allowing import allow

    async with engine_for(url) as engine:
        await allow(engine, tenant, Quota(name), most=most)
