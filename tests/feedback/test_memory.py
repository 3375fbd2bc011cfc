"""What ingest remembers between batches saves round trips; nothing is attributed by what was true a moment ago."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import update

from broker.crypto import Keyring
from broker.db import Database, Line, Role
from broker.direct import Direct
from broker.errors import Unavailable
from broker.feedback import store
from broker.feedback.envelope import Envelope
from broker.feedback.ingest import Ingest, Tally
from broker.feedback.memory import MOST, Memory
from broker.feedback.models import Topic
from broker.grants.models import Grant
from broker.policies.terms import FeedbackKind, FeedbackTerms, View
from broker.roundtrips import ROUND_TRIPS
from tests.feedback.conftest import World, arrived, make_world
from tests.feedback.examples import bounce, notified
from tests.feedback.sns import NOW


class Nothing:
    """A line that finds nothing, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        self.asked.append(list(arguments[0]))
        return []


class Meddling:
    """A line on which somebody changes something right before the batch is stored, the first `times`."""

    def __init__(self, line: Line, meddle: Any, *, times: int) -> None:
        self.saves = 0
        self._line = line
        self._meddle = meddle
        self._times = times

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        if "INSERT INTO event_keys" in statement:
            self.saves += 1
            if self.saves <= self._times:
                await self._meddle(self.saves)
        return await self._line.fetch(statement, *arguments)


@pytest_asyncio.fixture
async def world(committed_db: Database) -> World:
    """A world that is committed: ingest works over a connection of its own."""
    return await make_world(committed_db)


@pytest_asyncio.fixture
async def line(database_url: str) -> AsyncIterator[Direct]:
    one = Direct(database_url, role=Role.INGEST, settings=store.AS_WRITTEN)
    yield one
    await one.close()


def a_bounce(world: World, number: int = 0) -> Envelope:
    """One that no other is like."""
    recipients = [{"emailAddress": f"r{number}@example.org"}]
    return world.envelope(notified("Bounce", bounce(bouncedRecipients=recipients)))


async def take(ingest: Ingest, *batch: Envelope) -> Tally:
    return await ingest.take(arrived(*batch), now=NOW)


async def change_grant(world: World, **values: Any) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Grant).where(Grant.id == world.grant_id).values(**values))


async def heard_by(world: World) -> tuple[int, int]:
    """How many events the owner hears, and how many the delegate."""
    owned, lent = await world.events(world.owner), await world.events(world.delegate)
    return sum(bool(row.owner_view) for row in owned), sum(bool(row.delegate_view) for row in lent)


async def test_what_is_known_is_stored_in_one_round_trip(world: World, line: Direct, keyring: Keyring) -> None:
    ingest = Ingest(line, keyring)
    await take(ingest, a_bounce(world))
    before = ROUND_TRIPS.count
    tallies = [await take(ingest, *(a_bounce(world, 10 * batch + one) for one in range(5))) for batch in range(1, 4)]

    assert 3 == ROUND_TRIPS.count - before
    assert [Tally(stored=5)] * 3 == tallies


async def test_what_came_before_changes_nothing_and_costs_one_round_trip_too(
    world: World, line: Direct, keyring: Keyring
) -> None:
    ingest = Ingest(line, keyring)
    await take(ingest, a_bounce(world))
    before = ROUND_TRIPS.count

    assert Tally(repeated=1) == await take(ingest, a_bounce(world))
    assert 1 == ROUND_TRIPS.count - before


async def test_amended_terms_hold_for_the_very_next_event(world: World, line: Direct, keyring: Keyring) -> None:
    """The delegate no longer hears of bounces."""
    ingest = Ingest(line, keyring)
    await take(ingest, a_bounce(world, 1))
    terms = FeedbackTerms(delegate_events=(FeedbackKind.complaint,))
    await change_grant(world, feedback=msgspec.to_builtins(terms))
    await take(ingest, a_bounce(world, 2))

    assert (2, 1) == await heard_by(world)


async def test_an_amended_view_holds_for_the_very_next_event(world: World, line: Direct, keyring: Keyring) -> None:
    ingest = Ingest(line, keyring)
    await take(ingest, a_bounce(world, 1))
    await change_grant(world, feedback=msgspec.to_builtins(FeedbackTerms(owner_view=View.none)))
    await take(ingest, a_bounce(world, 2))

    assert ["hashed", "none"] == [row.owner_view for row in await world.events(world.owner)]


async def test_a_grant_that_ended_hears_nothing_of_later_mail(world: World, line: Direct, keyring: Keyring) -> None:
    ingest = Ingest(line, keyring)
    await take(ingest, a_bounce(world, 1))
    long_ago = NOW - timedelta(days=40)
    await change_grant(world, activated_at=long_ago, ended_at=long_ago)
    tally = await take(ingest, a_bounce(world, 2))

    assert 0 == tally.stored
    assert (1, 1) == await heard_by(world)


async def test_a_grant_that_was_not_there_before_is_found(world: World, line: Direct, keyring: Keyring) -> None:
    """That nothing was found is remembered, too."""
    activated = NOW - timedelta(days=1)
    await change_grant(world, activated_at=None)
    ingest = Ingest(line, keyring)
    before = await take(ingest, a_bounce(world, 1))
    await change_grant(world, activated_at=activated)
    after = await take(ingest, a_bounce(world, 1))

    assert (0, 1) == (before.stored, after.stored)


async def test_a_topic_that_is_no_longer_trusted_is_not_trusted_by_memory(
    world: World, line: Direct, keyring: Keyring
) -> None:
    ingest = Ingest(line, keyring)
    await take(ingest, a_bounce(world, 1))
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Topic).where(Topic.id == world.topic_id).values(accounts=["999999999999"]))
    tally = await take(ingest, a_bounce(world, 2))

    assert (0, 1) == (tally.stored, tally.quarantined)


async def test_a_topic_that_was_not_there_before_is_found(world: World, line: Direct, keyring: Keyring) -> None:
    """A message may come before the route that it belongs to is committed; SNS sends it again."""
    other = f"{world.topic_arn}-moved"
    ingest = Ingest(line, keyring)
    envelope = msgspec.structs.replace(a_bounce(world), topic_arn=other)
    before = await take(ingest, envelope)
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Topic).where(Topic.id == world.topic_id).values(arn=other))
    after = await take(ingest, envelope)

    assert (1, 1) == (before.quarantined, after.stored)


async def test_what_changes_while_a_batch_is_on_its_way_is_read_again(
    world: World, line: Direct, keyring: Keyring
) -> None:
    """Nothing of the batch is stored by what was read before."""
    terms = FeedbackTerms(delegate_events=(FeedbackKind.complaint,))

    async def amend(_: int) -> None:
        await change_grant(world, feedback=msgspec.to_builtins(terms))

    meddling = Meddling(line, amend, times=1)
    tally = await take(Ingest(meddling, keyring), a_bounce(world))

    assert (2, 1) == (meddling.saves, tally.stored)
    assert (1, 0) == await heard_by(world)


async def test_what_changes_all_the_time_is_given_up_and_nothing_is_stored(
    world: World, line: Direct, keyring: Keyring
) -> None:
    async def amend(number: int) -> None:
        await change_grant(world, accounts=["222222222222", f"{number:012}"])

    with pytest.raises(Unavailable):
        await take(Ingest(Meddling(line, amend, times=100), keyring), a_bounce(world))

    assert (0, 0) == await heard_by(world)


async def test_batches_at_once_through_one_memory_do_not_disturb_each_other(
    world: World, line: Direct, keyring: Keyring
) -> None:
    """While grants change under them."""
    ingest = Ingest(line, keyring)

    async def amend() -> None:
        for number in range(5):
            await change_grant(world, accounts=["222222222222", f"{number:012}"])

    tallies, _ = await asyncio.gather(
        asyncio.gather(*(take(ingest, *(a_bounce(world, one) for one in range(10))) for _ in range(8))), amend()
    )

    assert 10 == sum(tally.stored for tally in tallies)
    assert 70 == sum(tally.repeated for tally in tallies)
    assert (10, 10) == await heard_by(world)


async def test_two_memories_attribute_alike(world: World, line: Direct, database_url: str, keyring: Keyring) -> None:
    """Two processes: what one has stored, the other repeats."""
    other = Direct(database_url, role=Role.INGEST, settings=store.AS_WRITTEN)
    first, second = Ingest(line, keyring), Ingest(other, keyring)
    batch = [a_bounce(world, one) for one in range(10)]
    tallies = await asyncio.gather(take(first, *batch), take(second, *reversed(batch)))
    await other.close()

    assert (10, 10) == (sum(one.stored for one in tallies), sum(one.repeated for one in tallies))
    assert (10, 10) == await heard_by(world)


async def test_a_message_without_recipients_is_taken(world: World, line: Direct, keyring: Keyring) -> None:
    """There is nothing to tell anybody; SNS is told that it was taken, or it would come again and again."""
    empty = world.envelope(notified("Bounce", bounce(bouncedRecipients=[])))
    tally = await take(Ingest(line, keyring), empty, a_bounce(world))

    assert 1 == tally.stored


async def test_an_identity_that_no_text_holds_does_not_stop_the_batch(
    world: World, line: Direct, keyring: Keyring
) -> None:
    odd = world.envelope(notified("Bounce", bounce(), sourceArn="arn:aws:ses:eu-west-1:111111111111:identity/\0"))
    tally = await take(Ingest(line, keyring), odd, a_bounce(world))

    assert 1 == tally.stored


async def test_memory_is_bounded_and_forgets_what_was_used_least() -> None:
    line = Nothing()
    memory = Memory(line)
    await memory.recall(["first", "second"], [])
    for number in range(MOST - 1):
        await memory.recall(["second", f"other {number}"], [])
    line.asked.clear()
    await memory.recall(["second"], [])
    await memory.recall(["first"], [])

    assert [["first"]] == line.asked


def test_that_a_route_was_heard_is_told_once_a_minute() -> None:
    memory = Memory(Nothing())
    grant, other = (UUID(int=number) for number in (1, 2))
    first = memory.not_heard_lately([(grant, "topic")], now=NOW)
    memory.heard(first, now=NOW)
    soon = memory.not_heard_lately([(grant, "topic"), (other, "topic")], now=NOW + timedelta(seconds=59))
    later = memory.not_heard_lately([(grant, "topic")], now=NOW + timedelta(seconds=60))

    assert ([(grant, "topic")], [(other, "topic")], [(grant, "topic")]) == (first, soon, later)
