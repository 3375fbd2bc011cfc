"""Daily digests: what an endpoint was to get, provable by its receiver from what it got alone."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from broker.caller import Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.errors import NotFound
from broker.ids import new_id
from broker.webhooks import counts, endpoints
from broker.webhooks.digests import service, work
from broker.webhooks.digests.api import HOW_TO_VERIFY
from broker.webhooks.digests.hashing import ids_of
from broker.webhooks.digests.views import Digest
from broker.webhooks.events import Event, Shape
from broker.webhooks.render import content_type
from broker.webhooks.views import EndpointChange
from tests.conftest import MakeTenant
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.cutting import yesterday
from tests.webhooks.receiver import Receiver
from tests.webhooks.waiting import until_told

URL = "https://hooks.example.com/"
NOTHING = hashlib.sha256(b"").hexdigest()

Complete = Callable[[dict[str, Any], dict[str, str]], bool]


def id_in(day: date, *, hours: float = 12) -> UUID:
    """A UUIDv7 as if made at this hour of the day (UTC)."""
    at = datetime.combine(day, time(), tzinfo=UTC) + timedelta(hours=hours)
    return UUID(int=int(at.timestamp() * 1000) << 80 | new_id().int & (2**80 - 1))


def of_day(day: date, owner: Caller | None = None, delegate: Caller | None = None, **changes: Any) -> Event:
    """An event whose id was made in this day."""
    return an_event(owner, delegate, **{"id": id_in(day), **changes})


def hashed(ids: Sequence[UUID]) -> str:
    return hashlib.sha256("".join(f"{one}\n" for one in sorted(str(each) for each in ids)).encode()).hexdigest()


async def next_is(db: Database, caller: Caller, endpoint_id: UUID, day: date) -> None:
    """Lets this be the day that is to be cut, now."""
    async with db.as_role(Role.WORKER).begin(caller) as session:
        await session.execute(
            text("UPDATE digests SET day = :day, due_at = now(), claimed_until = NULL WHERE id = :id"),
            {"day": day, "id": endpoint_id},
        )


async def cut(db: Database, *endpoint_ids: UUID) -> int:
    """As the worker does, for these endpoints."""
    return await work.run(db.as_role(Role.WORKER), retention=timedelta(days=30), only=endpoint_ids)


async def digests_of(db: Database, caller: Caller, endpoint_id: UUID) -> Sequence[Digest]:
    return await service.list_some(db, caller, endpoint_id)


async def cut_day(db: Database, caller: Caller, endpoint_id: UUID, day: date) -> Digest:
    await next_is(db, caller, endpoint_id, day)
    await cut(db, endpoint_id)
    return await service.show(db, caller, endpoint_id, day=day)


async def set_state(db: Database, caller: Caller, endpoint_id: UUID, state: str) -> None:
    async with db.begin(caller) as session:
        await session.execute(
            text("UPDATE endpoints SET state = :state WHERE id = :id"), {"state": state, "id": endpoint_id}
        )


def documented() -> Complete:
    """The function that the documentation gives to customers, as they would copy it."""
    (code,) = re.findall(r"```python\n(.*?)```", HOW_TO_VERIFY, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)  # noqa: S102 - what the documentation shows must run
    found: Complete = namespace["complete"]
    return found


@pytest.mark.parametrize("shape", ["standard", "cloudevents"])
async def test_a_receiver_can_prove_that_it_missed_nothing(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run, shape: str
) -> None:
    """From the webhooks that it verified and stored, by the ten lines of the documentation."""
    complete = documented()
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url, shape=shape)
    types = ("email.bounced", "email.bounced", "email.delivered", "grant.activated")
    events = [of_day(yesterday(), tenant, type=one) for one in types]
    await endpoints.send_test(committed_db, tenant, made.id)
    await happened(committed_db, tenant, *events, an_event(tenant))
    await next_is(committed_db, tenant, made.id, yesterday())

    await cut(committed_db, made.id)
    await run(made.id)

    bodies = [Webhook(made.secret).verify(one.body, one.headers) for one in receiver.delivered]
    kinds = [body["type"].removeprefix("dev.ses-delegation-broker.") for body in bodies]
    received = dict(zip(receiver.ids(), kinds, strict=True))
    (digest,) = [body["data"] for body, kind in zip(bodies, kinds, strict=True) if kind == "endpoint.digest"]
    without = [{one: kind for one, kind in received.items() if one != str(lost.id)} for lost in events]
    assert {content_type(Shape(shape))} == {one.headers["content-type"] for one in receiver.delivered}
    assert 7 == len(received)
    assert complete(digest, received)
    assert [False] * 4 == [complete(digest, fewer) for fewer in without]


async def test_a_digest_counts_and_hashes_by_type_and_all_together(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    bounces = [of_day(yesterday(), tenant, type="email.bounced", id=id_in(yesterday(), hours=h)) for h in (23, 1, 1.01)]
    opened = of_day(yesterday(), tenant, type="email.opened")
    await happened(committed_db, tenant, *bounces, opened)

    digest = await cut_day(committed_db, tenant, made.id, yesterday())

    ids = [event.id for event in bounces]
    assert (4, hashed([*ids, opened.id])) == (digest.count, digest.sha256)
    assert {"email.bounced": (3, hashed(ids)), "email.opened": (1, hashed([opened.id]))} == {
        name: (one.count, one.sha256) for name, one in digest.types.items()
    }
    assert digest.filters_changed_at is None


async def test_a_day_holds_exactly_the_ids_that_were_made_in_it(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    """Whatever the time of the event itself is: mail events carry the time that SNS signed."""
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    first, end = ids_of(yesterday())
    inside = [first, UUID(int=end.int - 1)]
    outside = [UUID(int=first.int - 1), end]
    await happened(committed_db, tenant, *(an_event(tenant, id=one) for one in (*inside, *outside)))

    digest = await cut_day(committed_db, tenant, made.id, yesterday())

    assert (2, hashed(inside)) == (digest.count, digest.sha256)


async def test_a_day_without_events_has_a_digest_of_nothing(
    committed_db: Database, tenant: Caller, stranger: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    await happened(committed_db, stranger, of_day(yesterday(), stranger))

    digest = await cut_day(committed_db, tenant, made.id, yesterday())

    assert (0, NOTHING, {}) == (digest.count, digest.sha256, digest.types)


async def test_only_what_the_tenant_hears_of_counts_and_once(
    committed_db: Database, tenant: Caller, third: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    day = yesterday()
    heard = [
        of_day(day, tenant, third),
        of_day(day, third, tenant, delegate_view="none"),
        of_day(day, tenant, tenant),
        of_day(day, tenant, tenant, owner_view=None),
    ]
    unheard = [of_day(day, tenant, third, owner_view=None), of_day(day, third, tenant, delegate_view=None)]
    await happened(committed_db, tenant, *heard, *unheard)

    digest = await cut_day(committed_db, tenant, made.id, day)

    assert (4, hashed([event.id for event in heard])) == (digest.count, digest.sha256)


@pytest.mark.parametrize("narrow", ["event_types", "family", "grant_ids", "identity_arns", "all", "none"])
async def test_a_digest_counts_what_was_fanned_out(
    committed_db: Database, tenant: Caller, keyring: Keyring, narrow: str
) -> None:
    """The same filters in two statements: whatever became a delivery is counted, and nothing else."""
    grant, arn = new_id(), "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
    wants: dict[str, dict[str, Any]] = {
        "event_types": {"event_types": ["email.bounced", "grant.revoked"]},
        "family": {"event_types": ["grant.*"]},
        "grant_ids": {"grant_ids": [grant]},
        "identity_arns": {"identity_arns": [arn]},
        "all": {"event_types": ["email.*"], "grant_ids": [grant], "identity_arns": [arn]},
        "none": {},
    }
    made = await make_endpoint(committed_db, tenant, keyring, URL, **wants[narrow])
    events = [
        of_day(yesterday(), tenant, type=type_, grant_id=one, data=data)
        for type_ in ("email.bounced", "email.opened", "grant.activated", "endpoint.disabled")
        for one in (grant, new_id(), None)
        for data in ({"identity": arn}, {"identity": "arn:other"}, {})
    ]
    await happened(committed_db, tenant, *events)

    delivered = await rows(committed_db, tenant, "SELECT event_id FROM deliveries WHERE endpoint_id = :id", id=made.id)
    digest = await cut_day(committed_db, tenant, made.id, yesterday())

    ids = [row.event_id for row in delivered]
    assert 0 < len(ids) <= len(events)
    assert (len(ids), hashed(ids)) == (digest.count, digest.sha256)


async def test_tests_and_digests_are_not_counted_but_a_disabled_endpoint_is_news_to_the_others(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made, other = [await make_endpoint(committed_db, tenant, keyring, URL) for _ in range(2)]
    disabled = of_day(now().date(), tenant, type="endpoint.disabled", id=new_id())
    await endpoints.send_test(committed_db, tenant, made.id)
    await cut_day(committed_db, tenant, made.id, yesterday())
    await happened(committed_db, tenant, disabled)
    async with committed_db.as_role(Role.WORKER).begin(tenant) as session:
        # The whole of today as if it were yesterday: ids cannot be moved, the day can.
        tally, _ = await work.tally_of(session, tenant, other.id, day=now().date(), since_xact=0)

    assert ["endpoint.disabled"] == list(tally.types())
    assert hashed([disabled.id]) == tally.all().sha256


async def test_nothing_is_cut_before_a_quarter_past_midnight(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    """The first day of an endpoint is the first whole one; then it waits for its end."""
    made = await make_endpoint(committed_db, tenant, keyring, URL)

    first_looks = [await cut(committed_db, made.id), await cut(committed_db, made.id)]

    (row,) = await rows(committed_db, tenant, "SELECT day, due_at, closing_xact FROM digests")
    created = (await endpoints.show(committed_db, tenant, made.id)).created_at
    assert [1, 0] == first_looks
    assert (created + timedelta(minutes=1)).date() + timedelta(days=1) == row.day
    assert datetime.combine(row.day + timedelta(days=1), time(0, 15), tzinfo=UTC) == row.due_at
    assert row.closing_xact is None
    assert [] == await digests_of(committed_db, tenant, made.id)


async def test_a_day_is_cut_once_however_often_it_is_tried(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    first = await cut_day(committed_db, tenant, made.id, yesterday())
    await happened(committed_db, tenant, of_day(yesterday(), tenant))

    again = await cut_day(committed_db, tenant, made.id, yesterday())

    events = await rows(committed_db, tenant, "SELECT 1 FROM events WHERE type = 'endpoint.digest'")
    assert first == again
    assert 1 == len(events)


async def test_two_workers_at_once_cut_one_day_each_time(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    await next_is(committed_db, tenant, made.id, yesterday())

    looked = await asyncio.gather(*(cut(committed_db, made.id) for _ in range(3)))

    assert 1 == sum(looked)
    assert [yesterday()] == [one.day for one in await digests_of(committed_db, tenant, made.id)]


async def test_a_transaction_that_is_still_open_is_waited_for(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    late = of_day(yesterday(), tenant)
    await next_is(committed_db, tenant, made.id, yesterday())

    async with committed_db.begin(tenant) as session:
        await session.execute(text("SELECT pg_current_xact_id()"))
        await cut(committed_db, made.id)
        while_open = await digests_of(committed_db, tenant, made.id)
        await happened(committed_db, tenant, late)
    digest = await cut_day(committed_db, tenant, made.id, yesterday())

    assert [] == while_open
    assert (1, hashed([late.id])) == (digest.count, digest.sha256)


async def test_days_that_were_missed_are_cut_one_after_the_other(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    """All events were there before the first of them was cut."""
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    by_day = {yesterday(back): of_day(yesterday(back), tenant) for back in (3, 2, 1)}
    await happened(committed_db, tenant, *by_day.values())
    await next_is(committed_db, tenant, made.id, yesterday(3))

    looks = [await cut(committed_db, made.id) for _ in range(4)]

    digests = await digests_of(committed_db, tenant, made.id)
    (row,) = await rows(committed_db, tenant, "SELECT day FROM digests")
    assert [1, 1, 1, 0] == looks
    assert {day: hashed([event.id]) for day, event in by_day.items()} == {one.day: one.sha256 for one in digests}
    assert [yesterday(1), yesterday(2), yesterday(3)] == [one.day for one in digests]
    assert yesterday(0) == row.day


async def test_days_of_which_events_may_be_gone_are_left_out(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    await next_is(committed_db, tenant, made.id, yesterday(40))

    await cut(committed_db, made.id)

    oldest = now().date() - timedelta(days=7)
    assert [oldest] == [one.day for one in await digests_of(committed_db, tenant, made.id)]


async def test_the_walk_begins_where_no_event_of_the_day_can_be_older(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    """A mark that was set before a day began is where that day begins; a later one is kept for a day to come."""
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    marks = "SELECT since_xact, mark_xact, mark_at FROM digests"
    (fresh,) = await rows(committed_db, tenant, marks)

    await cut_day(committed_db, tenant, made.id, yesterday(2))
    (too_late,) = await rows(committed_db, tenant, marks)
    async with committed_db.as_role(Role.WORKER).begin(tenant) as session:
        await session.execute(text("UPDATE digests SET mark_at = now() - interval '3 days'"))
    await cut_day(committed_db, tenant, made.id, yesterday())
    (moved,) = await rows(committed_db, tenant, marks)

    assert tuple(fresh) == tuple(too_late)
    assert fresh.mark_xact == moved.since_xact < moved.mark_xact
    assert moved.mark_at > fresh.mark_at


async def test_a_worker_that_is_killed_while_it_cuts_leaves_nothing_half_done(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    await next_is(committed_db, tenant, made.id, yesterday())

    async with committed_db.begin(tenant) as session:
        await session.execute(text("SELECT 1 FROM lanes WHERE id = :id FOR UPDATE"), {"id": made.id})
        cutting = asyncio.create_task(cut(committed_db, made.id))
        await _has_closed(committed_db, tenant)
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)
    left = await rows(committed_db, tenant, "SELECT 1 FROM endpoint_digests UNION ALL SELECT 1 FROM deliveries")
    await cut_day(committed_db, tenant, made.id, yesterday())

    async with committed_db.read(tenant) as session:
        days = await counts.days(session, tenant.tenant, first=yesterday(), last=now().date())
    assert [] == left
    assert [(1, 1, 0)] == [(day.created, day.pending, day.missing) for day in days]


async def _has_closed(db: Database, caller: Caller) -> None:
    """Until the first of the two transactions is committed."""

    async def closed() -> bool:
        return bool(await rows(db, caller, "SELECT 1 FROM digests WHERE closing_xact IS NOT NULL"))

    await until_told(closed)


async def test_a_change_of_filters_in_the_day_is_noted(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL, event_types=["email.*"])

    for change in (EndpointChange(description="x", event_types=["email.*"]), EndpointChange(event_types=["grant.*"])):
        await endpoints.change(committed_db, tenant, made.id, wanted=change, keyring=keyring, allow_loopback=True)
        await next_is(committed_db, tenant, made.id, yesterday(2 if change.description == "x" else 1))
        await cut(committed_db, made.id)

    changed, unchanged = await digests_of(committed_db, tenant, made.id)
    assert unchanged.filters_changed_at is None
    assert changed.filters_changed_at is not None
    assert changed.filters_changed_at <= changed.cut_at


async def test_a_change_of_filters_long_ago_is_not_noted(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    async with committed_db.begin(tenant) as session:
        await session.execute(text("UPDATE endpoints SET filters_changed_at = now() - interval '3 days'"))

    assert (await cut_day(committed_db, tenant, made.id, yesterday())).filters_changed_at is None


async def test_a_deleted_endpoint_has_no_digests_and_is_never_looked_at_again(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    await endpoints.remove(committed_db, tenant, made.id)
    await next_is(committed_db, tenant, made.id, yesterday())

    await cut(committed_db, made.id)

    (row,) = await rows(
        committed_db, tenant, "SELECT due_at, (SELECT count(*) FROM endpoint_digests) AS n FROM digests"
    )
    assert (None, 0) == tuple(row)


@pytest.mark.parametrize(("state", "pending"), [("active", 1), ("paused", 1), ("disabled", 0)])
async def test_a_digest_is_kept_for_every_state_and_sent_where_events_are(
    committed_db: Database, tenant: Caller, keyring: Keyring, state: str, pending: int
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    await set_state(committed_db, tenant, made.id, state)

    digest = await cut_day(committed_db, tenant, made.id, yesterday())

    waiting = await rows(committed_db, tenant, "SELECT event_id FROM deliveries")
    assert [digest.event_id] * pending == [row.event_id for row in waiting]


async def test_a_digest_goes_to_its_endpoint_alone_whatever_the_filters(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, other_receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url, event_types=["email.bounced"])
    other = await make_endpoint(committed_db, tenant, keyring, other_receiver.url, event_types=["endpoint.*"])

    digest = await cut_day(committed_db, tenant, made.id, yesterday())
    await run(made.id, other.id)

    (request,) = receiver.delivered
    body = msgspec.json.decode(request.body)
    assert [] == other_receiver.delivered
    assert ("endpoint.digest", str(digest.event_id)) == (body["type"], request.headers["webhook-id"])
    assert digest == msgspec.convert(body["data"], Digest)


async def test_the_digests_of_a_stranger_cannot_be_read(
    committed_db: Database, tenant: Caller, stranger: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    await cut_day(committed_db, tenant, made.id, yesterday())

    for ask in (
        service.list_some(committed_db, stranger, made.id),
        service.show(committed_db, stranger, made.id, day=yesterday()),
    ):
        with pytest.raises(NotFound):
            await ask
    assert [] == await rows(committed_db, stranger, "SELECT day FROM endpoint_digests UNION SELECT day FROM digests")


async def test_no_row_of_others_is_looked_at_for_a_day(db: Database, make_tenant: MakeTenant) -> None:
    """However many events others have: each party's events are one walk along an ordered index."""
    tenant, stranger = await make_tenant(), await make_tenant()
    many = text(
        "INSERT INTO events (id, at, type, owner_id, owner_view, source, data)"
        " SELECT gen_random_uuid(), now(), 'email.sent', :owner, 'full', 'broker', '{}' FROM generate_series(1, :n)"
    )
    for caller, number in ((stranger, 20_000), (tenant, 20)):
        async with db.begin(caller) as session:
            await session.execute(many, {"owner": caller.tenant, "n": number})
    first, end = UUID(int=0), UUID(int=2**128 - 1)
    named = {"me": tenant.tenant, "since": 0, "first": first, "end": end, "addressed": []}
    named |= {"event_types": None, "grant_ids": None, "identity_arns": None}

    async with db.as_role(Role.WORKER).begin(tenant) as session:
        explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {work.IDS.text}")
        (found,) = (await session.execute(explain, named)).scalar_one()

    assert 20 <= visited(found["Plan"]) < 200, found


def visited(node: dict[str, Any]) -> float:
    """How many rows of tables and indexes a plan has looked at."""
    own = 0.0
    if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
        own = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own *= node["Actual Loops"]
    return own + sum(visited(below) for below in node.get("Plans", []))
