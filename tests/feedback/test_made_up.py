"""Whatever a hostile delegate makes its own topic say, its owner's reckoning goes on, and is told of no other days."""

import json
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import timedelta
from functools import partial
from typing import Any

import pytest_asyncio
from sqlalchemy import text

from broker.crypto import Keyring
from broker.db import Database, Role
from broker.direct import Direct
from broker.feedback import recipients, store
from broker.feedback.usage import folding
from tests.feedback.conftest import arrived, as_envelope
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.feedback.guide import EXAMPLES
from tests.feedback.nasty import MUTATIONS
from tests.feedback.reckoning import Counting, stamp
from tests.feedback.sns import notification
from tests.feedback.test_forged import SET, add_topic


@pytest_asyncio.fixture
async def counting(committed_db: Database, database_url: str, keyring: Keyring) -> AsyncIterator[Counting]:
    """A world of the test's own, really committed."""
    line = Direct(database_url, role=Role.INGEST, settings=store.AS_WRITTEN)
    yield await Counting.make(committed_db, line, keyring)
    await line.close()


async def say(counting: Counting, topic_arn: str, payloads: list[dict[str, Any]], keyring: Keyring) -> int:
    """Stores what the topic says of mail that is true, and adds it up; how many events there are."""
    world, now = counting.world, await counting.now()
    true = {
        "sourceArn": world.identity_arn,
        "sendingAccountId": DELEGATE_ACCOUNT,
        "tags": {"ses:configuration-set": [SET]},
        "timestamp": stamp(now),
    }
    for number, payload in enumerate(payloads):
        mail = payload["mail"] if isinstance(payload.get("mail"), dict) else {}
        told = payload | {"mail": mail | true | {"messageId": f"m{number}"}}
        envelope = as_envelope(notification(told, TopicArn=topic_arn, Timestamp=stamp(now)))
        await counting.ingest.take(arrived(envelope), now=now)
    await counting.set("due_at = now()")
    await counting.reckon_all(folding.fold, partial(recipients.fold, keyring=keyring))
    return len(await world.events(world.owner))


async def test_no_malformed_details_stop_the_reckoning(counting: Counting, keyring: Keyring) -> None:
    """What comes after them is still counted, by the breaker as well."""
    world = counting.world
    topic_arn = await add_topic(world, world.delegate, configuration_set=SET)
    odd = [mutate(deepcopy(payload)) for payload, *_ in EXAMPLES.values() for mutate in MUTATIONS.values()]
    stored = await say(counting, topic_arn, [each for each in odd if len(json.dumps(each)) < 100_000], keyring)
    await counting.delivered(3)
    await counting.set("due_at = now()")
    await counting.reckon_all(folding.fold)

    row = await counting.row()
    last = (await world.events(world.owner))[-1]
    assert stored > 50
    assert (last.id, 0) == (row.after_id, row.attempts)


async def test_made_up_times_make_no_days(counting: Counting, keyring: Keyring) -> None:
    """Else the usage of years before the grant could be written, and a row for every day there ever was."""
    world = counting.world
    topic_arn = await add_topic(world, world.delegate, configuration_set=SET)
    said = [
        {"eventType": "Open", "open": {"timestamp": at, "ipAddress": "192.0.2.1"}}
        for at in ("0001-01-02T00:00:00Z", "1999-12-31T00:00:00Z", "2200-01-01T00:00:00Z", "9999-12-30T00:00:00Z")
    ]
    await counting.delivered(1)
    async with world.db.begin(world.owner) as session:
        hears = text("UPDATE grants SET feedback = CAST(:terms AS jsonb) WHERE id = :id")
        terms = {"owner_events": ["open", "delivery"], "delegate_events": ["open"]}
        await session.execute(hears, {"terms": json.dumps(terms), "id": world.grant_id})
    await say(counting, topic_arn, said, keyring)

    async with world.db.read(world.owner) as session:
        days = list(await session.execute(text("SELECT day, number FROM usage_days WHERE name = 'email.opened'")))
    today = (await counting.now()).date()
    assert 4 == sum(row.number for row in days)
    assert {row.day for row in days} <= {today, today - timedelta(days=1)}
