"""The door for SNS: what it lets in, what it answers, and what it never says."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
import pytest_asyncio
import structlog
from sqlalchemy import select, text, update

from bench.hostile import HOSTILE
from bench.witness import watching
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import BadRequest, BrokerError, Conflict, NotFound, Refused, TooLarge, Unavailable
from broker.feedback.flusher import Flusher
from broker.feedback.ingest import Ingest
from broker.feedback.known import KnownTopics
from broker.feedback.models import Topic
from broker.feedback.receive import Receiver
from broker.feedback.signature import BadSignature, Certificates, Verifier
from broker.webhooks.ledger.ledger import Count, Ledger
from tests.feedback import sns
from tests.feedback.conftest import Savepoint, World, database_time, ingest_role, route_of
from tests.feedback.examples import bounce, notified
from tests.feedback.sns import NOW, body, confirmation, notification, signed


class Confirmer:
    """Confirms, or raises."""

    def __init__(self) -> None:
        self.confirmed: list[tuple[str, str]] = []
        self.error: Exception | None = None

    async def confirm(self, topic_arn: str, token: str) -> str:
        if self.error is not None:
            raise self.error
        self.confirmed.append((topic_arn, token))
        return f"{topic_arn}:2"


class Door:
    """A receiver with what is behind it."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self.ledger = Ledger()
        self.source = sns.Certificates()
        self.confirmer = Confirmer()
        self.flusher = Flusher(partial(Ingest(Savepoint(db), keyring).take, now=NOW))
        verifier = Verifier(Certificates(self.source), partition="aws", endpoint_origin=None)
        self.receiver = Receiver(
            ingest_role(db),
            KnownTopics(Savepoint(db)),
            verifier,
            self.flusher,
            self.confirmer,
            body_limit=100_000,
            ledger=self.ledger,
        )

    async def take(
        self, fields: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({}), *, now: datetime = NOW
    ) -> None:
        await self.receiver.receive(headers, body(fields), now=now)

    @property
    def ignored(self) -> int:
        """How many messages were counted as such since this was asked last."""
        return self.ledger.take().tallies.get((Count.FEEDBACK, "ignored"), 0)


@pytest_asyncio.fixture
async def door(db: Database, keyring: Keyring) -> AsyncIterator[Door]:
    door = Door(db, keyring)
    await door.flusher.start()
    yield door
    await door.flusher.stop()


def bounced(world: World) -> dict[str, Any]:
    payload = notified("Bounce", bounce(), sourceArn=world.identity_arn)
    return notification(payload, TopicArn=world.topic_arn)


async def wait_for_confirmation(world: World, state: str = "pending") -> None:
    async with world.db.begin(world.owner) as session:
        values = {"state": state, "subscription_arn": None}
        await session.execute(update(Topic).where(Topic.id == world.topic_id).values(values))
        await session.execute(text("UPDATE routes SET state = 'requested', due_at = NULL"))


async def topic_of(world: World) -> Topic:
    async with world.db.read(world.owner) as session:
        return (await session.scalars(select(Topic).where(Topic.id == world.topic_id))).one()


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_notification_is_stored(world: World, door: Door, version: str) -> None:
    await door.take(signed(bounced(world), version=version))

    assert ["email.bounced"] == [event.type for event in await world.events(world.delegate)]


async def test_a_topic_of_no_route_is_not_found_and_nothing_is_fetched_for_it(world: World, door: Door) -> None:
    for arn in ("arn:aws:sns:eu-west-1:444444444444:theirs", "nonsense", "a\0b"):
        with pytest.raises(NotFound):
            await door.take(signed(bounced(world) | {"TopicArn": arn}))

    assert [] == door.source.fetched


async def test_a_signature_that_does_not_fit_is_refused(world: World, door: Door) -> None:
    with pytest.raises(BadSignature):
        await door.take(signed(bounced(world)) | {"Message": "forged"})

    assert [] == await world.events(world.delegate)


async def test_raw_delivery_is_refused(world: World, door: Door) -> None:
    with pytest.raises(BadRequest, match="signature"):
        await door.take(signed(bounced(world)), {"x-amz-sns-rawdelivery": "true"})


async def test_a_body_above_the_limit_is_refused(door: Door) -> None:
    with pytest.raises(TooLarge):
        await door.receiver.receive({}, b"x" * 100_001, now=NOW)


async def test_our_own_trouble_is_ours(world: World, door: Door) -> None:
    await door.flusher.stop()

    with pytest.raises(Unavailable):
        await door.take(signed(bounced(world)))


@pytest.mark.parametrize("state", ["pending", "lost"])
async def test_a_topic_that_waits_is_confirmed_by_api_call(world: World, door: Door, state: str) -> None:
    await wait_for_confirmation(world, state)
    fields = confirmation(TopicArn=world.topic_arn)
    await door.take(signed(fields))

    topic = await topic_of(world)
    assert [(world.topic_arn, fields["Token"])] == door.confirmer.confirmed
    assert ("confirmed", f"{world.topic_arn}:2") == (topic.state, topic.subscription_arn)
    assert (await route_of(world, world.grant_id)).due_at is not None


async def test_the_address_in_a_confirmation_is_never_followed(world: World, door: Door) -> None:
    """Whatever it says, and though SNS signed it: the token goes to SNS by API call."""
    for row in HOSTILE:
        await wait_for_confirmation(world)
        with watching() as dialled:
            await door.take(signed(confirmation(TopicArn=world.topic_arn, SubscribeURL=row.url or "x")))
        assert [] == dialled

    assert len(HOSTILE) == len(door.confirmer.confirmed)


async def test_a_topic_that_does_not_wait_is_not_confirmed(world: World, door: Door) -> None:
    with pytest.raises(Conflict):
        await door.take(signed(confirmation(TopicArn=world.topic_arn)))

    assert [] == door.confirmer.confirmed


@pytest.mark.parametrize(
    ("error", "answer"), [(Unavailable("SNS is slow."), Unavailable), (Refused("Invalid token", code="x"), BadRequest)]
)
async def test_a_confirmation_that_fails_leaves_the_topic_waiting(
    world: World, door: Door, error: Exception, answer: type[BrokerError]
) -> None:
    await wait_for_confirmation(world)
    door.confirmer.error = error
    with pytest.raises(answer):
        await door.take(signed(confirmation(TopicArn=world.topic_arn)))

    assert "pending" == (await topic_of(world)).state


async def test_a_removed_subscription_is_noticed(world: World, door: Door) -> None:
    await door.take(signed(confirmation("UnsubscribeConfirmation", TopicArn=world.topic_arn)))

    topic = await topic_of(world)
    assert ("lost", None) == (topic.state, topic.subscription_arn)
    assert topic.due_at is not None
    assert [] == door.confirmer.confirmed


async def test_a_removal_that_is_told_again_later_is_ignored(world: World, door: Door) -> None:
    """Who owns the topic keeps the signed message of one removal, and sends it again once we have subscribed anew."""
    told = signed(confirmation("UnsubscribeConfirmation", TopicArn=world.topic_arn))
    await door.take(told)
    await door.take(told)  # known already
    await door.take(signed(confirmation(TopicArn=world.topic_arn)))
    await door.take(told)

    assert "confirmed" == (await topic_of(world)).state
    assert 2 == door.ignored


async def test_a_removal_after_the_confirmation_is_noticed(world: World, door: Door, db: Database) -> None:
    await wait_for_confirmation(world)
    await door.take(signed(confirmation(TopicArn=world.topic_arn)))
    later = await database_time(db, world.owner) + timedelta(minutes=1)
    told = confirmation("UnsubscribeConfirmation", TopicArn=world.topic_arn, Timestamp=later.isoformat())
    await door.take(signed(told), now=later)

    assert ("lost", 0) == ((await topic_of(world)).state, door.ignored)


@pytest.mark.parametrize(("age", "state"), [(timedelta(minutes=59), "lost"), (timedelta(minutes=61), "confirmed")])
async def test_a_removal_that_is_an_hour_old_is_ignored(world: World, door: Door, age: timedelta, state: str) -> None:
    told = signed(confirmation("UnsubscribeConfirmation", TopicArn=world.topic_arn))
    await door.take(told, now=NOW + age)

    assert state == (await topic_of(world)).state


async def test_neither_tokens_nor_payloads_are_logged_or_answered(world: World, door: Door) -> None:
    await wait_for_confirmation(world)
    door.confirmer.error = Refused("Invalid token", code="x")
    forged = signed(bounced(world)) | {"Signature": "canarysignature="}
    unreadable = signed(notification("canary-payload", TopicArn=world.topic_arn))
    said: list[str] = []
    with structlog.testing.capture_logs() as logs:
        for fields in (signed(confirmation(TopicArn=world.topic_arn)), forged, unreadable):
            try:
                await door.take(fields)
            except BrokerError as error:
                said.append(error.detail)

    assert 2 == len(said)
    assert "canary" not in f"{said} {logs}"
