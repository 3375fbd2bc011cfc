"""Writes a layout of `bench.fair_layout` into the tables: grants given to tenants with many webhooks."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from bench.fair_layout import Ear
from bench.world import Group, World, copy, plan_group, seed
from broker.crypto import Keyring
from broker.ids import new_id
from broker.webhooks import signing


async def seed_layout(
    connection: asyncpg.Connection, layout: Sequence[Ear], keyring: Keyring, urls: Sequence[str]
) -> None:
    """In place of the groups' own delegates, the layout's tenants are the delegates. `urls` are by endpoint."""
    groups = [plan_group(number, 0) for number in range(sum(len(ear.groups) for ear in layout))]
    await seed(connection, World(groups=tuple(groups), fan_out=1, secrets={}), keyring, [])
    async with connection.transaction():
        for ear in layout:
            tenant = groups[_of(layout, ear.tenant).groups[0]].delegate
            grants = [groups[number].grant for number in ear.groups]
            await connection.execute("UPDATE grants SET delegate_id = $1 WHERE id = ANY ($2)", tenant, grants)
            await connection.execute("UPDATE offers SET delegate_id = $1 WHERE grant_id = ANY ($2)", tenant, grants)
            await connection.execute("UPDATE routes SET delegate_id = $1 WHERE grant_id = ANY ($2)", tenant, grants)
        await _add_endpoints(connection, layout, keyring, urls, groups)
    await connection.execute("ANALYZE", timeout=600)


def _of(layout: Sequence[Ear], tenant: int) -> Ear:
    return next(ear for ear in layout if ear.tenant == tenant)


async def _add_endpoints(
    connection: asyncpg.Connection, layout: Sequence[Ear], keyring: Keyring, urls: Sequence[str], groups: list[Group]
) -> None:
    endpoints: list[tuple[Any, ...]] = []
    for ear, url in zip(layout, urls, strict=True):
        tenant = groups[_of(layout, ear.tenant).groups[0]].delegate
        endpoints.append((new_id(), tenant, url, "active", [groups[number].grant for number in ear.groups]))
    sealed = [(new_id(), each[1], each[0], keyring.seal(signing.new_secret())) for each in endpoints]
    await copy(connection, "endpoints", ["id", "tenant_id", "url", "state", "grant_ids"], endpoints)
    await copy(connection, "lanes", ["id", "tenant_id"], [each[:2] for each in endpoints])
    await copy(connection, "endpoint_secrets", ["id", "tenant_id", "endpoint_id", "sealed"], sealed)
