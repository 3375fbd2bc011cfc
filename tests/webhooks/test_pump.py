"""The resident pump: when it sends, what it obeys while it holds a lane, and who takes room from whom."""

import asyncio
import time
from datetime import timedelta
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from standardwebhooks import Webhook

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.gateways.http import HttpSender
from broker.ids import new_id
from broker.webhooks import endpoints, leases, pauses, rotation
from broker.webhooks.attempt import Addressee, Attempts
from broker.webhooks.flights import SLOW_AFTER, Flights
from broker.webhooks.holding import Held, Lines
from broker.webhooks.lane import Lane
from broker.webhooks.leases import Leases
from broker.webhooks.models import EndpointRow, LaneRow, SecretRow
from broker.webhooks.pacing import PATIENCE, Bucket, Pace
from broker.webhooks.pending import BEGINNING, Parcel, Result, Wish
from broker.webhooks.pump import Pump
from broker.webhooks.retries import Next
from broker.webhooks.shares import MOST, MOST_OF_ONE
from broker.webhooks.views import EndpointChange
from tests.webhooks.conftest import an_event, happened, make_endpoint, rows
from tests.webhooks.pumping import Deaf, Scripted, a_pump, resident
from tests.webhooks.receiver import Reaction, Receiver
from tests.webhooks.test_counts import became, told
from tests.webhooks.waiting import until, until_told

HOOK = "https://hooks.example.com/"


async def sent(sender: Scripted, number: int) -> None:
    """Until so many were sent."""
    await until(lambda: len(sender.sent) >= number)


# When it sends.


async def test_a_ring_is_answered_at_once(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    """Nobody sweeps here."""
    sender = Scripted()
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as working:
        for number in range(1, 4):
            await happened(committed_db, tenant, an_event(owner=tenant))
            working.ring([endpoint.id])
            await sent(sender, number)

    assert became(created=3, delivered=3) == await told(committed_db, tenant)


async def test_without_any_ring_a_sweep_finds_the_work(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    hook = f"{HOOK}{tenant.tenant}"
    sender = Scripted(mine=hook)
    endpoint = await make_endpoint(committed_db, tenant, keyring, hook)
    event = an_event(owner=tenant)
    async with resident(a_pump(Pump, lines, pump, sender, keyring)):
        await happened(committed_db, tenant, event)
        await until(lambda: str(event.id) in sender.ids())

    assert endpoint.id
    assert became(created=1, delivered=1) == await told(committed_db, tenant)


async def test_a_ring_for_what_another_pump_lets_go_of_is_remembered(
    committed_db: Database,
    pump: Database,
    database_url: str,
    lines: Lines,
    keyring: Keyring,
    tenant: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other one was rung for last, and is idle: it keeps the lane for a moment, a long one on a slow machine."""
    monkeypatch.setattr(leases, "ASK_AGAIN_FOR", 60.0)
    first, second = Scripted(), Scripted()
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    other_lines = Lines(database_url)
    async with (
        resident(a_pump(Deaf, lines, pump, first, keyring, linger=0.1)) as one,
        resident(a_pump(Deaf, other_lines, pump, second, keyring)) as other,
    ):
        await happened(committed_db, tenant, an_event(owner=tenant))
        one.ring([endpoint.id])
        await until(lambda: len(first.sent) == 1)
        await happened(committed_db, tenant, an_event(owner=tenant))
        other.ring([endpoint.id])
        await until(lambda: len(second.sent) == 1)
    await other_lines.close()

    assert became(created=2, delivered=2) == await told(committed_db, tenant)


# What it obeys while it holds a lane.


async def free(db: Database, tenant: Caller) -> None:
    """Until no pump holds a lane of this tenant."""

    async def nobody_holds() -> bool:
        return not await rows(db, tenant, "SELECT id FROM lanes WHERE owner IS NOT NULL")

    await until_told(nobody_holds)


class Busy:
    """A lane that a resident pump holds: a window's worth is under way, and more waits in its memory."""

    def __init__(self, db: Database, tenant: Caller, endpoint_id: UUID, secret: str, working: Pump) -> None:
        self.db = db
        self.tenant = tenant
        self.endpoint_id = endpoint_id
        self.secret = secret
        self.working = working

    async def quiet(self) -> None:
        """Until the pump has let go of the lane."""
        await free(self.db, self.tenant)


FIRST = 4
ALL = 12


@pytest.fixture
def gate(receiver: Receiver) -> asyncio.Event:
    """What the first answers wait for."""
    gate = asyncio.Event()
    receiver.react = lambda _: Reaction(gate=gate)
    return gate


async def begin(db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, working: Pump) -> Busy:
    """Makes the lane busy."""
    endpoint = await make_endpoint(db, tenant, keyring, receiver.url)
    await happened(db, tenant, *(an_event(owner=tenant) for _ in range(ALL)))
    working.ring([endpoint.id])
    await until(lambda: len(receiver.delivered) == FIRST)
    return Busy(db, tenant, endpoint.id, endpoint.secret, working)


async def test_what_waits_for_a_paused_endpoint_is_not_sent(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
    gate: asyncio.Event,
) -> None:
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as working:
        busy = await begin(committed_db, tenant, keyring, receiver, working)
        await pauses.pause(committed_db, tenant, busy.endpoint_id)
        await working.sweep()
        gate.set()
        await busy.quiet()
        paused = await told(committed_db, tenant)
        await pauses.resume(committed_db, tenant, busy.endpoint_id)
        working.ring([busy.endpoint_id])
        await until(lambda: len(receiver.delivered) == ALL)

    assert became(created=ALL, delivered=FIRST, pending=ALL - FIRST) == paused
    assert ALL == len(set(receiver.ids()))
    assert became(created=ALL, delivered=ALL) == await told(committed_db, tenant)


async def test_what_waits_for_a_deleted_endpoint_is_not_sent(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
    gate: asyncio.Event,
) -> None:
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as working:
        busy = await begin(committed_db, tenant, keyring, receiver, working)
        await endpoints.remove(committed_db, tenant, busy.endpoint_id)
        await working.sweep()
        gate.set()
        await busy.quiet()

    assert FIRST == len(receiver.delivered)
    assert became(created=ALL, cancelled=ALL) == await told(committed_db, tenant)


async def test_what_waits_goes_to_the_new_url(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
    other_receiver: Receiver,
    gate: asyncio.Event,
) -> None:
    wanted = EndpointChange(url=other_receiver.url)
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as working:
        busy = await begin(committed_db, tenant, keyring, receiver, working)
        await endpoints.change(
            committed_db, tenant, busy.endpoint_id, wanted=wanted, keyring=keyring, allow_loopback=True
        )
        await working.sweep()
        gate.set()
        await until(lambda: len(other_receiver.delivered) == ALL - FIRST)

    assert FIRST == len(receiver.delivered)
    assert became(created=ALL, delivered=ALL) == await told(committed_db, tenant)


async def test_what_waits_is_signed_with_the_new_secret(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    sender: HttpSender,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
    gate: asyncio.Event,
) -> None:
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as working:
        busy = await begin(committed_db, tenant, keyring, receiver, working)
        new = await rotation.rotate(committed_db, tenant, busy.endpoint_id, overlap_hours=0, keyring=keyring)
        await working.sweep()
        gate.set()
        await until(lambda: len(receiver.delivered) == ALL)

    for number, request in enumerate(receiver.delivered):
        secret = busy.secret if number < FIRST else new.secret
        assert Webhook(secret).verify(request.body, request.headers)


async def test_an_endpoint_whose_secret_cannot_be_read_does_not_stop_the_others(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller, stranger: Caller
) -> None:
    sender = Scripted()
    other_keys = Keyring((Fernet.generate_key().decode(),), pepper="of another installation")
    broken = await make_endpoint(committed_db, tenant, other_keys, f"{HOOK}broken")
    sound = await make_endpoint(committed_db, stranger, keyring, f"{HOOK}sound")
    async with resident(a_pump(Deaf, lines, pump, sender, keyring)) as working:
        await happened(committed_db, tenant, an_event(owner=tenant))
        await happened(committed_db, stranger, an_event(owner=stranger))
        working.ring([broken.id, sound.id])
        await until(lambda: len(sender.sent) == 1)
        await happened(committed_db, stranger, an_event(owner=stranger))
        working.ring([broken.id, sound.id])
        await until(lambda: len(sender.sent) == 2)

    assert {f"{HOOK}sound"} == {url for url, _ in sender.sent}
    assert became(created=1, pending=1) == await told(committed_db, tenant)


async def test_a_lane_with_a_rate_limit_is_kept_until_it_may_send_again(
    committed_db: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    """Whoever claims it next begins with a full bucket: letting go of it at once would be no limit at all."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, HOOK)
    mine = Leases(lines, linger=timedelta(0))
    await mine.claim([endpoint.id])
    lane = mine.lanes[endpoint.id]
    lane.receive(lane.wishes(), [])
    lane.bucket = Bucket(1)
    lane.bucket.wait(time.monotonic())
    lane.bucket.take()
    await mine.release_idle()
    kept = set(mine.lanes)
    lane.bucket = Bucket(1)
    await mine.release_idle()

    assert ({endpoint.id}, set()) == (kept, set(mine.lanes))


# Failing ones.


async def test_a_failing_endpoint_is_left_alone_and_asked_by_one_attempt_at_a_time(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    """For a second at first, and then for two."""
    hook = f"{HOOK}{tenant.tenant}"
    asked: list[float] = []

    def fail_at_first(_: str) -> int:
        asked.append(time.monotonic())
        return 500 if len(asked) <= PATIENCE + 1 else 200

    sender = Scripted(fail_at_first, mine=hook)
    endpoint = await make_endpoint(committed_db, tenant, keyring, hook)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(20)))
    async with resident(a_pump(Pump, lines, pump, sender, keyring)) as working:
        working.ring([endpoint.id])
        await until(lambda: len(asked) >= PATIENCE)
        await free(committed_db, tenant)
        await until(lambda: len(set(sender.ids())) == 20)

    last, probe, next_probe = asked[PATIENCE - 1 : PATIENCE + 2]
    assert (True, True) == (probe - last >= 1, next_probe - probe >= 2)
    assert 0 == (await told(committed_db, tenant)).missing


async def test_two_hundred_failing_endpoints_do_not_hold_up_a_healthy_one(
    committed_db: Database, pump: Database, lines: Lines, keyring: Keyring, tenant: Caller
) -> None:
    sender = Scripted(lambda url: 200 if url.endswith("healthy") else 0)
    failing = await many_endpoints(committed_db, tenant, keyring, 200)
    healthy = await make_other(committed_db, tenant, keyring, f"{HOOK}healthy")
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(5)))
    working = a_pump(Deaf, lines, pump, sender, keyring)

    made = await working.burst([*failing, healthy])

    pending = await rows(committed_db, tenant, "SELECT endpoint_id FROM deliveries WHERE attempts = 0")
    noted = await rows(committed_db, tenant, "SELECT id FROM endpoints WHERE failing_since IS NOT NULL")
    assert 5 == len([url for url, _ in sender.sent if url.endswith("healthy")])
    assert made == len(sender.sent)
    assert set(failing) == {row.id for row in noted}
    assert healthy not in {row.endpoint_id for row in pending}
    assert 0 == (await told(committed_db, tenant)).missing


async def make_other(db: Database, tenant: Caller, keyring: Keyring, url: str) -> UUID:
    (made,) = await many_endpoints(db, tenant, keyring, 1, url=url)
    return made


async def many_endpoints(db: Database, tenant: Caller, keyring: Keyring, number: int, *, url: str = HOOK) -> list[UUID]:
    """More endpoints than a tenant may make by the API."""
    ids = [new_id() for _ in range(number)]
    async with db.begin(tenant) as session:
        session.add_all(EndpointRow(id=one, tenant_id=tenant.tenant, url=url, state="active") for one in ids)
        await session.flush()
        session.add_all(LaneRow(id=one, tenant_id=tenant.tenant) for one in ids)
        sealed = keyring.seal(b"s" * 32)
        session.add_all(SecretRow(id=new_id(), tenant_id=tenant.tenant, endpoint_id=one, sealed=sealed) for one in ids)
    return ids


# Who takes room from whom: attempts alone, without a database.


class Air:
    """Flights of some lanes over a scripted client."""

    def __init__(self) -> None:
        self.sender = Scripted()
        self.done: list[UUID] = []
        attempts = Attempts(self.sender, timeout=timedelta(seconds=10), dice=lambda: 0.5)
        self.flights = Flights(attempts, done=self._done, empty=lambda: None)

    def lane(self, tenant_id: UUID, number: int, *, url: str = HOOK, until: float = 1e12, window: int = 4) -> Lane:
        """A lane with so many deliveries, begun as far as there is room."""
        lane = Lane(Held(new_id(), tenant_id, 1), until=until, pace=Pace(window))
        lane.to = Addressee(tenant_id, url, keys={})
        lane.stamp, lane.fresh_until = 0, 1e12
        lane.receive([Wish(lane.held.id, 0, lane.wishes()[0].after, 1)], [a_parcel(lane) for _ in range(number)])
        self.flights.start(lane)
        return lane

    def _done(self, lane: Lane, parcel: Parcel, result: Result, step: Next) -> None:
        self.done.append(parcel.event_id)

    async def sent(self, number: int) -> None:
        await until(lambda: len(self.sender.sent) >= number)


def a_parcel(lane: Lane) -> Parcel:
    event = an_event(Caller(tenant_id=lane.held.tenant_id))
    return Parcel(
        lane_id=lane.held.id,
        priority=0,
        next_at=BEGINNING,
        event_id=event.id,
        number=1,
        stamp=0,
        waited=timedelta(0),
        tried_for=None,
        read_at=0.0,
        event=event,
    )


async def test_no_attempt_begins_when_the_lease_is_over() -> None:
    air = Air()
    lane = air.lane(new_id(), 3, until=0.0)
    await asyncio.sleep(0)

    assert ([], 3) == (air.sender.sent, lane.waiting)


async def test_what_was_begun_before_the_process_was_stopped_is_not_posted_after_the_lease() -> None:
    air = Air()
    lane = air.lane(new_id(), 3)
    lane.until = 0.0
    await until(lambda: not lane.flying)
    later = (list(air.sender.sent), lane.waiting)
    lane.until = 1e12
    air.flights.start(lane)
    await air.sent(3)

    assert ([], 3) == later


async def test_lanes_that_hang_are_set_apart_and_give_their_room_back() -> None:
    air = Air()
    air.sender.react = lambda url: None if url == HOOK else 200
    hanging = [air.lane(UUID(int=number % 5), 8) for number in range(MOST // 4)]
    await air.sent(MOST)
    air.lane(new_id(), 3, url=f"{HOOK}healthy")
    await asyncio.sleep(0)
    before = len(air.sender.sent)

    for lane in hanging:
        lane.flying = {event_id: at - 2 * SLOW_AFTER for event_id, at in lane.flying.items()}
        air.flights.set_apart_if_slow(lane)
    while air.flights.start_next():
        pass
    await air.sent(MOST + 3)
    air.sender.go.set()
    await air.flights.drain()

    assert MOST == before
    assert 3 == len([url for url, _ in air.sender.sent if url != HOOK])


async def test_who_has_all_the_room_does_not_keep_it() -> None:
    """Lanes with a backlog fill all the room; another tenant's lane still gets its turn before they run dry."""
    air = Air()
    backlog = 40
    for flood in range(MOST // MOST_OF_ONE):
        for _ in range(MOST_OF_ONE // 4):
            air.lane(UUID(int=flood), backlog)
    air.lane(UUID(int=99), 5, url=f"{HOOK}other")
    await until(lambda: sum(url != HOOK for url, _ in air.sender.sent) == 5)
    ahead = len(air.sender.sent)
    await air.flights.drain()

    assert ahead < MOST // 4 * backlog / 2


async def test_a_rate_limit_costs_one_timer_at_a_time() -> None:
    """And all that it allows is used: an attempt under way does not delay the next."""
    air = Air()
    asked: list[float] = []

    class Counting(Bucket):
        def wait(self, now: float) -> float:
            asked.append(now)
            return super().wait(now)

    lane = air.lane(new_id(), 0)
    lane.bucket = Counting(500)
    lane.receive([Wish(lane.held.id, 0, lane.wishes()[0].after, 1)], [a_parcel(lane) for _ in range(150)])
    air.flights.start(lane)
    await air.sent(150)

    assert len(asked) <= 150 * 5


async def test_what_hangs_does_not_delay_what_a_rate_limit_allows() -> None:
    air = Air()
    air.sender.react = lambda _: None
    lane = air.lane(new_id(), 0)
    lane.bucket = Bucket(8)
    lane.receive([Wish(lane.held.id, 0, lane.wishes()[0].after, 1)], [a_parcel(lane) for _ in range(3)])
    air.flights.start(lane)
    await air.sent(3)
    air.sender.go.set()
    await air.flights.drain()

    assert 3 == len(air.done)
