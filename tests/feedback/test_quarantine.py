"""What is in quarantine is shown to the topic's tenant, and is forgotten in time."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from broker.cli import main
from broker.db import Database, Role
from broker.feedback import quarantine
from broker.feedback.models import QuarantinedMessage, Topic
from broker.ids import new_id
from broker.settings import Settings
from tests.feedback.conftest import World, database_time, ingest_role, make_world

RETENTION = timedelta(days=30)


async def set_aside(
    world: World, topic_arn: str, *, tenant: bool = True, number: int = 1, text: str = "payload"
) -> None:
    async with ingest_role(world.db).begin(world.owner) as session:
        session.add_all(
            QuarantinedMessage(
                id=new_id(),
                tenant_id=world.owner.tenant if tenant else None,
                topic_arn=topic_arn,
                reason="Odd.",
                payload=f"{text} {each}",
            )
            for each in range(number)
        )


async def test_the_payload_is_shown_to_who_owns_the_topic_only(world: World) -> None:
    """The owner's own topic, and the broker's that was made for it, which hears of other senders' mail, too."""
    own = f"arn:aws:sns:eu-west-1:111111111111:t{new_id().hex}"
    async with world.db.begin(world.owner) as session:
        session.add(
            Topic(
                id=new_id(),
                tenant_id=world.owner.tenant,
                arn=own,
                region="eu-west-1",
                accounts=["111111111111"],
                source="tenant_topic",
                state="confirmed",
            )
        )
    await set_aside(world, own)
    await set_aside(world, world.topic_arn)
    await set_aside(world, own, tenant=False)
    shown = await quarantine.list_quarantined(world.db, world.owner)

    assert [(own, "payload 0"), (world.topic_arn, None)] == [(each.topic_arn, each.payload) for each in shown]
    assert [] == await quarantine.list_quarantined(world.db, world.delegate)


async def test_pages_follow_each_other(world: World) -> None:
    await set_aside(world, world.topic_arn, number=3)
    first = await quarantine.list_quarantined(world.db, world.owner, limit=2)
    rest = await quarantine.list_quarantined(world.db, world.owner, after=first[-1].id, limit=2)

    assert (2, 1) == (len(first), len(rest))
    assert 3 == len({each.id for each in (*first, *rest)})


async def test_what_came_through_no_tenants_topic_is_listed_to_operators(
    committed_db: Database, settings: Settings
) -> None:
    """By the login of the service, newest first, page by page, and clipped."""
    world, topic = await make_world(committed_db), f"arn:aws:sqs:eu-west-1:999999999999:{new_id().hex}"
    await set_aside(world, topic)
    await set_aside(world, topic, tenant=False, number=3, text="x" * 10_000)
    first = await listed(settings, "--limit", "2")
    second = await listed(settings, "--limit", "1", "--before", first[-1]["id"])
    ids = [each["id"] for each in (*first, *second)]

    assert {(topic, "Odd.", "x" * quarantine.SHOWN)} == {
        (each["topic_arn"], each["reason"], each["payload"]) for each in (*first, *second)
    }
    assert (3, sorted(ids, reverse=True)) == (len(set(ids)), ids)


async def listed(settings: Settings, *words: str) -> list[dict[str, Any]]:
    environ = {
        "BROKER_DATABASE_URL": settings.database_url,
        "BROKER_SECRET_KEYS": settings.secret_keys,
        "BROKER_API_KEY_PEPPER": settings.api_key_pepper,
        "BROKER_REGISTRATION": "open",
    }
    done = await asyncio.to_thread(CliRunner().invoke, main, ["quarantine", *words], env=environ)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("age", "left"), [(timedelta(days=31), 0), (timedelta(days=29), 1)])
async def test_it_is_forgotten_when_its_time_is_over(db: Database, world: World, age: timedelta, left: int) -> None:
    """Ids tell when they were made."""
    made = int((await database_time(db, world.owner) - age).timestamp() * 1000)
    async with ingest_role(db).begin(world.owner) as session:
        await session.execute(
            text(
                "INSERT INTO quarantine (id, tenant_id, topic_arn, reason, payload) VALUES"
                " (CAST(rpad(lpad(to_hex(CAST(:made AS bigint)), 12, '0') || '7', 32, '8') AS uuid), :tenant,"
                " 't', '', '')"
            ),
            {"made": made, "tenant": world.owner.tenant},
        )
    await quarantine.forget(db.as_role(Role.PUMP), retention=RETENTION)

    assert left == len(await quarantine.list_quarantined(db, world.owner))
