"""Enabling an endpoint: what is new goes at once, what it missed follows at a bounded rate, and nothing twice."""

import asyncio

import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.webhooks import deliveries, enabling, endpoints, pauses
from broker.webhooks.deliveries import HELD
from broker.webhooks.replays import service
from broker.webhooks.replays.models import Kind, State
from broker.webhooks.views import DeliveryState, EndpointMade
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.receiver import Reaction, Receiver
from tests.webhooks.replaying import (
    dead,
    delivered,
    disabled,
    due_now,
    finish,
    is_due_in,
    put_off,
    recover,
    replay,
    step,
    sums,
    the_catch_up,
)

URL = "https://hooks.example.com/ses"


@pytest.fixture
async def endpoint(committed_db: Database, tenant: Caller, keyring: Keyring) -> EndpointMade:
    return await make_endpoint(committed_db, tenant, keyring, URL)


async def pending_ones(db: Database, tenant: Caller, count: int) -> None:
    """Events that are fanned out and stay pending."""
    await happened(db, tenant, *(an_event(owner=tenant) for _ in range(count)))


async def test_what_was_pending_comes_back_at_the_rate_of_the_job_and_new_events_at_once(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await pending_ones(committed_db, tenant, 60)
    await disabled(committed_db, tenant, made.id)
    new = an_event(owner=tenant)

    await enabling.enable(committed_db, tenant, made.id)
    await happened(committed_db, tenant, new)
    await run(made.id)
    at_once = receiver.ids()
    job = await the_catch_up(committed_db, tenant, made.id)
    counts = []
    for _ in range(2):
        shown = await step(committed_db, tenant, job.id)
        await run(made.id)
        counts.append((shown.total, shown.queued, shown.state, len(receiver.ids())))

    assert [str(new.id)] == at_once
    assert [(60, 50, State.RUNNING, 51), (60, 60, State.DONE, 61)] == counts
    assert 61 == len(set(receiver.ids()))
    assert {"created": 61, "delivered": 61, "pending": 0, "dead": 0, "cancelled": 0} == await sums(committed_db, tenant)


async def test_what_happened_while_it_was_disabled_is_delivered_once(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    """Nothing of before, nothing of after, nothing that its filters leave out; with the real way of being disabled."""
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url, event_types=["grant.*"])
    before, gone, after = (an_event(owner=tenant) for _ in range(3))
    missed = [an_event(owner=tenant) for _ in range(3)]
    await happened(committed_db, tenant, before)
    await run(made.id)
    receiver.reactions = [Reaction(status=410)]
    await happened(committed_db, tenant, gone)
    await run(made.id)
    await happened(committed_db, tenant, *missed, an_event(owner=tenant, type="connection.lost"))

    await enabling.enable(committed_db, tenant, made.id)
    await happened(committed_db, tenant, after)
    await run(made.id)
    job = await the_catch_up(committed_db, tenant, made.id)
    done = await finish(committed_db, tenant, job.id)
    await run(made.id)

    received = [str(event.id) for event in (before, gone, gone, *missed, after)]
    assert sorted(received) == sorted(receiver.ids())
    assert (State.DONE, Kind.CATCH_UP, 4) == (done.state, done.kind, done.queued)
    assert 0 == (await sums(committed_db, tenant))["pending"]


async def test_the_urgent_comes_back_first(committed_db: Database, tenant: Caller, endpoint: EndpointMade) -> None:
    await happened(committed_db, tenant, *(an_event(owner=tenant, type="email.opened") for _ in range(49)))
    bounces = [an_event(owner=tenant, type="email.bounced") for _ in range(3)]
    await happened(committed_db, tenant, *bounces)
    await disabled(committed_db, tenant, endpoint.id)
    await enabling.enable(committed_db, tenant, endpoint.id)

    job = await the_catch_up(committed_db, tenant, endpoint.id)
    await step(committed_db, tenant, job.id)

    assert {event.id for event in bounces} <= set(await due_now(committed_db, tenant, endpoint.id))
    assert 2 == await put_off(committed_db, tenant, endpoint.id)


async def test_what_is_put_off_is_listed_as_pending_without_a_time(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await pending_ones(committed_db, tenant, 1)
    await disabled(committed_db, tenant, endpoint.id)
    await enabling.enable(committed_db, tenant, endpoint.id)

    (shown,) = await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)

    assert (DeliveryState.PENDING, None) == (shown.state, shown.next_at)


async def test_an_endpoint_disabled_again_goes_on_where_it_was(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await pending_ones(committed_db, tenant, 30)
    await disabled(committed_db, tenant, endpoint.id)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(30)))
    await enabling.enable(committed_db, tenant, endpoint.id)
    first = await the_catch_up(committed_db, tenant, endpoint.id)
    await step(committed_db, tenant, first.id)
    sent = await delivered(committed_db, tenant, endpoint.id)
    await pending_ones(committed_db, tenant, 5)
    sent += await delivered(committed_db, tenant, endpoint.id)
    await disabled(committed_db, tenant, endpoint.id)
    waiting = await step(committed_db, tenant, first.id)
    await pending_ones(committed_db, tenant, 7)

    await enabling.enable(committed_db, tenant, endpoint.id)
    second = await the_catch_up(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, second.id)
    sent += await delivered(committed_db, tenant, endpoint.id)

    assert (first.id, "It waits: the endpoint is disabled.") == (second.id, waiting.reason)
    assert (State.DONE, 67, 72) == (done.state, done.queued, sent)
    assert {"created": 72, "delivered": 72, "pending": 0, "dead": 0, "cancelled": 0} == await sums(committed_db, tenant)


async def test_an_event_that_was_being_stored_when_it_was_enabled_is_not_missed(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    """It was fanned out without the endpoint, and is committed after the job has begun."""
    await disabled(committed_db, tenant, endpoint.id)
    event = an_event(owner=tenant)
    async with committed_db.begin(tenant) as session:
        await session.execute(
            text(
                "INSERT INTO events (id, at, type, owner_id, owner_view, source, data)"
                " VALUES (:id, :at, 'email.sent', :me, 'full', 'broker', '{}')"
            ),
            {"id": event.id, "at": event.at, "me": tenant.tenant},
        )
        await enabling.enable(committed_db, tenant, endpoint.id)
        job = await the_catch_up(committed_db, tenant, endpoint.id)
        meanwhile = await step(committed_db, tenant, job.id)
    done = await finish(committed_db, tenant, job.id)

    assert (State.RUNNING, 0) == (meanwhile.state, meanwhile.queued)
    assert (State.DONE, 1) == (done.state, done.queued)
    assert [event.id] == await due_now(committed_db, tenant, endpoint.id)


async def test_what_a_cancelled_catch_up_did_not_bring_back_is_dead_and_can_be_recovered(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await pending_ones(committed_db, tenant, 60)
    await disabled(committed_db, tenant, endpoint.id)
    await enabling.enable(committed_db, tenant, endpoint.id)
    job = await the_catch_up(committed_db, tenant, endpoint.id)
    await step(committed_db, tenant, job.id)

    await service.cancel(committed_db, tenant, job.id)
    await step(committed_db, tenant, job.id)
    buried = await dead(committed_db, tenant, endpoint.id), await put_off(committed_db, tenant, endpoint.id)
    balance = await sums(committed_db, tenant)
    again = await recover(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, again.id)

    assert (10, 0) == buried
    assert {"created": 60, "delivered": 0, "pending": 50, "dead": 10, "cancelled": 0} == balance
    assert (10, 60) == (done.queued, len(await due_now(committed_db, tenant, endpoint.id)))
    assert await is_due_in(committed_db, tenant, job.id) is None
    assert {"created": 60, "delivered": 0, "pending": 60, "dead": 0, "cancelled": 0} == await sums(committed_db, tenant)


async def test_a_cancelled_catch_up_touches_nothing_of_the_next(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await pending_ones(committed_db, tenant, 60)
    await disabled(committed_db, tenant, endpoint.id)
    await enabling.enable(committed_db, tenant, endpoint.id)
    first = await the_catch_up(committed_db, tenant, endpoint.id)
    await service.cancel(committed_db, tenant, first.id)
    await disabled(committed_db, tenant, endpoint.id)

    await step(committed_db, tenant, first.id)
    await enabling.enable(committed_db, tenant, endpoint.id)
    await step(committed_db, tenant, first.id)
    second = await the_catch_up(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, second.id)

    assert first.id != second.id
    assert (60, 0) == (done.queued, await dead(committed_db, tenant, endpoint.id))


async def test_enabling_it_several_times_at_once_makes_one_job_and_leaves_nothing_behind(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await pending_ones(committed_db, tenant, 20)
    await disabled(committed_db, tenant, endpoint.id)

    views = await asyncio.gather(*(enabling.enable(committed_db, tenant, endpoint.id) for _ in range(4)))
    jobs = await service.list_some(committed_db, tenant, endpoint_id=endpoint.id)
    done = await finish(committed_db, tenant, jobs[0].id)

    assert (["active"] * 4, 1) == ([view.state for view in views], len(jobs))
    assert (20, 0) == (done.queued, await put_off(committed_db, tenant, endpoint.id))


async def test_enabling_that_was_cut_short_goes_on_when_it_is_asked_for_again(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    """What is pending is put off in transactions of its own: a crash leaves some, and a disabled endpoint."""
    await pending_ones(committed_db, tenant, 5)
    await disabled(committed_db, tenant, endpoint.id)
    async with committed_db.begin(tenant) as session:
        await session.execute(
            text(
                "UPDATE deliveries SET next_at = :held WHERE event_id IN"
                " (SELECT event_id FROM deliveries WHERE endpoint_id = :id LIMIT 3)"
            ),
            {"held": HELD, "id": endpoint.id},
        )

    await enabling.enable(committed_db, tenant, endpoint.id)
    job = await the_catch_up(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, job.id)

    assert (5, 5) == (done.queued, len(await due_now(committed_db, tenant, endpoint.id)))


async def test_a_million_pending_ones_are_put_off_a_part_at_a_time(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    """Three parts here. No transaction is long, and nothing is locked that a pump writes."""
    count = 2 * enabling.AT_ONCE + 1
    async with committed_db.begin(tenant) as session:
        await session.execute(
            text(
                "INSERT INTO deliveries (endpoint_id, event_id, event_at, tenant_id, priority)"
                " SELECT :id, gen_random_uuid(), now(), :me, 2 FROM generate_series(1, :count)"
            ),
            {"id": endpoint.id, "me": tenant.tenant, "count": count},
        )
    await disabled(committed_db, tenant, endpoint.id)

    await enabling.enable(committed_db, tenant, endpoint.id)

    assert count == await put_off(committed_db, tenant, endpoint.id)


@pytest.mark.parametrize("state", ["active", "paused"])
async def test_enabling_what_is_not_disabled_makes_no_job(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade, state: str
) -> None:
    await pending_ones(committed_db, tenant, 1)
    if state == "paused":
        await pauses.pause(committed_db, tenant, endpoint.id)

    shown = await enabling.enable(committed_db, tenant, endpoint.id)

    assert state == shown.state
    assert [] == list(await service.list_some(committed_db, tenant))
    assert 0 == await put_off(committed_db, tenant, endpoint.id)


async def test_another_job_waits_while_the_endpoint_is_disabled_and_while_it_catches_up(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await pending_ones(committed_db, tenant, 60)
    job = await replay(committed_db, tenant, endpoint.id)
    await disabled(committed_db, tenant, endpoint.id)

    reasons = [(await step(committed_db, tenant, job.id)).reason]
    await enabling.enable(committed_db, tenant, endpoint.id)
    reasons.append((await step(committed_db, tenant, job.id)).reason)
    catching_up = await the_catch_up(committed_db, tenant, endpoint.id)
    await finish(committed_db, tenant, catching_up.id)
    done = await finish(committed_db, tenant, job.id)

    assert ["It waits: the endpoint is disabled.", "It waits: the endpoint catches up first."] == reasons
    assert (State.DONE, 60) == (done.state, done.queued)


async def test_a_disabled_endpoint_that_is_deleted_takes_its_pending_ones_along(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await pending_ones(committed_db, tenant, 3)
    await disabled(committed_db, tenant, endpoint.id)
    await enabling.enable(committed_db, tenant, endpoint.id)
    job = await the_catch_up(committed_db, tenant, endpoint.id)
    await endpoints.remove(committed_db, tenant, endpoint.id)

    ended = await step(committed_db, tenant, job.id)

    assert State.CANCELLED is ended.state
    assert {"created": 3, "delivered": 0, "pending": 0, "dead": 0, "cancelled": 3} == await sums(committed_db, tenant)


async def test_a_digest_of_the_time_when_it_was_disabled_follows_whatever_its_filters_are(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    """It is addressed to this endpoint, so that its receiver can see what it has missed."""
    made = await make_endpoint(committed_db, tenant, keyring, URL, event_types=["email.bounced"])
    other = await make_endpoint(committed_db, tenant, keyring, URL)
    await disabled(committed_db, tenant, made.id)
    mine, foreign = (
        an_event(owner=tenant, type="endpoint.digest", data={"endpoint_id": str(one)}) for one in (made.id, other.id)
    )
    async with committed_db.as_role(Role.INGEST).begin(tenant) as session:
        for event in (mine, foreign):
            await session.execute(
                text(
                    "INSERT INTO events (id, at, type, owner_id, owner_view, source, data)"
                    " VALUES (:id, :at, 'endpoint.digest', :me, 'full', 'broker',"
                    " jsonb_build_object('endpoint_id', CAST(:to AS text)))"
                ),
                {"id": event.id, "at": event.at, "me": tenant.tenant, "to": event.data["endpoint_id"]},
            )

    await enabling.enable(committed_db, tenant, made.id)
    job = await the_catch_up(committed_db, tenant, made.id)
    await finish(committed_db, tenant, job.id)

    assert [mine.id] == await due_now(committed_db, tenant, made.id)


async def test_the_endpoint_forgets_when_it_was_disabled(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await disabled(committed_db, tenant, endpoint.id)
    await enabling.enable(committed_db, tenant, endpoint.id)

    query = "SELECT disabled_at, disabled_xact, reason FROM endpoints WHERE id = :id"
    assert [(None, None, None)] == [tuple(row) for row in await rows(committed_db, tenant, query, id=endpoint.id)]
