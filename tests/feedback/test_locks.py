"""The order of locks: whoever confirms a topic and whoever settles one of its routes must not wait in a ring."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from broker.crypto import Keyring
from broker.db import Database, Role
from broker.feedback import routes
from broker.feedback.slots import NO_TOPIC_YET
from broker.settings import Settings
from tests.feedback import test_topics
from tests.feedback.conftest import World, make_world, route_of
from tests.feedback.owners import PUBLIC, Ses, change_route, handlers_of, now_of
from tests.feedback.sns import confirmation, signed
from tests.feedback.test_receive import Door, topic_of, wait_for_confirmation
from tests.servers import Postgres

WAITING = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")

Confirming = Callable[[World, Keyring, Settings], Coroutine[None, None, None]]


async def by_message(world: World, keyring: Keyring, _: Settings) -> None:
    door = Door(world.db, keyring)
    await door.take(signed(confirmation(TopicArn=world.topic_arn)))


async def by_worker(world: World, _: Keyring, settings: Settings) -> None:
    sns = test_topics.Sns(answer=f"{world.topic_arn}:2")
    await test_topics.run(world, sns, msgspec.structs.replace(settings, public_url=PUBLIC.partition("/v1")[0]))


@pytest.mark.parametrize("confirm", [by_message, by_worker])
async def test_a_topic_is_confirmed_while_its_route_is_settled(
    committed_db: Database, keyring: Keyring, settings: Settings, postgres: Postgres, confirm: Confirming
) -> None:
    """The settle holds its route, and looks at the topic once more with its second UPDATE of that row.

    PostgreSQL skips the look of a foreign key whose value stays, but not where the same transaction wrote the row
    before (ri_triggers.c, RI_FKey_fk_upd_check_required). Audit rows are written in between: there it is held up.
    """
    world = await make_world(committed_db)
    await wait_for_confirmation(world)
    await test_topics.make_due(world, world.topic_id)
    await change_route(world, due_at=await now_of(world))
    route = await route_of(world, world.grant_id)
    worker, handlers = committed_db.as_role(Role.WORKER), handlers_of(world, Ses())

    async with _no_audit(postgres) as held:
        settling = asyncio.create_task(routes.run(worker, handlers, settings, only=[route.id]))
        await _until_waiting(held, 1)
        confirming = asyncio.create_task(confirm(world, keyring, settings))
        await _until_waiting(held, 2)
    await asyncio.gather(settling, confirming)

    topic, route = await topic_of(world), await route_of(world, world.grant_id)
    assert ("confirmed", f"{world.topic_arn}:2") == (topic.state, topic.subscription_arn)
    assert (NO_TOPIC_YET, None, 0) == (route.reason, route.claimed_until, route.attempts)
    assert route.due_at is not None
    assert route.due_at <= await now_of(world)


@asynccontextmanager
async def _no_audit(postgres: Postgres) -> AsyncIterator[AsyncConnection]:
    """Whoever writes to the audit waits until this is left."""
    engine = create_async_engine(postgres.owner_url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("LOCK TABLE audit IN SHARE MODE"))
            yield connection
    finally:
        await engine.dispose()


async def _until_waiting(connection: AsyncConnection, count: int) -> None:
    async with asyncio.timeout(30):
        while (await connection.execute(WAITING)).scalar_one() < count:  # noqa: ASYNC110 - another backend's doing
            await asyncio.sleep(0.01)
