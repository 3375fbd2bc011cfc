"""The delivery engine, on a real Postgres and against real receivers."""

import asyncio
import json
from datetime import timedelta

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.webhooks import deliveries, enabling, endpoints, pending
from broker.webhooks.deliveries import DeliveryId
from broker.webhooks.events import Shape
from broker.webhooks.holding import Held, Lines
from broker.webhooks.lane import Lane
from broker.webhooks.pacing import Pace
from broker.webhooks.render import SOURCES, TYPE_PREFIX
from broker.webhooks.retries import SCHEDULE
from broker.webhooks.views import DeliveryState
from tests.webhooks.conftest import Run, an_event, happened, make_due, make_endpoint, rows
from tests.webhooks.receiver import Reaction, Receiver
from tests.webhooks.replaying import finish, the_catch_up
from tests.webhooks.waiting import until


async def test_an_event_reaches_the_endpoint_signed_as_a_customer_checks_it(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)

    made = await run(endpoint.id)

    assert 1 == made
    (request,) = receiver.delivered
    checked = Webhook(endpoint.secret).verify(request.body, request.headers)
    assert {"state": "active", "event_id": str(event.id)} == checked["data"]
    assert ("grant.activated", str(event.id)) == (checked["type"], request.headers["webhook-id"])
    assert [] == await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)


async def test_a_cloud_event_reaches_the_endpoint_as_one_signed_over_exactly_its_bytes(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    """CloudEvents 1.0, HTTP binding, structured content mode; the SDK raises for what is none."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url, shape=Shape.CLOUDEVENTS)
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)

    await run(endpoint.id)

    (request,) = receiver.delivered
    found = from_structured_event(HTTPMessage(request.headers, request.body))
    assert "application/cloudevents+json; charset=utf-8" == request.headers["content-type"]
    assert (str(event.id), "1.0", SOURCES + "broker", TYPE_PREFIX + "grant.activated", event.at) == (
        found.get_id(),
        found.get_specversion(),
        found.get_source(),
        found.get_type(),
        found.get_time(),
    )
    assert {"state": "active", "event_id": str(event.id)} == found.get_data()
    assert json.loads(request.body) == Webhook(endpoint.secret).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint.secret).verify(request.body + b" ", request.headers)


async def test_a_receiver_that_fails_gets_it_again_under_the_same_id(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)
    receiver.reactions = [Reaction(status=500, body=b"oops\0")]

    await run(endpoint.id)
    (pending,) = await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)
    failing = await endpoints.show(committed_db, tenant, endpoint.id)
    await make_due(committed_db, tenant, endpoint.id)
    await run(endpoint.id)

    tries = await deliveries.attempts(committed_db, tenant, DeliveryId(endpoint.id, event.id))
    assert [(1, 500, "oops\N{REPLACEMENT CHARACTER}"), (2, 200, "thanks")] == [
        (one.number, one.status, one.answer) for one in tries
    ]
    assert 1 == pending.attempts
    assert [str(event.id)] * 2 == receiver.ids()
    assert failing.failing_since is not None
    assert (await endpoints.show(committed_db, tenant, endpoint.id)).failing_since is None


async def test_a_failed_delivery_is_due_when_its_next_attempt_is(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    async with committed_db.begin(tenant) as session:
        await session.execute(text("UPDATE deliveries SET attempts = 1"))  # the first wait is so short that it may end
    receiver.reactions = [Reaction(status=302, headers={"location": receiver.url})]

    await run(endpoint.id)

    (delivery,) = await rows(committed_db, tenant, "SELECT next_at - now() AS wait FROM deliveries")
    assert SCHEDULE[2] - timedelta(minutes=1) < delivery.wait <= SCHEDULE[2]
    assert 0 == await run(endpoint.id)


async def test_a_delivery_that_fails_ten_times_is_dead_and_can_be_replayed(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)
    receiver.reactions = [Reaction(status=500)] * 10

    for _ in range(10):
        await make_due(committed_db, tenant, endpoint.id)
        await run(endpoint.id)
    dead = await deliveries.list_some(committed_db, tenant, state=DeliveryState.DEAD)
    await deliveries.replay(committed_db, tenant, DeliveryId(endpoint.id, event.id))
    await run(endpoint.id)

    assert [(10, "The endpoint answered 500.")] == [(one.attempts, one.reason) for one in dead]
    assert 11 == len(receiver.delivered)
    assert [] == await deliveries.list_some(committed_db, tenant, state=DeliveryState.DEAD)
    assert [] == await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)


async def test_gone_disables_the_endpoint_and_tells_the_tenants_others(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, other_receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url, event_types=["grant.*"])
    other = await make_endpoint(committed_db, tenant, keyring, other_receiver.url, event_types=["endpoint.disabled"])
    await happened(committed_db, tenant, an_event(owner=tenant))
    receiver.reactions = [Reaction(status=410)]

    await run(endpoint.id)
    await run(other.id)

    told = Webhook(other.secret).verify(other_receiver.delivered[0].body, other_receiver.delivered[0].headers)
    disabled = await endpoints.show(committed_db, tenant, endpoint.id)
    audit = await rows(committed_db, tenant, "SELECT actor FROM audit WHERE action = 'endpoint.disabled'")
    assert ("disabled", "The endpoint answered 410 Gone.") == (disabled.state, disabled.reason)
    assert (str(endpoint.id), disabled.reason) == (told["data"]["endpoint_id"], told["data"]["reason"])
    assert ["system:deliveries"] == [row.actor for row in audit]


async def test_a_disabled_endpoint_gets_what_is_pending_once_it_is_enabled(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    receiver.reactions = [Reaction(status=410)]
    await run(endpoint.id)
    await make_due(committed_db, tenant, endpoint.id)

    before = await run(endpoint.id)
    await enabling.enable(committed_db, tenant, endpoint.id)
    await finish(committed_db, tenant, (await the_catch_up(committed_db, tenant, endpoint.id)).id)
    after = await run(endpoint.id)

    assert (0, 2) == (before, after)  # and what it missed: that it was disabled


async def test_five_days_of_nothing_but_failures_disable_the_endpoint(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    async with committed_db.begin(tenant) as session:
        row = await endpoints.find(session, tenant, endpoint.id)
        row.failing_since = row.created_at - timedelta(days=5)
    receiver.reactions = [Reaction(status=500)]

    await run(endpoint.id)

    assert "disabled" == (await endpoints.show(committed_db, tenant, endpoint.id)).state


async def test_retry_after_leaves_the_whole_endpoint_alone(
    committed_db: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, an_event(owner=tenant))
    receiver.reactions = [Reaction(status=429, headers={"retry-after": "3600"})]

    await run(endpoint.id)
    await happened(committed_db, tenant, an_event(owner=tenant))
    made = await run(endpoint.id)

    (lane,) = await rows(committed_db, tenant, "SELECT quiet_until - now() AS wait FROM lanes")
    assert 0 == made
    assert timedelta(minutes=59) < lane.wait <= timedelta(hours=1)


async def test_an_endpoint_that_hangs_does_not_delay_another(
    committed_db: Database,
    keyring: Keyring,
    tenant: Caller,
    receiver: Receiver,
    other_receiver: Receiver,
    run: Run,
) -> None:
    gate = asyncio.Event()
    receiver.react = lambda _: Reaction(gate=gate)
    hanging = await make_endpoint(committed_db, tenant, keyring, receiver.url, event_types=["grant.*"])
    healthy = await make_endpoint(committed_db, tenant, keyring, other_receiver.url)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(20)))

    running = asyncio.create_task(run(hanging.id, healthy.id))
    await until(lambda: len(other_receiver.delivered) == 20)
    await happened(committed_db, tenant, an_event(owner=tenant, type="connection.verified"))
    await until(lambda: len(other_receiver.delivered) == 21)
    gate.set()

    assert 41 == await running


async def test_complaints_and_bounces_go_before_everything_else(
    committed_db: Database, keyring: Keyring, tenant: Caller, lines: Lines
) -> None:
    """Seen in what a lane pops: what it sends side by side may reach a receiver in any order."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, "https://hooks.example.com")
    kinds = ["email.opened", "email.delivered", "grant.revoked", "email.bounced"]
    events = {kind: an_event(owner=tenant, type=kind) for kind in kinds}
    await happened(committed_db, tenant, *events.values())
    lane = Lane(Held(endpoint.id, tenant.tenant, 1), until=1.0, pace=Pace())

    wishes = lane.wishes()
    lane.receive(wishes, await pending.fetch(lines.reading, wishes))

    assert [events[kind].id for kind in reversed(kinds)] == [
        parcel.event_id for parcel in iter(lane.pop, None) if parcel
    ]


async def test_an_unreachable_receiver_is_an_attempt_with_its_reason(
    committed_db: Database, keyring: Keyring, tenant: Caller, run: Run
) -> None:
    endpoint = await make_endpoint(committed_db, tenant, keyring, "http://127.0.0.1:9/hook")
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)

    await run(endpoint.id)

    (one,) = await deliveries.attempts(committed_db, tenant, DeliveryId(endpoint.id, event.id))
    assert (None, "The connection could not be made.") == (one.status, one.error)
