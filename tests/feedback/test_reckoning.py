"""The reckoning: every event is added up exactly once, whatever is under way, fails, or comes at the same time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import NOBODY
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.direct import Direct
from broker.due import claim
from broker.feedback import reckoning, store
from broker.feedback.reckoned import Reckoned
from broker.feedback.usage import folding
from broker.ids import new_id
from tests.feedback.reckoning import Counting, Remembering


@pytest_asyncio.fixture
async def counting(committed_db: Database, database_url: str, keyring: Keyring) -> AsyncIterator[Counting]:
    """A world of the test's own, really committed."""
    line = Direct(database_url, role=Role.INGEST, settings=store.AS_WRITTEN)
    yield await Counting.make(committed_db, line, keyring)
    await line.close()


async def test_each_event_is_given_once_in_the_order_of_the_feed(counting: Counting) -> None:
    seen = Remembering()

    await counting.bounced(3)
    await counting.reckon_all(seen)
    await counting.delivered(2)
    await counting.set("asleep = false, due_at = now()")
    await counting.reckon_all(seen)

    events = await counting.world.events(counting.world.owner)
    assert [event.id for event in events] == [each.event_id for each in seen.given]
    first = seen.given[0]
    assert ("broker_topic", "mail-1", 3, True) == (first.source, first.message_id, first.recipients, first.final)
    assert counting.world.grant_id == first.grant_id


async def test_what_fails_is_not_counted_and_comes_again(counting: Counting) -> None:
    """Sums and cursor are one transaction: a fold that breaks down after another one has written undoes both."""
    await counting.bounced(2)

    async def broken(session: AsyncSession, events: Sequence[Reckoned], *, now: datetime) -> None:
        raise RuntimeError

    await counting.reckon(folding.fold, broken)
    assert {} == await counts(counting)
    await counting.set("due_at = now()")
    await counting.reckon_all(folding.fold)

    assert {"bounced.hard": 2, "email.bounced": 2} == await counts(counting)


async def test_a_worker_that_lost_its_lease_writes_nothing(counting: Counting) -> None:
    """Another one has claimed and counted meanwhile."""
    await counting.bounced(2)

    async def overtaken(session: AsyncSession, events: Sequence[Reckoned], *, now: datetime) -> None:
        db = counting.world.db.as_role(Role.WORKER)
        await counting.set("claimed_until = now(), due_at = now()")
        (other,) = await claim(db, "reckonings", most=1, lease=reckoning.LEASE, only=[counting.world.owner.tenant])
        await reckoning.reckon(db, [folding.fold], other)

    await counting.reckon(overtaken, folding.fold)

    assert {"bounced.hard": 2, "email.bounced": 2} == await counts(counting)


async def test_batches_are_bounded_and_go_on_at_once(counting: Counting) -> None:
    seen = Remembering()
    for _ in range(4):
        await counting.bounced(3)

    await counting.reckon(seen, most=5)
    assert 3 == len(seen.given)  # the second message would not have fitted whole
    await counting.reckon_all(seen, most=5)

    events = await counting.world.events(counting.world.owner)
    assert [event.id for event in events] == [each.event_id for each in seen.given]
    assert {3} == {each.recipients for each in seen.given}


async def test_a_message_larger_than_a_batch_is_cut(counting: Counting) -> None:
    seen = Remembering()
    await counting.bounced(12)

    await counting.reckon_all(seen, most=5)

    assert 12 == len({each.event_id for each in seen.given}) == len(seen.given)


async def test_nothing_is_skipped_that_an_earlier_transaction_may_still_bring(counting: Counting) -> None:
    """As in the feed: later events wait until it has ended, and then nothing is missing."""
    seen = Remembering()
    world = counting.world
    async with world.db.as_role(Role.INGEST).begin(NOBODY) as earlier:
        await earlier.execute(text("SELECT pg_current_xact_id()"))
        await counting.bounced(1)
        before = await counting.now()
        await counting.reckon(seen)
        assert [] == seen.given
        assert before <= (await counting.row()).due_at - reckoning.SOON <= await counting.now()
    await counting.set("due_at = now()")
    await counting.reckon_all(seen)

    assert 1 == len(seen.given)


async def test_it_falls_asleep_in_two_steps(counting: Counting) -> None:
    """Who found it awake a moment ago may still store something, and does not wake it."""
    seen = Remembering()
    await counting.bounced(1)
    before = await counting.now()
    await counting.reckon_all(seen)
    drowsy, after = await counting.row(), await counting.now()
    await counting.set("due_at = now()")
    await counting.reckon_all(seen)
    asleep = await counting.row()

    assert (True, True) == (drowsy.asleep, before <= drowsy.due_at - reckoning.LINGER <= after)
    assert (True, None) == (asleep.asleep, asleep.due_at)


async def test_what_is_stored_wakes_it_at_once_and_leaves_it_alone_while_it_is_awake(counting: Counting) -> None:
    """A row version for each batch would cost the hot path; so would waiting for the worker."""
    await counting.bounced(1)
    first = await counting.row()
    await counting.bounced(1)
    unchanged = await counting.row()
    await counting.reckon_all(Remembering())
    await counting.bounced(1)
    woken = await counting.row()

    assert (first.due_at, first.asleep) == (unchanged.due_at, unchanged.asleep)
    assert (False, True) == (woken.asleep, woken.due_in <= 0)


async def test_while_it_is_awake_ingest_does_not_even_lock_it(counting: Counting) -> None:
    """It goes on storing while a worker holds the row."""
    await counting.bounced(1)

    async with counting.world.db.as_role(Role.WORKER).begin(counting.world.owner) as holding:
        await holding.execute(text("SELECT FROM reckonings FOR UPDATE"))
        async with asyncio.timeout(30):
            await counting.bounced(1)

    assert 2 == len(await counting.world.events(counting.world.owner))


async def test_what_is_woken_while_it_is_looked_at_is_looked_at_again(counting: Counting) -> None:
    """A claim that found nothing does not put to sleep what was woken meanwhile."""
    await counting.bounced(1)
    await counting.reckon_all(Remembering())
    await counting.set("due_at = now()")
    seen = Remembering()
    db = counting.world.db.as_role(Role.WORKER)
    (last,) = await claim(db, "reckonings", most=1, lease=reckoning.LEASE, only=[counting.world.owner.tenant])

    await counting.bounced(1)
    await reckoning.reckon(db, [seen], last)
    await counting.reckon_all(seen)

    assert 1 == len(seen.given)
    assert (True, True) == ((await counting.row()).asleep, (await counting.row()).due_at is not None)


async def test_an_event_that_cannot_be_read_does_not_stop_the_others(counting: Counting) -> None:
    seen = Remembering()
    async with counting.world.db.as_role(Role.WORKER).begin(counting.world.owner) as session:
        await session.execute(
            text(
                "INSERT INTO events (id, at, type, owner_id, source, owner_view, data)"
                " VALUES (:id, now(), 'email.bounced', :owner, 'broker_topic', 'full', '{\"identity\": 5}')"
            ),
            {"id": new_id(), "owner": counting.world.owner.tenant},
        )
    await counting.bounced(1)

    await counting.reckon_all(seen)

    assert 1 == len(seen.given)


async def test_grant_events_are_passed_over(counting: Counting) -> None:
    seen = Remembering()
    async with counting.world.db.as_role(Role.WORKER).begin(counting.world.owner) as session:
        await session.execute(
            text(
                "INSERT INTO events (id, at, type, owner_id, source, owner_view, data)"
                " VALUES (:id, now(), 'grant.approved', :owner, 'broker', 'full', '{}')"
            ),
            {"id": new_id(), "owner": counting.world.owner.tenant},
        )
    await counting.bounced(1)

    await counting.reckon_all(seen)

    assert ["bounce"] == [each.kind for each in seen.given]


async def counts(counting: Counting) -> dict[str, int]:
    """The owner's counts by name."""
    async with counting.world.db.read(counting.world.owner) as session:
        rows: Any = await session.execute(text("SELECT name, sum(number) FROM usage_days GROUP BY name"))
        return {name: int(number) for name, number in rows}
