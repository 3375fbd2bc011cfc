"""Crashes, races and leases: nothing is lost, only the holder of a lane writes, and only a crash sends twice."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import make_url, text, update

from broker.caller import NOBODY, Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.direct import Direct
from broker.errors import Unavailable
from broker.gateways.http import HttpSender
from broker.webhooks import deliveries, endpoints, flights, holding, leases, pending
from broker.webhooks.holding import Lines
from broker.webhooks.leases import LEASE
from broker.webhooks.models import DeliveryRow
from broker.webhooks.pump import Pump
from broker.webhooks.views import DeliveryState
from tests.operating import end, operating
from tests.proxy import LOOPBACK, Proxy
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.pumping import Deaf, Scripted, a_pump, resident, stop
from tests.webhooks.receiver import Delivered, Reaction, Receiver
from tests.webhooks.test_counts import became, told
from tests.webhooks.waiting import until, until_told

HOOK = "https://hooks.example.com/"


@pytest_asyncio.fixture
async def other_lines(database_url: str) -> AsyncIterator[Lines]:
    """The connections of another pump."""
    one = Lines(database_url)
    yield one
    await one.close()


async def beacon_of(lines: Lines) -> int:
    """The session that keeps this pump's beacon alight."""
    (row,) = await lines.leases.fetch("SELECT pg_backend_pid() AS pid")
    return int(row["pid"])


async def dark(url: str, lines: Lines) -> None:
    """Until nobody holds the lock of this pump's number."""
    query = "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7 AND objid = $1)"
    async with operating(url) as connection:
        await until_told(lambda: connection.fetchval(query, lines.number))


# Who holds a lane.


async def test_a_live_pumps_lane_is_not_claimed(
    committed_db: Database, keyring: Keyring, tenant: Caller, lines: Lines, other_lines: Lines
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    held = await holding.claim(lines.leases, [endpoint.id], pump=lines.number, lease=LEASE)
    taken = await holding.claim(other_lines.leases, [endpoint.id], pump=other_lines.number, lease=LEASE)

    assert ([endpoint.id], []) == ([lane.id for lane in held], taken)


async def test_a_dead_pumps_lane_is_claimed_at_once_though_its_lease_is_not_over(
    committed_db: Database, keyring: Keyring, tenant: Caller, lines: Lines, other_lines: Lines, database_url: str
) -> None:
    """Its beacon goes out with its connection."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    (held,) = await holding.claim(lines.leases, [endpoint.id], pump=lines.number, lease=LEASE)
    await end(database_url, await beacon_of(lines))
    await dark(database_url, lines)

    (taken,) = await holding.claim(other_lines.leases, [endpoint.id], pump=other_lines.number, lease=LEASE)

    assert held.fence + 1 == taken.fence


@pytest.fixture
def long_doubt(monkeypatch: pytest.MonkeyPatch) -> timedelta:
    """How long pumps that are made from now on wait for the others: however slow this machine is, it is not over.

    Nor are their leases.
    """
    monkeypatch.setattr(holding, "DOUBT", timedelta(minutes=10))
    monkeypatch.setattr(leases, "LEASE", timedelta(minutes=10))
    return holding.DOUBT


async def test_a_pump_that_lost_its_own_connection_takes_no_dark_beacon_for_a_death_until_others_had_time(
    committed_db: Database,
    keyring: Keyring,
    tenant: Caller,
    long_doubt: timedelta,
    lines: Lines,
    other_lines: Lines,
    database_url: str,
) -> None:
    """A restart of Postgres ends the sessions of all pumps, of which one is back first."""
    ids = [(await make_endpoint(committed_db, tenant, keyring, HOOK)).id for _ in range(2)]
    (held,) = await holding.claim(lines.leases, ids[:1], pump=lines.number, lease=leases.LEASE)
    for each in (lines, other_lines):
        await end(database_url, await beacon_of(each))
        await dark(database_url, each)

    async def claim() -> list[UUID]:
        taken = await holding.claim(other_lines.leases, ids, pump=other_lines.number, lease=leases.LEASE)
        return [lane.id for lane in taken]

    with contextlib.suppress(Unavailable):  # one statement may meet the loss
        await other_lines.leases.fetch("SELECT")
    doubting = await claim()
    (row,) = await other_lines.leases.fetch("SELECT current_setting('broker.doubts_until')::timestamptz - now()")
    again = await claim()  # what is its own is not in doubt
    await other_lines.leases.fetch("SELECT set_config('broker.doubts_until', now()::text, false)")
    trusting = await claim()

    assert ids[1:] == doubting == again
    assert long_doubt / 2 < row[0] <= long_doubt
    assert sorted(ids) == sorted(trusting)
    assert {} == await holding.renew(lines.leases, [held], pump=lines.number, lease=leases.LEASE)


async def test_a_pump_that_hangs_loses_its_lane_when_the_lease_is_over(
    committed_db: Database, keyring: Keyring, tenant: Caller, lines: Lines, other_lines: Lines
) -> None:
    """Its process is stopped, but its connection stands."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    (held,) = await holding.claim(lines.leases, [endpoint.id], pump=lines.number, lease=timedelta(0))

    (taken,) = await holding.claim(other_lines.leases, [endpoint.id], pump=other_lines.number, lease=LEASE)
    kept = await holding.renew(lines.leases, [held], pump=lines.number, lease=LEASE)
    await holding.release(lines.leases, [held], pump=lines.number)

    (lane,) = await rows(committed_db, tenant, "SELECT owner, fence FROM lanes")
    assert {} == kept
    assert (other_lines.number, taken.fence) == (lane.owner, lane.fence)


async def test_a_beacon_is_lit_though_somebody_looks_at_it_in_that_moment(
    committed_db: Database, keyring: Keyring, tenant: Caller, database_url: str
) -> None:
    """Who looks whether a pump is alive holds its lock for a moment; a pump that gave up then would seem dead."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    late, other = Lines(database_url), Lines(database_url)
    async with operating(database_url) as looking:
        async with looking.transaction():
            await looking.fetch("SELECT pg_advisory_xact_lock(7, $1)", late.number)
            claiming = asyncio.create_task(holding.claim(late.leases, [endpoint.id], pump=late.number, lease=LEASE))
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND classid = 7 AND objid = $1)"
            await until_told(lambda: looking.fetchval(waiting, late.number))
        held = await claiming

    taken = await holding.claim(other.leases, [endpoint.id], pump=other.number, lease=LEASE)
    await late.close()
    await other.close()

    assert ([endpoint.id], []) == ([lane.id for lane in held], taken)


async def test_lanes_are_renewed_and_finished_side_by_side(
    committed_db: Database, keyring: Keyring, tenant: Caller, lines: Lines
) -> None:
    """Both lock many lanes: in one order, else each of the two would wait for the other."""
    ids = [(await make_endpoint(committed_db, tenant, keyring, HOOK)).id for _ in range(20)]
    held = await holding.claim(lines.leases, ids, pump=lines.number, lease=LEASE)
    backwards = held[::-1]

    async def renew() -> None:
        for _ in range(30):
            await holding.renew(lines.leases, held, pump=lines.number, lease=LEASE)

    async def finish() -> None:
        for _ in range(30):
            await pending.finish(lines.writing, backwards, [], pump=lines.number, signers=[])

    await asyncio.gather(renew(), finish())

    assert {one.id: 0 for one in held} == await holding.renew(lines.leases, held, pump=lines.number, lease=LEASE)


# What a crash costs.


async def test_a_superseded_pump_writes_nothing(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
) -> None:
    gate = asyncio.Event()
    receiver.react = lambda _: Reaction(gate=gate)
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as zombie:
        zombie.ring([endpoint.id])
        await until(lambda: len(receiver.delivered) == 1)
        async with pump.begin(NOBODY) as heir:
            named = {"id": endpoint.id}
            await heir.execute(text("UPDATE lanes SET owner = 1, fence = fence + 1 WHERE id = :id"), named)
        gate.set()

    (left,) = await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)
    (lane,) = await rows(committed_db, tenant, "SELECT owner FROM lanes")
    assert (0, 1) == (left.attempts, lane.owner)
    assert [] == await rows(committed_db, tenant, "SELECT id FROM attempts")
    assert became(created=1, pending=1) == await told(committed_db, tenant)


async def test_a_pump_that_dies_between_post_and_finish_costs_a_second_post_and_no_event(
    committed_db: Database,
    pump: Database,
    database_url: str,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
    run: Run,
) -> None:
    gate = asyncio.Event()
    receiver.react = lambda _: Reaction(gate=gate)
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    dying = Lines(database_url)
    working = asyncio.create_task(a_pump(Deaf, Dead(dying), pump, sender, keyring).burst([endpoint.id]))
    await until(lambda: len(receiver.delivered) == 1)

    leased = await run(endpoint.id)
    await stop(working)
    await dying.close()
    await dark(database_url, dying)
    gate.set()
    after = await run(endpoint.id)

    assert (0, 1) == (leased, after)
    assert Counter(receiver.ids()).most_common() == [(receiver.ids()[0], 2)]
    assert became(created=1, delivered=1) == await told(committed_db, tenant)


class Dead(Lines):
    """The connections of a pump that writes nothing more, as after SIGKILL: no result, no release."""

    def __init__(self, lines: Lines) -> None:
        self.number = lines.number
        self.leases = Mute(lines.leases, "SET owner = NULL")
        self.reading = lines.reading
        self.writing = Mute(lines.writing, "DELETE FROM deliveries")


class Mute(Direct):
    """Says nothing more of a kind."""

    def __init__(self, line: Direct, words: str) -> None:
        self._line = line
        self._words = words

    @property
    def is_open(self) -> bool:
        return self._line.is_open

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        if self._words in statement:
            raise Unavailable("This process is dead.")
        return await self._line.fetch(statement, *arguments)


async def test_two_pumps_at_once_send_each_event_once(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    other_lines: Lines,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
) -> None:
    """Both are rung for everything, while it is still coming in."""
    ids = [(await make_endpoint(committed_db, tenant, keyring, f"{receiver.url}/{n}")).id for n in range(3)]
    events = [an_event(owner=tenant) for _ in range(100)]
    async with (
        resident(a_pump(Pump, lines, pump, sender, keyring, linger=0.02)) as one,
        resident(a_pump(Pump, other_lines, pump, sender, keyring, linger=0.02)) as other,
    ):
        for first in range(0, 100, 10):
            await happened(committed_db, tenant, *events[first : first + 10])
            one.ring(ids)
            other.ring(ids)
        await until(lambda: len(receiver.delivered) >= 300)

    assert {str(event.id): 3 for event in events} == dict(Counter(receiver.ids()))
    assert became(created=300, delivered=300) == await told(committed_db, tenant)


async def test_a_pump_that_is_stopped_lets_attempts_end_and_hands_its_lanes_over(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flights, "DRAIN_FOR", 60.0)
    gate = asyncio.Event()

    def first_wait(_: Delivered) -> Reaction:
        return Reaction(gate=gate if len(receiver.delivered) <= 4 else None)

    receiver.react = first_wait
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(10)))
    working = a_pump(Deaf, lines, pump, sender, keyring)
    task = asyncio.create_task(working.run())
    working.ring([endpoint.id])
    await until(lambda: len(receiver.delivered) == 4)

    stopping = asyncio.create_task(stop(task))
    gate.set()
    await stopping
    (lane,) = await rows(committed_db, tenant, "SELECT owner FROM lanes")
    stopped = await told(committed_db, tenant)
    made = await run(endpoint.id)

    assert (None, 6) == (lane.owner, made)
    assert became(created=10, delivered=4, pending=6) == stopped
    assert 10 == len(receiver.delivered) == len(set(receiver.ids()))
    assert became(created=10, delivered=10) == await told(committed_db, tenant)


async def test_stopping_leaves_no_task_behind(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    """What never answers is given up, and stays pending."""
    sender = Scripted(lambda _: None)
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(10)))
    before = asyncio.all_tasks()
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as working:
        working.ring([endpoint.id])
        await until(lambda: len(sender.sent) == 4)

    assert not asyncio.all_tasks() - before
    assert became(created=10, pending=10) == await told(committed_db, tenant)


# Trouble of the database.


class Away(Direct):
    """A line that fails the next `times`."""

    def __init__(self, line: Direct) -> None:
        self.times = 0
        self._line = line

    @property
    def is_open(self) -> bool:
        return self._line.is_open

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        if self.times:
            self.times -= 1
            raise Unavailable("The database is away.")
        return await self._line.fetch(statement, *arguments)

    async def close(self) -> None:
        await self._line.close()


async def test_a_database_that_is_away_for_a_moment_is_waited_for(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    """While it is asked for work, while a lane is claimed, while it is read, and while results are written."""
    hook = f"{HOOK}{tenant.tenant}"
    sender = Scripted(mine=hook)
    endpoint = await make_endpoint(committed_db, tenant, keyring, hook)
    lines.leases, lines.reading, lines.writing = (Away(one) for one in (lines.leases, lines.reading, lines.writing))
    for line in (lines.leases, lines.reading, lines.writing):
        line.times = 1
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(10)))
    async with resident(a_pump(Pump, lines, pump, sender, keyring)) as working:
        working.ring([endpoint.id])
        await until(lambda: len(sender.ids()) >= 10)
        await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(10)))
        await until(lambda: len(sender.ids()) >= 20)

    assert 20 == len(sender.ids()) == len(set(sender.ids()))
    assert became(created=20, delivered=20) == await told(committed_db, tenant)


async def test_every_session_of_a_pump_may_be_ended_while_it_works(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    keyring: Keyring,
    tenant: Caller,
    database_url: str,
) -> None:
    """One pump alone: its lanes stay its own, so nothing is sent twice, and each result is written once."""
    hook = f"{HOOK}{tenant.tenant}"
    sender = Scripted(mine=hook)
    endpoint = await make_endpoint(committed_db, tenant, keyring, hook)
    events = [an_event(owner=tenant) for _ in range(200)]
    pids = [(await line.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"] for line in every(lines)]
    async with resident(a_pump(Pump, lines, pump, sender, keyring)) as working:
        for number, first in enumerate(range(0, 200, 20)):
            await happened(committed_db, tenant, *events[first : first + 20])
            working.ring([endpoint.id])
            await sent(sender, first + 1)
            if number < len(pids):
                await end(database_url, pids[number])
        await until(lambda: len(set(sender.ids())) == 200)

    logged = await rows(committed_db, tenant, "SELECT event_id FROM attempts")
    assert {str(event.id): 1 for event in events} == dict(Counter(sender.ids()))
    assert Counter(event.id for event in events) == Counter(row.event_id for row in logged)
    assert became(created=200, delivered=200) == await told(committed_db, tenant)


async def test_a_pump_that_is_back_first_after_a_restart_takes_no_lane_from_one_that_lives(
    committed_db: Database,
    pump: Database,
    long_doubt: timedelta,
    other_lines: Lines,
    keyring: Keyring,
    tenant: Caller,
    database_url: str,
) -> None:
    """All sessions end, with results that are not yet written; nothing is sent twice."""
    hook = f"{HOOK}{tenant.tenant}"
    sender = Scripted(lambda _: None, mine=hook)
    endpoint = await make_endpoint(committed_db, tenant, keyring, hook)
    parts = make_url(database_url)
    async with Proxy(parts.host or LOOPBACK, parts.port or 5432).serving() as proxy:
        late = Lines(proxy.url(database_url))
        lost = await beacon_of(other_lines)
        async with resident(a_pump(Pump, late, pump, sender, keyring)) as one:
            await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(200)))
            one.ring([endpoint.id])
            await sent(sender, 1)
            proxy.refuse()
            await dark(database_url, late)
            sender.go.set()
            await end(database_url, lost)
            async with resident(a_pump(Pump, other_lines, pump, sender, keyring)) as other:
                other.ring([endpoint.id])
                await has_tried_to_claim(database_url, other_lines)
                proxy.flow()
                await until(lambda: len(set(sender.ids())) == 200)
        await late.close()

    assert 200 == len(sender.ids())
    assert became(created=200, delivered=200) == await told(committed_db, tenant)


async def has_tried_to_claim(url: str, lines: Lines) -> None:
    """Until the session that holds this pump's beacon has asked for lanes."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
        " AND l.classid = 7 AND l.objid = $1 AND l.granted AND a.state = 'idle' AND a.query LIKE '%SKIP LOCKED%')"
    )
    async with operating(url) as connection:
        await until_told(lambda: connection.fetchval(query, lines.number))


async def sent(sender: Scripted, number: int) -> None:
    """Until so many were sent."""
    await until(lambda: len(sender.sent) >= number)


def every(lines: Lines) -> tuple[Direct, ...]:
    return lines.writing, lines.reading, lines.leases


# What is not a crash.


async def test_what_arrives_while_an_attempt_is_under_way_is_sent_in_the_same_burst(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    gate = asyncio.Event()

    def first_hangs(_: Delivered) -> Reaction:
        return Reaction(gate=gate if len(receiver.delivered) == 1 else None)

    receiver.react = first_hangs
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))

    running = asyncio.create_task(run(endpoint.id))
    await until(lambda: len(receiver.delivered) == 1)
    await happened(committed_db, tenant, an_event(owner=tenant))
    await until(lambda: len(receiver.delivered) == 2)
    gate.set()

    assert 2 == await running
    assert 2 == len(set(receiver.ids()))


async def test_an_event_that_is_no_longer_kept_ends_as_dead_and_is_not_held_against_the_endpoint(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)
    async with committed_db.begin(tenant) as session:
        await session.execute(update(DeliveryRow).values(event_at=event.at - timedelta(days=40)))

    await run(endpoint.id)

    (dead,) = await deliveries.list_some(committed_db, tenant, state=DeliveryState.DEAD)
    assert "The event is no longer kept." == dead.reason
    assert [] == receiver.delivered
    assert (await endpoints.show(committed_db, tenant, endpoint.id)).failing_since is None


async def test_a_client_that_stumbles_is_our_trouble_and_the_delivery_is_tried_again_later(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    def stumble(_: str) -> int | None:
        raise ZeroDivisionError

    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    await happened(committed_db, tenant, an_event(owner=tenant))

    made = await a_pump(Deaf, lines, pump, Scripted(stumble), keyring).burst([endpoint.id])

    (left,) = await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)
    assert (1, 1) == (made, left.attempts)
    assert (await endpoints.show(committed_db, tenant, endpoint.id)).failing_since is None
