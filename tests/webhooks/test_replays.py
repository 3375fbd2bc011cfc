"""Replays: what they queue, how fast, what a crash does to them, and that nothing is ever counted wrong."""

import asyncio
import time
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.caller import Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.due import Claim, Superseded
from broker.errors import Conflict, Invalid, NotFound, Unavailable
from broker.ids import new_id
from broker.webhooks import deliveries, endpoints, pauses
from broker.webhooks.deliveries import DeliveryId
from broker.webhooks.replays import batches, service, work
from broker.webhooks.replays.models import NIL, Kind, ReplayRow, State
from broker.webhooks.replays.views import Since, Stretch
from broker.webhooks.views import EndpointMade
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.receiver import Receiver
from tests.webhooks.replaying import (
    KEPT,
    dead,
    delivered,
    died,
    due_now,
    finish,
    happened_in_bulk,
    is_due_in,
    recover,
    replay,
    second_passes,
    step,
    stretch,
    sums,
)

URL = "https://hooks.example.com/ses"


@pytest.fixture
async def endpoint(committed_db: Database, tenant: Caller, keyring: Keyring) -> EndpointMade:
    return await make_endpoint(committed_db, tenant, keyring, URL)


async def killed_on_the_way(worker: Database, claimed: Claim) -> None:
    """A step whose process ends before the commit."""
    caller = Caller.system(claimed.tenant_id, job="test")
    async with worker.begin(caller) as session:
        await work.move(session, caller, claimed)
        raise ConnectionAbortedError


async def test_a_range_is_sent_again_whatever_became_of_it(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    events = [an_event(owner=tenant) for _ in range(6)]
    await happened(committed_db, tenant, *events[:2])
    await delivered(committed_db, tenant, endpoint.id)
    await happened(committed_db, tenant, *events[2:4])
    await died(committed_db, tenant, endpoint.id)
    await happened(committed_db, tenant, *events[4:])

    job = await replay(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, job.id)

    assert (State.DONE, 6, 6, 6) == (done.state, done.total, done.queued, done.pending)
    assert sorted(event.id for event in events) == await due_now(committed_db, tenant, endpoint.id)
    # Six at first, and two that were delivered are made once more.
    assert {"created": 8, "delivered": 2, "pending": 6, "dead": 0, "cancelled": 0} == await sums(committed_db, tenant)


async def test_a_range_has_an_end_and_a_beginning(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    end = now() - timedelta(hours=2)
    times = [end - timedelta(hours=1), end - timedelta(microseconds=1), end, now()]
    events = [an_event(owner=tenant, at=at) for at in times]
    await happened(committed_db, tenant, *events)
    await delivered(committed_db, tenant, endpoint.id)

    job = await replay(committed_db, tenant, endpoint.id, stretch(until=end))
    await finish(committed_db, tenant, job.id)

    assert [event.id for event in events[:2]] == await due_now(committed_db, tenant, endpoint.id)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"event_types": ["email.bounced"]},
        {"event_types": ["grant.*", "email.opened"]},
        {"grant_ids": [UUID(int=7)]},
        {"identity_arns": ["arn:aws:ses:eu-west-1:111111111111:identity/example.com"]},
        {"event_types": ["email.*"], "grant_ids": [UUID(int=7)]},
    ],
)
async def test_a_range_gives_an_endpoint_what_it_would_have_been_given_at_first(
    committed_db: Database, tenant: Caller, stranger: Caller, keyring: Keyring, filters: dict[str, object]
) -> None:
    """The same filters and the same parties decide, whether an event is fanned out or replayed."""
    first = await make_endpoint(committed_db, tenant, keyring, URL, **filters)
    later = await make_endpoint(committed_db, tenant, keyring, URL, **{**filters, "event_types": ["connection.lost"]})
    identity = {"identity": "arn:aws:ses:eu-west-1:111111111111:identity/example.com"}
    await happened(
        committed_db.as_role(Role.INGEST),
        tenant,
        *(
            an_event(type=type_, grant_id=grant_id, data=data, **parties)
            for type_ in ("email.bounced", "email.opened", "grant.revoked")
            for grant_id, data in ((None, {}), (UUID(int=7), {}), (UUID(int=8), identity))
            for parties in (
                {"owner": tenant},
                {"delegate": tenant},
                {"owner": tenant, "delegate": tenant},
                {"owner": tenant, "delegate": tenant, "owner_view": None},
                {"owner": tenant, "owner_view": None, "delegate": stranger},
                {"owner": stranger},
                {"owner": stranger, "delegate": tenant},
            )
        ),
    )
    async with committed_db.begin(tenant) as session:
        await session.execute(
            text("UPDATE endpoints SET event_types = :types WHERE id = :id"),
            {"types": filters.get("event_types"), "id": later.id},
        )

    job = await replay(committed_db, tenant, later.id)
    await finish(committed_db, tenant, job.id)

    expected = await due_now(committed_db, tenant, first.id)
    assert expected == await due_now(committed_db, tenant, later.id)
    assert len(expected) > 0


async def test_a_test_of_another_endpoint_is_not_replayed(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade, keyring: Keyring
) -> None:
    other = await make_endpoint(committed_db, tenant, keyring, URL)
    await endpoints.send_test(committed_db, tenant, other.id)

    job = await replay(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, job.id)

    assert 0 == done.queued


async def test_everything_that_failed_since_a_time_is_sent_again(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    early, late, alive = (an_event(owner=tenant) for _ in range(3))
    await happened(committed_db, tenant, early)
    await died(committed_db, tenant, endpoint.id, ago=timedelta(hours=2))
    await happened(committed_db, tenant, late)
    await died(committed_db, tenant, endpoint.id, ago=timedelta(minutes=30))
    await happened(committed_db, tenant, alive)
    await delivered(committed_db, tenant, endpoint.id)

    job = await recover(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, job.id)

    assert (1, 1) == (done.total, done.queued)
    assert [late.id] == await due_now(committed_db, tenant, endpoint.id)
    assert {"created": 3, "delivered": 1, "pending": 1, "dead": 1, "cancelled": 0} == await sums(committed_db, tenant)


async def test_a_replay_goes_all_the_way_to_the_receiver(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    """Under the ids that the events had the first time."""
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    events = [an_event(owner=tenant) for _ in range(3)]
    await happened(committed_db, tenant, *events)
    await run(made.id)

    job = await replay(committed_db, tenant, made.id)
    await finish(committed_db, tenant, job.id)
    await run(made.id)

    done = await service.show(committed_db, tenant, job.id)
    assert sorted(2 * [str(event.id) for event in events]) == sorted(receiver.ids())
    assert (3, 0, 0, 3) == (done.queued, done.pending, done.dead, done.delivered)
    assert {"created": 6, "delivered": 6, "pending": 0, "dead": 0, "cancelled": 0} == await sums(committed_db, tenant)


async def test_no_more_than_the_rate_becomes_due_in_a_second(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    """Each step queues that many at most, and the next is a second away."""
    await happened_in_bulk(committed_db, tenant, 25)
    job = await replay(committed_db, tenant, endpoint.id, stretch(rate=10))

    steps, waits = [], []
    for _ in range(3):
        (before,) = await rows(committed_db, tenant, "SELECT clock_timestamp() AS at")
        shown = await step(committed_db, tenant, job.id)
        (job_row,) = await rows(committed_db, tenant, "SELECT due_at, clock_timestamp() AS at FROM replays")
        steps.append((shown.queued, shown.state))
        waits.append(job_row.due_at and (job_row.due_at - before.at, job_row.due_at - job_row.at))

    assert [(10, State.RUNNING), (20, State.RUNNING), (25, State.DONE)] == steps
    assert waits.pop() is None
    # From before the step it is a second at least, and from after it a second at most.
    assert all(whole >= work.EVERY >= left for whole, left in waits)


async def test_rows_that_nobody_wants_cost_the_receiver_no_time(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    """They are looked at in bounded stretches, one right after the other."""
    made = await make_endpoint(committed_db, tenant, keyring, URL, event_types=["email.bounced"])
    await happened_in_bulk(committed_db, tenant, batches.SCAN * (work.LOOKS + 1))
    bounce = an_event(owner=tenant, type="email.bounced")
    await happened(committed_db, tenant, bounce)
    await delivered(committed_db, tenant, made.id)
    job = await replay(committed_db, tenant, made.id)

    first = await step(committed_db, tenant, job.id)
    wait = await is_due_in(committed_db, tenant, job.id)
    second = await step(committed_db, tenant, job.id)

    assert (0, None, State.RUNNING) == (first.queued, first.total, first.state)
    assert wait is not None
    assert wait <= 0
    assert (1, 1, State.DONE) == (second.queued, second.total, second.state)


async def test_a_long_range_over_several_days_is_queued_once_and_completely(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await happened_in_bulk(committed_db, tenant, 10_001, over=timedelta(days=3))
    job = await replay(committed_db, tenant, endpoint.id, stretch(hours=24 * 4, rate=500))

    first = await step(committed_db, tenant, job.id)
    done = await finish(committed_db, tenant, job.id)

    (found,) = await rows(
        committed_db,
        tenant,
        "SELECT count(*) AS count, count(DISTINCT event_at::date) AS days FROM deliveries WHERE endpoint_id = :id",
        id=endpoint.id,
    )
    assert (None, 500) == (first.total, first.queued)  # too many to count beforehand
    assert (10_001, 10_001, State.DONE) == (done.queued, done.total, done.state)
    assert 10_001 == found.count
    assert found.days >= 3
    assert 10_001 == (await sums(committed_db, tenant))["created"]


async def test_a_crash_within_a_step_loses_nothing_and_doubles_nothing(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    """The rows and the position are written together, or neither is."""
    await happened_in_bulk(committed_db, tenant, 25)
    job = await replay(committed_db, tenant, endpoint.id, stretch(rate=10))
    await step(committed_db, tenant, job.id)
    worker = committed_db.as_role(Role.WORKER)

    await second_passes(committed_db, tenant, job.id)
    (claimed,) = await due.claim(worker, "replays", most=1, lease=timedelta(0), only=[job.id])
    with pytest.raises(Unavailable):
        await killed_on_the_way(worker, claimed)
    after_crash = await service.show(committed_db, tenant, job.id)
    done = await finish(committed_db, tenant, job.id)

    assert 10 == after_crash.queued
    assert (25, 25) == (done.queued, len(await due_now(committed_db, tenant, endpoint.id)))
    assert 25 == (await sums(committed_db, tenant))["created"]


async def test_a_worker_that_comes_too_late_writes_nothing(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await happened_in_bulk(committed_db, tenant, 25)
    job = await replay(committed_db, tenant, endpoint.id, stretch(rate=10))
    worker = committed_db.as_role(Role.WORKER)
    (late,) = await due.claim(worker, "replays", most=1, lease=timedelta(0), only=[job.id])
    await step(committed_db, tenant, job.id)

    with pytest.raises(Superseded):
        await work.step(worker, late)

    assert 10 == len(await due_now(committed_db, tenant, endpoint.id))


async def test_two_workers_at_once_queue_each_event_once(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await happened_in_bulk(committed_db, tenant, 60)
    job = await replay(committed_db, tenant, endpoint.id, stretch(rate=10))
    worker = committed_db.as_role(Role.WORKER)

    worked, seconds = [], []
    for _ in range(3):
        await second_passes(committed_db, tenant, job.id)
        began = time.monotonic()
        worked.append(sum(await asyncio.gather(*(work.run(worker, only=[job.id]) for _ in range(4)))))
        seconds.append(time.monotonic() - began)

    shown = await service.show(committed_db, tenant, job.id)
    queued = 10 * sum(worked)
    # One at a time; where the four took longer than a second, the next step may have been due for one of them.
    assert all(1 <= steps <= 1 + int(spent) for steps, spent in zip(worked, seconds, strict=True)), (worked, seconds)
    assert (queued, queued) == (shown.queued, len(await due_now(committed_db, tenant, endpoint.id)))


async def test_an_event_that_is_being_stored_holds_the_end_up(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    """It was begun before the job, so the job may not end without it; a later one is fanned out by itself."""
    event = an_event(owner=tenant)
    async with committed_db.begin(tenant) as session:
        await session.execute(
            text(
                "INSERT INTO events (id, at, type, owner_id, owner_view, source, data)"
                " VALUES (:id, :at, 'email.sent', :me, 'full', 'broker', '{}')"
            ),
            {"id": event.id, "at": event.at, "me": tenant.tenant},
        )
        job = await replay(committed_db, tenant, endpoint.id)
        meanwhile = await step(committed_db, tenant, job.id)
    done = await finish(committed_db, tenant, job.id)

    assert (State.RUNNING, 0) == (meanwhile.state, meanwhile.queued)
    assert (State.DONE, 1) == (done.state, done.queued)


async def test_a_cancelled_job_queues_nothing_more(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await happened_in_bulk(committed_db, tenant, 25)
    job = await replay(committed_db, tenant, endpoint.id, stretch(rate=10))
    await step(committed_db, tenant, job.id)

    cancelled = await service.cancel(committed_db, tenant, job.id)
    again = await service.cancel(committed_db, tenant, job.id)
    after = await step(committed_db, tenant, job.id)

    assert [State.CANCELLED] * 3 == [cancelled.state, again.state, after.state]
    assert (10, 10) == (after.queued, len(await due_now(committed_db, tenant, endpoint.id)))
    assert await is_due_in(committed_db, tenant, job.id) is None
    assert (await replay(committed_db, tenant, endpoint.id)).state is State.RUNNING  # there is room for another


async def test_a_job_that_is_done_cannot_be_cancelled(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    job = await replay(committed_db, tenant, endpoint.id)
    await finish(committed_db, tenant, job.id)

    with pytest.raises(Conflict):
        await service.cancel(committed_db, tenant, job.id)


async def test_one_job_of_an_endpoint_runs_at_a_time(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    outcomes = await asyncio.gather(
        *(replay(committed_db, tenant, endpoint.id) for _ in range(4)), return_exceptions=True
    )

    (job,) = [one for one in outcomes if not isinstance(one, BaseException)]
    assert [True] * 3 == [isinstance(one, Conflict) for one in outcomes if isinstance(one, BaseException)]
    with pytest.raises(Conflict, match=str(job.id)):
        await recover(committed_db, tenant, endpoint.id)


async def test_a_paused_endpoint_lets_its_job_wait(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    """Else all of it would be sent in the moment in which it is resumed."""
    await happened_in_bulk(committed_db, tenant, 3)
    await pauses.pause(committed_db, tenant, endpoint.id)
    job = await replay(committed_db, tenant, endpoint.id)

    waiting = await step(committed_db, tenant, job.id)
    await pauses.resume(committed_db, tenant, endpoint.id)
    done = await finish(committed_db, tenant, job.id)

    assert ("It waits: the endpoint is paused.", 0) == (waiting.reason, waiting.queued)
    assert (None, 3) == (done.reason, done.queued)


async def test_the_job_of_a_deleted_endpoint_ends(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    await happened_in_bulk(committed_db, tenant, 3)
    job = await replay(committed_db, tenant, endpoint.id)
    await endpoints.remove(committed_db, tenant, endpoint.id)

    ended = await step(committed_db, tenant, job.id)

    assert (State.CANCELLED, "The endpoint was deleted.", 0) == (ended.state, ended.reason, ended.queued)
    assert await is_due_in(committed_db, tenant, job.id) is None


async def test_a_stranger_finds_neither_the_endpoint_nor_the_job(
    committed_db: Database, tenant: Caller, stranger: Caller, endpoint: EndpointMade
) -> None:
    job = await replay(committed_db, tenant, endpoint.id)

    for attempt in (
        replay(committed_db, stranger, endpoint.id),
        recover(committed_db, stranger, endpoint.id),
        service.show(committed_db, stranger, job.id),
        service.cancel(committed_db, stranger, job.id),
        service.list_some(committed_db, stranger, endpoint_id=endpoint.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert [] == list(await service.list_some(committed_db, stranger))


@pytest.mark.parametrize(
    ("begins", "ends", "pointer"),
    [
        (timedelta(hours=-1), timedelta(hours=1), "/until"),
        (timedelta(hours=-1), timedelta(hours=-1), "/from"),
        (timedelta(hours=-1), timedelta(hours=-2), "/from"),
        (timedelta(hours=1), None, "/from"),
        (timedelta(days=-31), None, "/from"),
    ],
)
async def test_a_range_that_cannot_be_is_refused(
    committed_db: Database,
    tenant: Caller,
    endpoint: EndpointMade,
    begins: timedelta,
    ends: timedelta | None,
    pointer: str,
) -> None:
    at = now()
    wanted = Stretch(from_=at + begins, until=None if ends is None else at + ends)

    with pytest.raises(Invalid) as refused:
        await service.replay(committed_db, tenant, endpoint.id, wanted=wanted, kept=KEPT)

    assert [pointer] == [flaw.pointer for flaw in refused.value.flaws]


async def test_nothing_can_have_failed_in_the_future(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    with pytest.raises(Invalid) as refused:
        await service.recover(committed_db, tenant, endpoint.id, wanted=Since(since=now() + timedelta(minutes=1)))

    assert ["/since"] == [flaw.pointer for flaw in refused.value.flaws]


async def test_jobs_are_listed_newest_first_in_pages(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade, keyring: Keyring
) -> None:
    other = await make_endpoint(committed_db, tenant, keyring, URL)
    made = [await recover(committed_db, tenant, one) for one in (endpoint.id, other.id)]
    await finish(committed_db, tenant, made[0].id)

    first = await service.list_some(committed_db, tenant, limit=1)
    second = await service.list_some(committed_db, tenant, limit=1, after=first[0].id)
    running = await service.list_some(committed_db, tenant, state=State.RUNNING)
    of_one = await service.list_some(committed_db, tenant, endpoint_id=endpoint.id)

    assert [made[1].id, made[0].id] == [first[0].id, second[0].id]
    assert ([made[1].id], [made[0].id]) == ([job.id for job in running], [job.id for job in of_one])


async def test_every_change_of_a_job_is_in_the_audit_trail(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade
) -> None:
    ended = await replay(committed_db, tenant, endpoint.id)
    await finish(committed_db, tenant, ended.id)
    cancelled = await replay(committed_db, tenant, endpoint.id)
    await service.cancel(committed_db, tenant, cancelled.id)

    found = await rows(
        committed_db, tenant, "SELECT action, actor FROM audit WHERE subject_kind = 'replay' ORDER BY at, id"
    )

    assert [
        ("replay.started", "key"),
        ("replay.done", "system:replays"),
        ("replay.started", "key"),
        ("replay.cancelled", "key"),
    ] == [tuple(row) for row in found]


@pytest.mark.parametrize("was", ["pending", "delivered", "dead"])
async def test_one_delivery_is_sent_again_and_counted_right(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade, was: str
) -> None:
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)
    if was != "pending":
        await (delivered if was == "delivered" else died)(committed_db, tenant, endpoint.id)

    for _ in range(2):
        await deliveries.replay(committed_db, tenant, DeliveryId(endpoint.id, event.id))

    gone = 1 if was == "delivered" else 0
    assert {"created": 1 + gone, "delivered": gone, "pending": 1, "dead": 0, "cancelled": 0} == await sums(
        committed_db, tenant
    )
    assert 0 == await dead(committed_db, tenant, endpoint.id)


async def plan_of(session: AsyncSession, work: Awaitable[object]) -> str:
    """How Postgres would execute the one statement that `work` executes."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        asked.append((statement, parameters))

    connection = await session.connection()
    event.listen(connection.sync_connection, "before_cursor_execute", note)
    await work
    event.remove(connection.sync_connection, "before_cursor_execute", note)
    ((statement, parameters),) = asked
    return "\n".join((await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars())


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_look_walks_along_the_ordered_indexes_whatever_the_statistics_say(
    committed_db: Database, tenant: Caller, endpoint: EndpointMade, kind: Kind
) -> None:
    """Else one step could read all events of a tenant, or for each row all that is pending for the endpoint."""
    job = ReplayRow(
        id=new_id(),
        tenant_id=tenant.tenant,
        endpoint_id=endpoint.id,
        kind=kind,
        from_at=now() - timedelta(days=2),
        until_at=now(),
        after_xact=0,
        after_id=NIL,
        until_xact=2**62,
    )
    async with committed_db.as_role(Role.WORKER).begin(Caller.system(tenant.tenant, job="test")) as session:
        await batches.pin(session)
        plan = await plan_of(session, batches.queue(session, job, room=500))

    assert "Seq Scan on events" not in plan
    assert "Seq Scan on de" not in plan
    assert "Hash Join" not in plan
    if kind is Kind.FAILED:
        assert "dead_deliveries_pkey" in plan
    else:
        assert "owner_id_xact_id_idx" in plan
        assert "delegate_id_xact_id_idx" in plan
