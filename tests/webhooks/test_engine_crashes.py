"""Crashes, races and leases: nothing is lost, and only the holder of a lease writes."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update

from broker import due
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.due import Superseded
from broker.gateways.http import HttpSender
from broker.webhooks import deliveries, endpoints, engine
from broker.webhooks.attempt import Attempts
from broker.webhooks.lane import Lane
from broker.webhooks.models import DeliveryRow
from broker.webhooks.views import DeliveryState
from tests.webhooks.conftest import Run, an_event, happened, make_due, make_endpoint, rows
from tests.webhooks.receiver import Delivered, Reaction, Receiver
from tests.webhooks.waiting import until


async def test_a_superseded_worker_writes_nothing(
    committed_db: Database, pump: Database, keyring: Keyring, sender: HttpSender, tenant: Caller, receiver: Receiver
) -> None:
    gate = asyncio.Event()
    receiver.react = lambda _: Reaction(gate=gate)
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    (claim,) = await due.claim(pump, "lanes", most=1, lease=timedelta(seconds=30), only=[endpoint.id])
    attempts = Attempts(sender, timeout=timedelta(seconds=5), dice=lambda: 0.5)
    until_when = asyncio.get_running_loop().time() + 10
    working = asyncio.create_task(Lane(pump, keyring, attempts, claim, start_until=until_when).work())
    await until(lambda: len(receiver.delivered) == 1)

    await make_due(committed_db, tenant, endpoint.id)
    (taken,) = await due.claim(pump, "lanes", most=1, lease=timedelta(seconds=30), only=[endpoint.id])
    gate.set()
    with pytest.raises(Superseded):
        await working

    (pending,) = await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)
    assert claim.fence + 1 == taken.fence
    assert 0 == pending.attempts
    assert [] == await rows(committed_db, tenant, "SELECT id FROM attempts")


async def test_nothing_is_sent_when_the_lease_is_too_short_for_it(
    committed_db: Database, pump: Database, keyring: Keyring, sender: HttpSender, tenant: Caller, receiver: Receiver
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    (claim,) = await due.claim(pump, "lanes", most=1, lease=timedelta(seconds=30), only=[endpoint.id])
    attempts = Attempts(sender, timeout=timedelta(seconds=5), dice=lambda: 0.5)

    too_late = asyncio.get_running_loop().time() - 1
    made = await Lane(pump, keyring, attempts, claim, start_until=too_late).work()

    (lane,) = await rows(committed_db, tenant, "SELECT due_at <= now() AS due FROM lanes")
    assert (0, [], True) == (made, receiver.delivered, lane.due)


async def test_a_worker_that_dies_between_post_and_finish_costs_a_second_post_and_no_event(
    committed_db: Database,
    pump: Database,
    keyring: Keyring,
    sender: HttpSender,
    tenant: Caller,
    receiver: Receiver,
    run: Run,
) -> None:
    gate = asyncio.Event()
    receiver.react = lambda _: Reaction(gate=gate)
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    dying = asyncio.create_task(engine.run(pump, sender, keyring, only=[endpoint.id]))
    await until(lambda: len(receiver.delivered) == 1)

    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    gate.set()
    leased = await run(endpoint.id)
    await make_due(committed_db, tenant, endpoint.id)
    after = await run(endpoint.id)

    assert (0, 1) == (leased, after)
    assert 2 == len(receiver.delivered)
    assert 1 == len(set(receiver.ids()))


async def test_what_arrives_while_the_lane_is_leased_is_sent_in_the_same_run(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    gate = asyncio.Event()

    def first_hangs(_: Delivered) -> Reaction:
        return Reaction(gate=gate if len(receiver.delivered) == 1 else None)

    receiver.react = first_hangs
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))

    running = asyncio.create_task(run(endpoint.id, deadline=10.0))
    await until(lambda: len(receiver.delivered) == 1)
    await happened(committed_db, tenant, an_event(owner=tenant))
    await until(lambda: len(receiver.delivered) == 2)
    gate.set()

    assert 2 == await running
    assert 2 == len(set(receiver.ids()))


async def test_two_workers_at_once_send_each_event_once(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    events = [an_event(owner=tenant) for _ in range(150)]
    await happened(committed_db, tenant, *events)

    made = await asyncio.gather(*(run(endpoint.id) for _ in range(3)))

    assert 150 == sum(made)
    assert sorted(str(event.id) for event in events) == sorted(receiver.ids())


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
