"""Feedback by SQS on the local AWS: nothing is deleted before it is stored, whatever goes wrong on the way."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import func, make_url, select, text, update

from broker import clock
from broker.caller import NOBODY
from broker.db import Database, Role
from broker.direct import Direct
from broker.feedback import depths, queued, routes, topics
from broker.feedback import poller as pollers
from broker.feedback.envelope import Arrival
from broker.feedback.flusher import Flusher
from broker.feedback.ingest import Ingest
from broker.feedback.known import KnownTopics
from broker.feedback.models import QuarantinedMessage, Route, Topic
from broker.feedback.poller import Poller
from broker.feedback.reasons import Reason
from broker.feedback.receive import Receiver
from broker.feedback.set_rules import set_name
from broker.feedback.signature import Certificates, Verifier
from broker.ids import new_id
from broker.roundtrips import ROUND_TRIPS
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Settings
from broker.webhooks.ledger.ledger import Count, Ledger
from broker.webhooks.ledger.metrics import Metrics
from tests.connections.aws import EXTERNAL_ID, make_role
from tests.feedback.conftest import World, make_world, route_of
from tests.feedback.cut import Cable, cable
from tests.feedback.examples import DELEGATE_ACCOUNT, bounce, mail
from tests.feedback.queues import Place, placed
from tests.sandbox.aws import REGION, Account, allow, simple
from tests.sandbox.aws import Aws as LocalAws
from tests.webhooks.waiting import until, until_told

EMPTIED = 90.0  # seconds; what waits for a database that is back is tried again after half a minute at the latest


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalAws]:
    with start_in_thread(dialect=Dialect(sns_retry_seconds=0.02)) as running:
        yield LocalAws(running)


@pytest_asyncio.fixture
async def place(cloud: LocalAws, settings: Settings) -> AsyncIterator[Place]:
    async with placed(cloud, settings) as found:
        yield found
    cloud.control("DELETE", "faults")


@pytest_asyncio.fixture
async def world(committed_db: Database) -> World:
    return await make_world(committed_db)


@asynccontextmanager
async def polling(place: Place) -> AsyncIterator[None]:
    """The loops of a feedback worker, ended as by SIGTERM."""
    task = asyncio.create_task(place.parts.poll())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def notified(world: World, number: int = 0, **changes: Any) -> dict[str, Any]:
    """What SES says of a bounce of this world's mail, each number another mail."""
    told = mail(sourceArn=world.identity_arn, messageId=f"m-{world.identity_id.hex}-{number}", **changes)
    return {"notificationType": "Bounce", "mail": told, "bounce": bounce()}


def wrapped(place: Place, topic_arn: str, message: Any, **changes: Any) -> str:
    """A message as SNS signs it and puts it into a queue."""
    body = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": topic_arn,
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return json.dumps(place.aws.cloud.courier.sign(body, region=REGION, version="2") | changes)


def signed(place: Place, world: World, number: int = 0) -> str:
    return wrapped(place, world.topic_arn, notified(world, number))


async def quarantined(place: Place) -> list[tuple[str, str]]:
    """Reason and payload of what came by these queues and was not trusted."""
    query = select(QuarantinedMessage.reason, QuarantinedMessage.payload).where(
        QuarantinedMessage.topic_arn.in_([place.queue.arn, place.events.arn])
    )
    async with place.parts.ingest.read(NOBODY) as session:
        return [(row.reason, row.payload) for row in await session.execute(query)]


async def emptied(place: Place) -> None:
    await until(place.is_empty, seconds=EMPTIED)


# The whole way.


@pytest.mark.parametrize("source_key", ["SourceAccount", "SourceOwner"])
async def test_a_bounce_comes_all_the_way(
    cloud: LocalAws, place: Place, committed_db: Database, source_key: str
) -> None:
    """SES → the owner's topic → SQS → stored, with a delivery for each party. The queue was not asked to confirm."""
    cloud.control("PATCH", "dialect", {"source_key": source_key})
    owner, delegate = cloud.account(), cloud.account()
    for account in (owner, delegate):
        account.leave_sandbox()
    world = await delegated(committed_db, owner, delegate)

    await topics.run(place.parts.worker, place.parts.sns, place.settings, only=[world.topic_id])
    topic = await topic_of(world)
    assert ("confirmed", "sqs", True) == (topic.state, topic.protocol, topic.durable)
    name = world.identity_arn.rpartition("/")[2]
    owner.client("ses").set_identity_notification_topic(Identity=name, NotificationType="Bounce", SnsTopic=topic.arn)
    sent = simple(f"news@{name}", "bounce@simulator.amazonses.com")
    delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=world.identity_arn)
    cloud.settle()
    async with polling(place):
        await emptied(place)

    (event,) = await world.events(world.delegate)
    assert ("email.bounced", "bounce@simulator.amazonses.com") == (event.type, event.data["recipient"])
    assert sorted([world.owner.tenant, world.delegate.tenant]) == await world.deliveries()
    assert [] == await quarantined(place)


async def test_an_owners_topic_that_admits_the_broker_comes_through_the_queue(
    cloud: LocalAws, place: Place, committed_db: Database
) -> None:
    """The queue's owner subscribes, so nothing is confirmed (SNS, sns-send-message-to-sqs-cross-account)."""
    owner, delegate = cloud.account(), cloud.account()
    for account in (owner, delegate):
        account.leave_sandbox()
    make_role(owner, EXTERNAL_ID)
    world = await delegated(committed_db, owner, delegate)
    await topics.run(place.parts.worker, place.parts.sns, place.settings, only=[world.topic_id])
    name, own = world.identity_arn.rpartition("/")[2], owner.make_topic("own-bounces")
    policy = allow("sns:Publish", own, principal={"Service": "ses.amazonaws.com"})
    policy["Statement"] += allow("sns:Subscribe", own, principal={"AWS": place.settings.aws_account_id})["Statement"]
    owner.client("sns").set_topic_attributes(TopicArn=own, AttributeName="Policy", AttributeValue=json.dumps(policy))
    owner.client("ses").set_identity_notification_topic(Identity=name, NotificationType="Bounce", SnsTopic=own)

    route = await worked_on(place, world)
    sent = simple(f"news@{name}", "bounce@simulator.amazonses.com")
    delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=world.identity_arn)
    cloud.settle()
    async with polling(place):
        await emptied(place)

    assert ("configured", None, True, []) == (route.state, route.reason, route.durable, route.choices)
    assert own == owner.client("ses").get_identity_notification_attributes(Identities=[name])["NotificationAttributes"][
        name
    ].get("BounceTopic")
    told = [event.type for event in await world.events(world.delegate)]
    assert ["email.bounced"] == [each for each in told if each.startswith("email.")]
    assert "live" == (await worked_on(place, world)).state


async def worked_on(place: Place, world: World) -> Route:
    """The route of the first grant, after what there was to do at once."""
    for _ in range(4):
        async with world.db.begin(world.owner) as session:
            mine = (Route.grant_id == world.grant_id, Route.kind == "identity_topic")
            await session.execute(update(Route).where(*mine).values(due_at=func.now()))
        route = await route_of(world, world.grant_id)
        await routes.run(place.parts.worker, place.parts.route_handlers, place.settings, only=[route.id])
    return await route_of(world, world.grant_id)


async def delegated(db: Database, owner: Account, delegate: Account) -> World:
    """A world with real accounts, whose topic is still to be made."""
    world = await make_world(db, owner_account=owner.id, delegate_account=delegate.id, external_id=EXTERNAL_ID)
    name = world.identity_arn.rpartition("/")[2]
    owner.verify(name)
    policy = allow(["ses:SendEmail"], world.identity_arn, principal={"AWS": delegate.id})
    owner.client("sesv2").create_email_identity_policy(EmailIdentity=name, PolicyName="d", Policy=json.dumps(policy))
    async with db.begin(world.owner) as session:
        await session.execute(text("UPDATE topics SET arn = NULL, state = 'pending', subscription_arn = NULL"))
        await session.execute(text("UPDATE topics SET due_at = now()"))
        await session.execute(text("UPDATE grants SET activated_at = now()"))
    return world


async def topic_of(world: World) -> Topic:
    async with world.db.read(world.owner) as session:
        return (await session.scalars(select(Topic))).one()


async def test_a_subscription_by_https_that_stands_is_left_alone(
    place: Place, world: World, committed_db: Database
) -> None:
    async with committed_db.begin(world.owner) as session:
        await session.execute(text("UPDATE topics SET protocol = 'https', state = 'confirmed'"))
    before = await topic_of(world)

    assert topics.endpoint(before, place.settings).endswith(topics.FEEDBACK_PATH)
    before.state = "lost"
    assert place.queue.arn == topics.endpoint(before, place.settings)


async def test_a_flood_is_taken_by_several_receives_and_stored_once(place: Place, world: World) -> None:
    """Each message lies in the queue twice: SQS and SNS deliver at least once."""
    place.put(*(signed(place, world, number // 2) for number in range(240)))

    async with polling(place):
        await emptied(place)

    assert 120 == len(await world.events(world.delegate))


# What is not to be trusted.


async def test_what_cannot_be_read_is_kept_in_quarantine_and_deleted(place: Place, world: World) -> None:
    raw = json.dumps(notified(world))
    forged = json.dumps(json.loads(signed(place, world)) | {"Message": json.dumps(notified(world, 1))})
    stranger = wrapped(place, f"arn:aws:sns:{REGION}:123456789012:stranger", notified(world))
    event = json.dumps(an_event(world))
    place.put("no JSON", raw, forged, stranger, event)

    async with polling(place):
        await emptied(place)

    assert {
        "no JSON": Reason.no_message,
        raw: Reason.no_message,
        event: Reason.no_message,
        forged: Reason.bad_signature,
        stranger: Reason.unknown_topic,
    } == {payload: reason for reason, payload in await quarantined(place)}
    assert [] == await world.events(world.delegate)


async def test_an_event_that_a_tenant_publishes_with_raw_delivery_is_not_believed(
    cloud: LocalAws, place: Place, world: World, committed_db: Database
) -> None:
    """It lies in the queue exactly as EventBridge would have put it; the subscription is even one that we confirmed."""
    delegate, name = cloud.account(), set_name(world.grant_id)
    topic = delegate.make_topic(name)
    await know_set(world, account=delegate.id, state="pending")
    sns = delegate.client("sns")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=place.queue.arn, Attributes={"RawMessageDelivery": "true"})
    forged = json.dumps(an_event(world, account=delegate.id))
    async with polling(place):
        await until_told(lambda: confirmed(topic, world))
        sns.publish(TopicArn=topic, Message=forged)
        await until_told(lambda: aside(place))

    assert [(Reason.no_message, forged)] == await quarantined(place)
    assert [] == await world.events(world.delegate)


async def confirmed(topic_arn: str, world: World) -> bool:
    async with world.db.read(world.delegate) as session:
        return (await session.scalars(select(Topic.state).where(Topic.arn == topic_arn))).one() == "confirmed"


async def aside(place: Place) -> bool:
    return bool(await quarantined(place))


# By EventBridge.


def on_a_bus(detail: Any, *, account: str, **changes: Any) -> dict[str, Any]:
    """An event as EventBridge hands it on (EventBridge User Guide, eb-events-structure)."""
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "Email Bounced",
        "source": "aws.ses",
        "account": account,
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "region": REGION,
        "resources": [],
        "detail": detail,
        **changes,
    }


def an_event(world: World, *, account: str = DELEGATE_ACCOUNT, **changes: Any) -> dict[str, Any]:
    """A bounce of mail through the set of this world's first grant, that the delegate's rule sends to our bus."""
    told = {"sendingAccountId": account, "tags": {"ses:configuration-set": [set_name(world.grant_id)]}} | changes
    detail = mail(sourceArn=world.identity_arn, messageId=f"m-{world.identity_id.hex}-0") | told
    return on_a_bus({"eventType": "Bounce", "mail": detail, "bounce": bounce()}, account=account)


async def know_set(world: World, *, account: str = DELEGATE_ACCOUNT, state: str = "confirmed") -> None:
    """The topic of the delegate's `configuration_set` route, and the account that it may send from."""
    name = set_name(world.grant_id)
    async with world.db.begin(world.delegate) as session:
        session.add(
            Topic(
                id=new_id(),
                tenant_id=world.delegate.tenant,
                arn=f"arn:aws:sns:{REGION}:{account}:{name}",
                region=REGION,
                source="tenant_topic",
                state=state,
                configuration_set=name,
            )
        )


async def test_a_forwarded_event_of_a_delegates_set_becomes_an_event(place: Place, world: World) -> None:
    """Once, though SNS brings the same bounce through the topic of the set."""
    await know_set(world)
    event = an_event(world)
    place.put_event(json.dumps(event))
    async with polling(place):
        await emptied(place)
        place.put(
            wrapped(place, f"arn:aws:sns:{REGION}:{DELEGATE_ACCOUNT}:{set_name(world.grant_id)}", event["detail"])
        )
        await emptied(place)

    assert [("email.bounced", "tenant_topic")] == [(e.type, e.source) for e in await world.events(world.delegate)]
    assert [] == await kept_of(place, world)


@pytest.mark.parametrize(
    ("changes", "envelope", "reason"),
    [
        ({}, {"account": "123456789012"}, Reason.unknown_topic),
        ({"sendingAccountId": "123456789012"}, {}, Reason.foreign_account),
        ({"tags": {"ses:configuration-set": [f"delegation-broker-{'0' * 32}"]}}, {}, Reason.unknown_topic),
        ({"tags": {"ses:configuration-set": ["own"]}}, {}, Reason.unknown_topic),
        ({"tags": {}}, {}, Reason.unknown_topic),
        ({"sourceArn": f"arn:aws:ses:{REGION}:111111111111:identity/other.example"}, {}, Reason.no_grant),
    ],
    ids=["other-account", "other-sender", "other-set", "own-set", "no-set", "no-grant"],
)
async def test_any_other_event_of_a_bus_is_kept_in_quarantine(
    place: Place, world: World, changes: dict[str, Any], envelope: dict[str, Any], reason: Reason
) -> None:
    await know_set(world)
    place.put_event(json.dumps(an_event(world, **changes) | envelope))
    async with polling(place):
        await emptied(place)

    assert [reason] == await kept_of(place, world)
    assert [] == await world.events(world.delegate)


async def kept_of(place: Place, world: World) -> list[str]:
    """The reasons of what is in quarantine about this world's mail, whichever topic it stands for."""
    about = QuarantinedMessage.payload.contains(f"m-{world.identity_id.hex}")
    async with place.parts.ingest.read(NOBODY) as session:
        return list(await session.scalars(select(QuarantinedMessage.reason).where(about)))


async def test_a_message_of_sns_is_not_believed_in_the_queue_for_events(place: Place, world: World) -> None:
    body = signed(place, world)
    place.put_event(body)
    async with polling(place):
        await emptied(place)

    assert [(Reason.no_event, body)] == await quarantined(place)
    assert [] == await world.events(world.delegate)


async def test_a_confirmation_that_nobody_waits_for_is_deleted_and_not_answered(
    cloud: LocalAws, place: Place, world: World
) -> None:
    """A stranger subscribes our queue to a topic that the policy lets in: SNS asks the queue to confirm."""
    stranger = cloud.account()
    topic = stranger.make_topic("delegation-broker-mine")
    stranger.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=place.queue.arn)
    assert (1, 0) == place.depth()

    async with polling(place):
        await emptied(place)

    (found,) = stranger.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert "PendingConfirmation" == found["SubscriptionArn"]
    assert [] == await quarantined(place)


async def test_a_topic_that_waits_is_confirmed_by_the_message_in_the_queue(
    cloud: LocalAws, place: Place, world: World, committed_db: Database
) -> None:
    delegate = cloud.account()
    topic = delegate.make_topic("delegation-broker-feedback")
    async with committed_db.begin(world.owner) as session:
        await session.execute(text("UPDATE topics SET arn = :arn, state = 'pending', protocol = 'sqs'"), {"arn": topic})
    delegate.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=place.queue.arn)

    async with polling(place):
        await emptied(place)

    (found,) = delegate.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert ("confirmed", found["SubscriptionArn"]) == (
        (await topic_of(world)).state,
        (await topic_of(world)).subscription_arn,
    )


# Trouble.


@pytest.mark.parametrize("error", ["throttle", "500", "access_denied"])
async def test_trouble_of_sqs_is_waited_out(cloud: LocalAws, place: Place, world: World, error: str) -> None:
    for operation in ("ReceiveMessage", "DeleteMessageBatch"):
        given = {"service": "sqs", "operation": operation, "account_id": place.settings.aws_account_id}
        cloud.control("POST", "faults", {"error": error, "times": 2, **given})
    place.put(signed(place, world))

    async with polling(place):
        await until_told(lambda: stored(world))
        if error != "access_denied":
            await emptied(place)

    assert 1 == len(await world.events(world.delegate))


async def stored(world: World, number: int = 1) -> bool:
    return len(await world.events(world.delegate)) >= number


@pytest_asyncio.fixture
async def cabled(cloud: LocalAws, settings: Settings) -> AsyncIterator[tuple[Place, Cable]]:
    """A broker whose database can be cut off."""
    async with cable(make_url(settings.database_url)) as (found, url):
        through = msgspec.structs.replace(settings, database_url=url.render_as_string(hide_password=False))
        async with placed(cloud, through, receives=2) as place:
            yield place, found


async def test_while_postgres_is_away_messages_stay_in_the_queue_and_do_not_become_dead(
    cabled: tuple[Place, Cable], world: World
) -> None:
    """They are tried again and again, but received once: after two receives each would go to the dead-letter queue."""
    place, found = cabled
    found.cut()
    place.put(*(signed(place, world, number) for number in range(30)))
    async with polling(place):
        await until(lambda: found.refused >= 8, seconds=EMPTIED)
        waiting, hidden = place.depth()
        assert (30, True) == (waiting + hidden, hidden > 0)
        found.mend()
        await emptied(place)

    assert 30 == len(await world.events(world.delegate))
    assert (0, 0) == place.depth(place.queue.dead_url)


async def test_stopping_shows_what_is_in_hand_to_others_at_once(cabled: tuple[Place, Cable], world: World) -> None:
    place, found = cabled
    found.cut()
    place.put(*(signed(place, world, number) for number in range(3)))
    async with polling(place):
        await until(lambda: place.depth() == (0, 3) and found.refused > 0)

    assert (3, 0) == place.depth()


async def test_a_message_that_alone_cannot_be_stored_does_not_hold_up_the_others_and_is_dead_in_the_end(
    cloud: LocalAws, settings: Settings, world: World
) -> None:
    """Left hidden for a minute each time; here its time is over at once, and it may be received twice."""

    async def store(batch: Sequence[Arrival]) -> object:
        if any("m-bad" in arrival.envelope.message for arrival in batch):
            raise RuntimeError("a bug")
        return None

    flusher = Flusher(store)
    async with placed(cloud, settings, receives=2) as place, line_of(place) as line:
        place.put(signed(place, world), wrapped(place, world.topic_arn, "m-bad"))
        before = len(calls(place, "ChangeMessageVisibilityBatch"))
        poller = a_poller(place, line, flusher, wait=timedelta(seconds=1))
        task = asyncio.create_task(pollers.polling([poller], flusher))
        for number in (1, 2):
            wanted = before + number
            await until(lambda: len(calls(place, "ChangeMessageVisibilityBatch")) == wanted)  # noqa: B023 — at once
            assert (0, 1) == place.depth()
            place.show_again()
        await until(lambda: place.depth(place.queue.dead_url) == (1, 0))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert place.is_empty()


@asynccontextmanager
async def line_of(place: Place) -> AsyncIterator[Direct]:
    line = Direct(place.settings.direct_url, role=Role.INGEST)
    try:
        yield line
    finally:
        await line.close()


def a_poller(place: Place, line: Direct, flusher: Flusher, **given: Any) -> Poller:
    """One of our own, that stores by this flusher."""
    parts = place.parts
    verifier = Verifier(Certificates(parts.sns), partition="aws", endpoint_origin=place.aws.url)
    receiver = Receiver(parts.ingest, KnownTopics(line), verifier, flusher, parts.sns, body_limit=1_000_000)
    return Poller(parts.sqs, place.queue, receiver, partition="aws", ledger=Ledger(), **given)


async def test_a_message_is_hidden_for_as_long_as_it_is_worked_on(place: Place, world: World) -> None:
    gate = asyncio.Event()

    async def store(_: Sequence[Arrival]) -> object:
        return await gate.wait()

    flusher = Flusher(store)
    before = len(calls(place, "ChangeMessageVisibilityBatch"))
    place.put(signed(place, world))
    async with line_of(place) as line:
        poller = a_poller(place, line, flusher, hide_again_after=0.05)
        task = asyncio.create_task(pollers.polling([poller], flusher))
        await until(lambda: len(calls(place, "ChangeMessageVisibilityBatch")) >= before + 3)
        gate.set()
        await emptied(place)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def calls(place: Place, operation: str) -> list[Any]:
    """What this broker asked of SQS since the local AWS began."""
    query = f"calls?service=sqs&operation={operation}&account_id={place.settings.aws_account_id}"
    found: list[Any] = place.aws.control("GET", query)
    return found


async def test_nothing_is_deleted_before_it_is_stored(place: Place, world: World) -> None:
    place.put(*(signed(place, world, number) for number in range(20)))
    before = len(calls(place, "DeleteMessageBatch"))
    gate = asyncio.Event()
    seen: list[int] = []

    async def store(batch: Sequence[Arrival]) -> object:
        await gate.wait()
        seen.append(len(calls(place, "DeleteMessageBatch")) - before)
        return None

    flusher = Flusher(store)
    async with line_of(place) as line:
        task = asyncio.create_task(pollers.polling([a_poller(place, line, flusher, at_once=1)], flusher))
        await until(lambda: flusher.waiting > 0 or place.depth()[1] > 0)
        assert before == len(calls(place, "DeleteMessageBatch"))
        gate.set()
        await emptied(place)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert 0 == seen[0]


async def test_no_more_is_in_hand_than_fits(place: Place, world: World) -> None:
    """Three receives of ten messages, whatever lies in the queue."""
    place.put(*(signed(place, world, number) for number in range(60)))
    gate = asyncio.Event()

    async def store(_: Sequence[Arrival]) -> object:
        return await gate.wait()

    flusher = Flusher(store)
    async with line_of(place) as line:
        task = asyncio.create_task(pollers.polling([a_poller(place, line, flusher, at_once=3)], flusher))
        await until(lambda: place.depth() == (30, 30))
        gate.set()
        await emptied(place)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# What is seen of it.


async def test_the_queues_depths_are_told_to_the_metrics(place: Place, world: World) -> None:
    place.put(signed(place, world), "two", "three")
    place.sqs.receive_message(QueueUrl=place.queue.url)
    place.sqs.send_message(QueueUrl=place.queue.dead_url, MessageBody="dead")

    assert 1 == await depths.look(place.parts.sqs, place.parts.pump, place.queue)
    written = (await Metrics(place.parts.pump).text()).decode()

    for name, value in (("waiting", 2), ("in_flight", 1), ("dead", 1)):
        assert f'broker_sqs_{name}_messages{{region="{REGION}"}} {value}.0' in written
    assert f'broker_sqs_read_timestamp_seconds{{region="{REGION}"}}' in written


async def test_what_came_of_messages_is_counted(place: Place, world: World) -> None:
    place.put(signed(place, world), "unreadable")
    async with polling(place):
        await emptied(place)

    told = place.parts.ledger.take().tallies
    assert {"received": 2, "repeated": 0, "unread": 1, "deleted": 2} == {
        label: number for (what, label), number in told.items() if what is Count.QUEUED
    }


# What it costs.


@pytest.mark.parametrize("number", [1, 10, 250])
async def test_a_batch_of_any_size_costs_a_handful_of_round_trips(place: Place, world: World, number: int) -> None:
    """Topics, identities, their stamps, and one statement that stores; in all, not per message."""
    parts = place.parts
    texts = [signed(place, world, each) for each in range(number)]
    envelopes = [found for found in map(queued.message_in, texts) if found is not None]
    batch = [Arrival(envelope, clock.now(), 0.0) for envelope in envelopes]
    line = Direct(place.settings.direct_url, role=Role.INGEST)
    ingest = Ingest(line, parts.keyring)
    before = ROUND_TRIPS.count
    tally = await ingest.take(batch, now=clock.now())
    first, before = ROUND_TRIPS.count - before, ROUND_TRIPS.count
    again = await ingest.take(batch, now=clock.now())
    second = ROUND_TRIPS.count - before
    await line.close()

    assert (number, number) == (tally.stored, again.repeated)
    assert (4, 1) == (first, second)
