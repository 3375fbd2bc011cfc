"""What the terms say about keeping is done, grant by grant."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import create_async_engine

from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.feedback.erasures import retention
from broker.grants.models import Grant
from broker.policies.terms import FeedbackKind
from tests.feedback import sns
from tests.feedback.conftest import SECOND_ACCOUNT, World, make_world
from tests.feedback.recipients import JANE, fold, reckoned
from tests.feedback.test_erasures import MARY, arrive, balance, everything, of, rows
from tests.feedback.test_suppressions import second_grant
from tests.servers import Postgres

KEPT = timedelta(days=30)
Age = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def world(committed_db: Database) -> World:
    return await make_world(committed_db)


@pytest.fixture
def age(postgres: Postgres, world: World) -> Age:
    """`await age(days=8)` makes what is stored so much older, which no role of the service may."""

    async def age_by(*, days: int) -> None:
        engine = create_async_engine(postgres.owner_url)
        named = {"by": timedelta(days=days), "owner": world.owner.tenant}
        async with engine.begin() as connection:
            older = "UPDATE events SET created_at = created_at - CAST(:by AS interval) WHERE owner_id = :owner"
            await connection.execute(text(older), named)
        await engine.dispose()

    return age_by


async def agree(world: World, **values: Any) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Grant).where(Grant.id == world.grant_id).values(**values))


async def keep_house(world: World) -> None:
    """As the workers do, until nothing is due."""
    worker = world.db.as_role(Role.WORKER)
    await retention.plan(worker, kept=KEPT)
    async with worker.begin(world.owner) as session:
        await session.execute(text("UPDATE retentions SET due_at = now() WHERE due_at IS NOT NULL"))
    while await retention.run(worker, kept=KEPT, only=[world.grant_id]):
        pass


async def test_an_event_is_blanked_for_both_when_its_days_are_over(world: World, keyring: Keyring, age: Age) -> None:
    await agree(world, feedback={"retention_days": 7})
    await arrive(world, keyring, of(JANE), of(MARY, sendingAccountId=SECOND_ACCOUNT))
    await age(days=8)
    await arrive(world, keyring, of("new@example.org"))

    await keep_house(world)

    assert "jane" not in await everything(world, world.owner) + await everything(world, world.delegate)
    assert MARY in await everything(world, world.owner)  # another grant's, which keeps longer
    assert [None, "new@example.org"] == [each.data["recipient"] for each in await world.events(world.delegate)]
    assert (2, 0, 1, 0, 1, 0) == await balance(world, world.delegate)


async def test_one_walk_does_for_all_grants_of_an_owner(world: World, keyring: Keyring, age: Age) -> None:
    """Each by its own days."""
    await agree(world, feedback={"retention_days": 7})
    async with world.db.begin(world.owner) as session:
        others = update(Grant).where(Grant.id == world.second_grant_id)
        await session.execute(others.values(feedback={"retention_days": 10}))
    await arrive(world, keyring, of(MARY, sendingAccountId=SECOND_ACCOUNT))
    await age(days=5)
    await arrive(world, keyring, of(JANE), of(MARY, sendingAccountId=SECOND_ACCOUNT))
    await age(days=8)

    await keep_house(world)  # of the first grant

    assert [None, None, MARY] == [each.data["recipient"] for each in await world.events(world.owner)]


async def test_it_goes_on_where_it_was_and_begins_anew_under_shorter_terms(
    world: World, keyring: Keyring, age: Age, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "EVENTS_AT_ONCE", 2)
    await agree(world, feedback={"retention_days": 20})
    await arrive(world, keyring, *(of(JANE) for _ in range(5)))
    await age(days=8)
    await keep_house(world)
    kept = [each.data["recipient"] for each in await world.events(world.delegate)]

    await agree(world, feedback={"retention_days": 7})
    await keep_house(world)

    assert [JANE] * 5 == kept
    assert [None] * 5 == [each.data["recipient"] for each in await world.events(world.delegate)]


async def test_states_go_and_what_suppresses_stays_while_the_grant_lives(world: World, keyring: Keyring) -> None:
    """The events are of January 2026: long ago."""
    delivered = reckoned(world, keyring, FeedbackKind.delivery, recipient=MARY)
    await fold(world, keyring, [reckoned(world, keyring), delivered])

    await keep_house(world)

    states = [row.state for row in await rows(world, world.owner, "SELECT state FROM recipients")]
    kept = await rows(world, world.owner, "SELECT address FROM suppressions")
    assert ["permanent_bounce"] == states
    assert [JANE] == [keyring.open(row.address).decode() for row in kept]


async def test_addresses_go_when_the_grant_has_been_over_for_so_long(world: World, keyring: Keyring) -> None:
    await fold(world, keyring, [reckoned(world, keyring)])
    await agree(world, ended_at=now() - timedelta(days=29))
    await keep_house(world)
    before = await rows(world, world.delegate, "SELECT address IS NULL AS gone FROM suppressions")

    await agree(world, ended_at=now() - timedelta(days=31))
    await keep_house(world)

    after = await rows(world, world.delegate, "SELECT address IS NULL AS gone, reason FROM suppressions")
    assert ([False], [(True, "hard_bounce")]) == ([row.gone for row in before], [tuple(row) for row in after])


async def test_a_grant_that_is_over_opens_no_address_of_a_later_one(world: World, keyring: Keyring) -> None:
    """Though it showed the owner more, and kept the entry so far."""
    await agree(world, feedback={"owner_view": "full"}, ended_at=now() - timedelta(days=31))
    later = await second_grant(world, owner_view="hashed")
    await fold(world, keyring, [reckoned(world, keyring)])
    await keep_house(world)

    at = sns.NOW + timedelta(days=1)
    await fold(world, keyring, [reckoned(world, keyring, grant_id=later, occurred_at=at)])

    query = "SELECT grant_id, owner_view, delegate_view, address IS NULL FROM suppressions"
    assert [(later, "hashed", "full", False)] == [tuple(row) for row in await rows(world, world.owner, query)]
