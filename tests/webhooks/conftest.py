"""What the tests of the webhooks share: receivers, endpoints, events, and the engine under its own role."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from broker.caller import Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.gateways.http import HttpSender
from broker.ids import new_id
from broker.webhooks import endpoints
from broker.webhooks.engine import Engine
from broker.webhooks.events import Event
from broker.webhooks.fanout import publish
from broker.webhooks.holding import Lines
from broker.webhooks.views import EndpointMade, NewEndpoint
from tests.conftest import new_tenant
from tests.webhooks.receiver import Receiver, receiving

Run = Callable[..., Coroutine[Any, Any, int]]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest_asyncio.fixture
async def other_receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[HttpSender]:
    client = HttpSender(allow_loopback=True)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def tenant(committed_db: Database) -> Caller:
    return await new_tenant(committed_db)


@pytest_asyncio.fixture
async def stranger(committed_db: Database) -> Caller:
    return await new_tenant(committed_db)


@pytest_asyncio.fixture
async def third(committed_db: Database) -> Caller:
    return await new_tenant(committed_db)


@pytest.fixture
def pump(committed_db: Database) -> Database:
    return committed_db.as_role(Role.PUMP)


@pytest_asyncio.fixture
async def lines(database_url: str) -> AsyncIterator[Lines]:
    """The connections of a pump."""
    one = Lines(database_url)
    yield one
    await one.close()


@pytest_asyncio.fixture
async def run(pump: Database, database_url: str, sender: HttpSender, keyring: Keyring) -> AsyncIterator[Run]:
    """`await run(endpoint_id, …)` delivers what is due for these endpoints only."""
    engines: list[Engine] = []

    async def once(*only: UUID) -> int:
        # The receivers are in this very process: where it stands still for a while, they are not to blame.
        timeout = timedelta(minutes=1)
        engines.append(Engine(database_url, pump, sender, keyring, timeout=timeout, dice=lambda: 0.5))
        return await engines[-1].burst(only)

    yield once
    for engine in engines:
        await engine.close()


async def make_endpoint(db: Database, caller: Caller, keyring: Keyring, url: str, **wants: Any) -> EndpointMade:
    """An endpoint that may be on loopback; `wants` are further fields of `NewEndpoint`."""
    wanted = NewEndpoint(url=url, **wants)
    return await endpoints.create(db, caller, wanted, keyring=keyring, allow_loopback=True)


def an_event(owner: Caller | None = None, delegate: Caller | None = None, **changes: Any) -> Event:
    """An event of these parties, seen in full by both unless changed."""
    fields: dict[str, Any] = {
        "id": new_id(),
        "at": now(),
        "type": "grant.activated",
        "source": "broker",
        "owner_id": owner.tenant if owner else None,
        "delegate_id": delegate.tenant if delegate else None,
        "owner_view": "full" if owner else None,
        "delegate_view": "full" if delegate else None,
        "data": {"state": "active"},
    }
    return Event(**{**fields, **changes})


async def happened(db: Database, caller: Caller, *events: Event) -> None:
    """Publishes events in a use case of this caller."""
    async with db.begin(caller) as session:
        await publish(session, events)


async def make_due(db: Database, caller: Caller, *endpoint_ids: UUID) -> None:
    """Lets the waits of these endpoints be over, as if time had passed."""
    async with db.begin(caller) as session:
        ids = list(endpoint_ids)
        await session.execute(
            text("UPDATE deliveries SET next_at = now() WHERE endpoint_id = ANY (:ids)"), {"ids": ids}
        )
        await session.execute(
            text("UPDATE lanes SET owner = NULL, claimed_until = NULL, quiet_until = NULL WHERE id = ANY (:ids)"),
            {"ids": ids},
        )


async def rows(db: Database, caller: Caller, query: str, **named: Any) -> Sequence[Any]:
    """What this tenant sees of the tables."""
    async with db.read(caller) as session:
        return (await session.execute(text(query), named)).all()
