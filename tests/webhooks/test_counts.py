"""Invariant I1: created = delivered + pending + dead + cancelled, for each tenant and day, at any moment."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from broker.caller import NOBODY, Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.errors import Conflict, NotFound
from broker.webhooks import counts, deliveries, enabling, endpoints, pauses
from broker.webhooks.counts import Day
from broker.webhooks.deliveries import DeliveryId
from broker.webhooks.ledger.service import usage
from broker.webhooks.ledger.views import Totals
from broker.webhooks.replays import service as replays
from broker.webhooks.replays import work
from broker.webhooks.replays.views import Since
from tests.webhooks.conftest import Run, an_event, happened, make_due, make_endpoint, rows
from tests.webhooks.receiver import Delivered, Reaction, Receiver

STEPS = 60
LAST_TRY = 9  # attempts made, of ten


async def days_of(db: Database, caller: Caller) -> Sequence[Day]:
    """All days of a tenant."""
    today = now().date()
    async with db.read(caller) as session:
        return await counts.days(session, caller.tenant, first=today - timedelta(days=40), last=today)


async def told(db: Database, caller: Caller) -> Totals:
    """What the API says."""
    today = now().date()
    return (await usage(db, caller, first=today - timedelta(days=40), last=today)).total


def became(**numbers: int) -> Totals:
    """These numbers, and nothing else."""
    nothing = Totals(created=0, delivered=0, pending=0, dead=0, cancelled=0, missing=0)
    return msgspec.structs.replace(nothing, **numbers)


async def exhaust(db: Database, caller: Caller) -> None:
    """Leaves everything pending with its last attempt, which is due."""
    async with db.begin(caller) as session:
        await session.execute(text("UPDATE deliveries SET attempts = :made, next_at = now()"), {"made": LAST_TRY})


async def kept_as_dead(db: Database, caller: Caller) -> int:
    """Dead deliveries whose rows are there."""
    return len(await rows(db, caller, "SELECT 1 FROM dead_deliveries"))


class Walk:
    """Two tenants with endpoints, who do anything that they may, in any order, while the engine runs now and then."""

    def __init__(self, db: Database, keyring: Keyring, parties: Sequence[Caller], run: Run, seed: int) -> None:
        self._db = db
        self._keyring = keyring
        self._parties = parties
        self._run = run
        self._dice = random.Random(seed)  # noqa: S311 - the same walk for the same seed
        self._moods = random.Random(seed)  # noqa: S311 - apart: how many requests come first is not the seed's to say
        self.url = ""

    def react(self, _request: Delivered) -> Reaction:
        """A receiver in any mood."""
        return Reaction(status=self._moods.choice([200, 200, 200, 500, 500, 503, 410]))

    async def step(self) -> str:
        """Does one thing; what was refused is as good as what was done."""
        often: list[Callable[[Caller], Awaitable[None]]] = [self.happen, self.happen, self.deliver, self.deliver]
        seldom = [self.create, self.test, self.replay, self.recover, self.work, self.wait, self.exhaust, self.enable]
        do = self._dice.choice([*often, *often, *seldom, *seldom, self.pause, self.resume, self.remove, self.roll_up])
        name: str = getattr(do, "__name__", "")
        try:
            await do(self._dice.choice(self._parties))
        except (Conflict, NotFound) as refused:
            return f"{name}: {refused.detail}"
        return name

    async def create(self, caller: Caller) -> None:
        await make_endpoint(self._db, caller, self._keyring, self.url)

    async def happen(self, caller: Caller) -> None:
        owner, delegate = self._dice.choice([tuple(self._parties), tuple(self._parties[::-1]), (caller, None)])
        at = now() - timedelta(days=self._dice.choice([0, 0, 0, 1, 9]))
        many = range(self._dice.randint(1, 5))
        await happened(self._db, caller, *(an_event(owner=owner, delegate=delegate, at=at) for _ in many))

    async def test(self, caller: Caller) -> None:
        await endpoints.send_test(self._db, caller, await self._endpoint(caller))

    async def replay(self, caller: Caller) -> None:
        known = await rows(
            self._db,
            caller,
            "SELECT endpoint_id, event_id FROM deliveries UNION SELECT endpoint_id, event_id FROM dead_deliveries"
            " UNION SELECT endpoint_id, event_id FROM attempts ORDER BY 1, 2",
        )
        if known:
            found = self._dice.choice(known)
            await deliveries.replay(self._db, caller, DeliveryId(found.endpoint_id, found.event_id))

    async def recover(self, caller: Caller) -> None:
        wanted = Since(since=now() - timedelta(days=1))
        await replays.recover(self._db, caller, await self._endpoint(caller), wanted=wanted)

    async def work(self, caller: Caller) -> None:
        async with self._db.begin(caller) as session:
            jobs = (await session.scalars(text("UPDATE replays SET due_at = now() RETURNING id"))).all()
        await work.run(self._db.as_role(Role.WORKER), only=jobs)

    async def deliver(self, caller: Caller) -> None:
        mine = await endpoints.list_all(self._db, caller)
        if mine:
            await self._run(*(endpoint.id for endpoint in mine))

    async def wait(self, caller: Caller) -> None:
        await make_due(self._db, caller, *(endpoint.id for endpoint in await endpoints.list_all(self._db, caller)))

    async def exhaust(self, caller: Caller) -> None:
        await exhaust(self._db, caller)

    async def enable(self, caller: Caller) -> None:
        await enabling.enable(self._db, caller, await self._endpoint(caller))

    async def pause(self, caller: Caller) -> None:
        await pauses.pause(self._db, caller, await self._endpoint(caller))

    async def resume(self, caller: Caller) -> None:
        await pauses.resume(self._db, caller, await self._endpoint(caller))

    async def remove(self, caller: Caller) -> None:
        await endpoints.remove(self._db, caller, await self._endpoint(caller))

    async def roll_up(self, _caller: Caller) -> None:
        await counts.roll_up(self._db.as_role(Role.PUMP), most=self._dice.randint(1, 20))

    async def _endpoint(self, caller: Caller) -> UUID:
        mine = await endpoints.list_all(self._db, caller)
        if not mine:
            raise NotFound("There is no endpoint yet.")
        return self._dice.choice(mine).id


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_that_tenants_and_workers_do_makes_a_delivery_vanish(
    committed_db: Database, keyring: Keyring, tenant: Caller, stranger: Caller, receiver: Receiver, run: Run, seed: int
) -> None:
    """A random walk through the use cases and the engine; the equation holds after each step, for both parties."""
    walk = Walk(committed_db, keyring, [tenant, stranger], run, seed)
    walk.url, receiver.react = receiver.url, walk.react
    await walk.create(tenant)
    await walk.create(stranger)
    done = []
    for _ in range(STEPS):
        done.append(await walk.step())
        for party in (tenant, stranger):
            wrong = [day for day in await days_of(committed_db, party) if day.missing]
            assert [] == wrong, done

    totals = [await told(committed_db, party) for party in (tenant, stranger)]

    assert [0, 0] == [total.missing for total in totals]
    assert min(total.created for total in totals) > 0


async def test_each_delivery_is_counted_as_what_became_of_it(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    seen = []

    await happened(committed_db, tenant, an_event(owner=tenant), an_event(owner=tenant))
    seen.append(await told(committed_db, tenant))
    receiver.reactions = [Reaction(status=500)]
    await run(endpoint.id)
    seen.append(await told(committed_db, tenant))
    await exhaust(committed_db, tenant)
    receiver.reactions = [Reaction(status=500)]
    await run(endpoint.id)
    seen.append(await told(committed_db, tenant))

    assert [
        became(created=2, pending=2),
        became(created=2, delivered=1, pending=1),
        became(created=2, delivered=1, dead=1),
    ] == seen


async def test_sending_again_raises_the_dead_and_makes_a_delivered_one_anew(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)
    await exhaust(committed_db, tenant)
    receiver.reactions = [Reaction(status=500)]
    await run(endpoint.id)
    seen = []

    for _ in range(2):
        await deliveries.replay(committed_db, tenant, DeliveryId(endpoint.id, event.id))
        await deliveries.replay(committed_db, tenant, DeliveryId(endpoint.id, event.id))
        seen.append(await told(committed_db, tenant))
        await run(endpoint.id)
        seen.append(await told(committed_db, tenant))

    assert [
        became(created=1, pending=1),
        became(created=1, delivered=1),
        became(created=2, delivered=1, pending=1),
        became(created=2, delivered=2),
    ] == seen


async def test_deleting_an_endpoint_cancels_what_is_pending_and_leaves_the_dead_dead(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    """Their rows go, since nobody can see or send them any more."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    await exhaust(committed_db, tenant)
    receiver.reactions = [Reaction(status=500)]
    await run(endpoint.id)
    await endpoints.send_test(committed_db, tenant, endpoint.id)
    kept = await kept_as_dead(committed_db, tenant)

    await endpoints.remove(committed_db, tenant, endpoint.id)

    assert became(created=2, dead=1, cancelled=1) == await told(committed_db, tenant)
    assert (1, 0) == (kept, await kept_as_dead(committed_db, tenant))


async def test_an_event_is_counted_on_its_own_day(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    """Whenever it is delivered."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    at = [now() - timedelta(days=age) for age in (3, 2)]
    await happened(committed_db, tenant, *(an_event(owner=tenant, at=each) for each in at))
    await run(endpoint.id)

    found = await days_of(committed_db, tenant)

    assert [(each.date(), 1, 1, 0) for each in at] == [
        (day.day, day.created, day.delivered, day.missing) for day in found
    ]


@pytest.mark.parametrize(
    ("breakage", "missing"),
    [
        ("DELETE FROM deliveries WHERE endpoint_id = :endpoint", 2),
        ("UPDATE delivery_counts SET created = created + 5 WHERE tenant_id = :tenant", 5),
        ("UPDATE delivery_counts SET delivered = delivered + 1 WHERE tenant_id = :tenant", -1),
    ],
)
async def test_the_check_can_fail(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller, breakage: str, missing: int
) -> None:
    """Somebody who writes beside the books is found out, by the tenant and by the operator's metric."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, "http://127.0.0.1:9/")
    await happened(committed_db, tenant, an_event(owner=tenant), an_event(owner=tenant))
    while await counts.roll_up(pump):
        pass

    async with pump.begin(NOBODY) as session:
        before = (await counts.overview(session)).missing
        await session.execute(text(breakage), {"endpoint": endpoint.id, "tenant": tenant.tenant})
        after = (await counts.overview(session)).missing
        (day,) = await counts.days(session, tenant.tenant, first=now().date(), last=now().date())
        await session.rollback()

    assert (missing, abs(missing)) == (day.missing, after - before)


async def test_what_waits_for_a_failing_endpoint_is_nobodys_delay(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller
) -> None:
    """It is asked once a minute for up to five days: the operator's alarm must not ring all the while."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, "http://127.0.0.1:9/")
    await happened(committed_db, tenant, an_event(owner=tenant))

    async with pump.begin(NOBODY) as session:
        late = "UPDATE deliveries SET next_at = now() - interval '100 days' WHERE endpoint_id = :endpoint"
        await session.execute(text(late), {"endpoint": endpoint.id})
        healthy = (await counts.overview(session)).overdue_seconds or 0
        fails = "UPDATE endpoints SET failing_since = now() WHERE id = :endpoint"
        await session.execute(text(fails), {"endpoint": endpoint.id})
        failing = (await counts.overview(session)).overdue_seconds or 0
        await session.rollback()

    hundred_days = 100 * 86_400.0
    assert (True, True) == (healthy >= hundred_days, failing < hundred_days)


async def test_a_roll_up_changes_nothing_that_anybody_reads(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller
) -> None:
    """In bounded batches, by several workers at once; each delta is summed up once."""
    await make_endpoint(committed_db, tenant, keyring, "http://127.0.0.1:9/")
    for _ in range(30):
        await happened(committed_db, tenant, an_event(owner=tenant))
    before = await days_of(committed_db, tenant)
    read: list[Sequence[Day]] = []

    async def work_off() -> int:
        return sum([await counts.roll_up(pump, most=3) for _ in range(8)])

    async def look() -> None:
        read.extend([await days_of(committed_db, tenant) for _ in range(20)])

    await asyncio.gather(work_off(), look(), work_off(), look(), work_off())
    while await counts.roll_up(pump):
        pass
    left = await rows(committed_db, tenant, "SELECT 1 FROM delivery_deltas")

    assert [before] * 40 == read
    assert before == await days_of(committed_db, tenant)
    assert [] == left


async def test_nothing_is_missing_while_it_is_on_its_way(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    """Read again and again while events are stored, delivered and summed up."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    busy = True
    read: list[Totals] = []

    async def store() -> None:
        for _ in range(10):
            await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(10)))

    async def look() -> None:
        while busy:
            read.append(await told(committed_db, tenant))
            await counts.roll_up(pump, most=2)

    looking = asyncio.create_task(look())
    await asyncio.gather(store(), run(endpoint.id), run(endpoint.id))
    await run(endpoint.id)
    busy = False
    await looking

    assert {0} == {total.missing for total in read}
    assert became(created=100, delivered=100) == await told(committed_db, tenant)


async def test_a_stranger_counts_only_its_own(
    committed_db: Database, keyring: Keyring, tenant: Caller, stranger: Caller
) -> None:
    await make_endpoint(committed_db, tenant, keyring, "http://127.0.0.1:9/")
    await happened(committed_db, tenant, an_event(owner=tenant, delegate=stranger))

    async with committed_db.read(stranger) as session:
        foreign = await counts.days(session, tenant.tenant, first=now().date(), last=now().date())

    assert ([], became()) == (foreign, await told(committed_db, stranger))
