"""The cursor feed: every event once, in order, as the tenant may see it."""

from datetime import timedelta

import pytest

from broker.caller import Caller
from broker.clock import now
from broker.db import Database
from broker.errors import BadRequest
from broker.webhooks.fanout import publish
from broker.webhooks.feed import feed
from tests.webhooks.conftest import an_event, happened


async def test_the_feed_goes_on_where_it_stopped(committed_db: Database, tenant: Caller) -> None:
    events = [an_event(owner=tenant) for _ in range(5)]
    for event in events[:4]:
        await happened(committed_db, tenant, event)

    first = await feed(committed_db, tenant, after=None, limit=3)
    second = await feed(committed_db, tenant, after=first.cursor, limit=3)
    nothing = await feed(committed_db, tenant, after=second.cursor, limit=3)
    await happened(committed_db, tenant, events[4])
    third_time = await feed(committed_db, tenant, after=nothing.cursor, limit=3)

    assert [event.id for event in events] == [
        one.id for stretch in (first, second, nothing, third_time) for one in stretch.items
    ]
    assert [True, False, False, False] == [one.more for one in (first, second, nothing, third_time)]


async def test_the_feed_skips_nothing_that_is_committed_late(committed_db: Database, tenant: Caller) -> None:
    late, early = an_event(owner=tenant), an_event(owner=tenant)

    async with committed_db.begin(tenant) as session:
        await publish(session, [late])
        await happened(committed_db, tenant, early)
        while_open = await feed(committed_db, tenant, after=None, limit=10)
    afterwards = await feed(committed_db, tenant, after=while_open.cursor, limit=10)

    assert while_open.items == []
    assert [late.id, early.id] == [one.id for one in afterwards.items]


async def test_the_feed_shows_each_party_its_own_view(committed_db: Database, tenant: Caller, third: Caller) -> None:
    data = {"recipient": "bob@example.org", "recipient_hash": None, "kind": "bounce"}
    event = an_event(
        owner=tenant, delegate=third, type="email.bounced", owner_view="hashed", recipient_hash="ab12", data=data
    )
    await happened(committed_db, tenant, event)

    (owners,) = (await feed(committed_db, tenant, after=None, limit=10)).items
    (delegates,) = (await feed(committed_db, third, after=None, limit=10)).items

    assert (None, "ab12") == (owners.data["recipient"], owners.data["recipient_hash"])
    assert delegates.data["recipient"] == "bob@example.org"


async def test_a_stranger_reads_nothing_in_the_feed(committed_db: Database, tenant: Caller, stranger: Caller) -> None:
    await happened(committed_db, tenant, an_event(owner=tenant))

    assert (await feed(committed_db, stranger, after=None, limit=10)).items == []


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "!!!!", "\u00e9"])
async def test_a_cursor_that_we_did_not_give_out_is_refused(
    committed_db: Database, tenant: Caller, cursor: str
) -> None:
    with pytest.raises(BadRequest):
        await feed(committed_db, tenant, after=cursor, limit=10)


async def test_after_now_comes_what_happens_from_now_on(committed_db: Database, tenant: Caller) -> None:
    before, after = an_event(owner=tenant), an_event(owner=tenant)
    await happened(committed_db, tenant, before)

    end = await feed(committed_db, tenant, after="now", limit=10)
    await happened(committed_db, tenant, after)
    found = await feed(committed_db, tenant, after=end.cursor, limit=10)

    assert ([], False) == (end.items, end.more)
    assert [after.id] == [one.id for one in found.items]


async def test_what_is_under_way_comes_after_now(committed_db: Database, tenant: Caller) -> None:
    event = an_event(owner=tenant)

    async with committed_db.begin(tenant) as session:
        await publish(session, [event])
        end = await feed(committed_db, tenant, after="now", limit=10)
    found = await feed(committed_db, tenant, after=end.cursor, limit=10)

    assert [event.id] == [one.id for one in found.items]


async def test_since_leaves_out_what_happened_before(committed_db: Database, tenant: Caller) -> None:
    old, new = an_event(owner=tenant, at=now() - timedelta(hours=2)), an_event(owner=tenant)
    await happened(committed_db, tenant, old, new)

    found = await feed(committed_db, tenant, after=None, since=now() - timedelta(hours=1), limit=10)

    assert [new.id] == [one.id for one in found.items]
