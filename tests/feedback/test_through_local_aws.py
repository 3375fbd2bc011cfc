"""The whole way of a bounce on the local AWS: topic, confirmation, slots, send, signed message, event."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import select, text, update

from broker import clock
from broker.connections import role_documents
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.feedback import routes, topics
from broker.feedback.flusher import Flusher
from broker.feedback.handling import Handler
from broker.feedback.identity_topic import IdentityTopic
from broker.feedback.ingest import Ingest, Tally
from broker.feedback.known import KnownTopics
from broker.feedback.models import Route, Topic
from broker.feedback.other_routes import OtherRoutes
from broker.feedback.owners_topics import OwnersTopics
from broker.feedback.receive import Receiver
from broker.feedback.signature import Certificates, Verifier
from broker.feedback.subscribing import Subscribing
from broker.feedback.views import RouteKind
from broker.gateways.aws import Aws, Credentials
from broker.gateways.http import HttpFetcher
from broker.gateways.ses import SesGateway
from broker.gateways.sns import SnsGateway
from broker.gateways.sts import StsGateway
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Settings
from tests.connections.aws import EXTERNAL_ID, make_role
from tests.feedback.conftest import Savepoint, World, database_time, ingest_role, make_world, route_of
from tests.sandbox.aws import REGION, Account, Endpoint, allow, endpoint, simple
from tests.sandbox.aws import Aws as LocalAws


@pytest.fixture(params=["SourceAccount", "SourceOwner"])
def local(request: pytest.FixtureRequest) -> Iterator[LocalAws]:
    """A local AWS for each of the keys that SES may set when it publishes to a topic."""
    with start_in_thread(dialect=Dialect(source_key=request.param, sns_retry_seconds=0.02)) as running:
        yield LocalAws(running)


@pytest.fixture
def listener() -> Iterator[Endpoint]:
    """Where SNS posts to; what it got is handed to the receiver by the test."""
    with endpoint() as found:
        yield found


class Here(msgspec.Struct, frozen=True):
    """A broker whose AWS is the local one."""

    settings: Settings
    ses: SesGateway
    sns: SnsGateway
    receiver: Receiver
    tallies: list[Tally]
    listener: Endpoint
    seen: list[int]
    broker: Account
    others: OtherRoutes

    @property
    def handlers(self) -> dict[RouteKind, Handler]:
        where = self.settings.public_url + topics.FEEDBACK_PATH
        subscribing = Subscribing(self.sns, lambda _region: where, lambda _region: None)
        https = partial(topics.over_https, self.settings)
        topics_of_owners = OwnersTopics(self.ses, https, subscribing, lambda _region: False)
        return {RouteKind.identity_topic: IdentityTopic(self.ses, topics_of_owners, self.others)}

    async def take(self, wanted: int) -> None:
        """Hands on what SNS posted since the last time, which is so many messages."""
        posts = self.listener.wait(sum(self.seen) + wanted)[sum(self.seen) :]
        self.seen.append(wanted)
        for post in posts:
            await self.receiver.receive(post.headers, post.raw.encode(), now=clock.now())


@pytest_asyncio.fixture
async def here(
    db: Database, keyring: Keyring, settings: Settings, local: LocalAws, listener: Endpoint
) -> AsyncIterator[Here]:
    given = {"aws_endpoint_url": local.url, "aws_region": REGION, "public_url": listener.url}
    mine = msgspec.structs.replace(settings, **given)
    broker = Account(local, mine.aws_account_id)
    aws = Aws(mine, own=Credentials(broker.keys.access_key_id, broker.keys.secret_access_key))
    fetcher = HttpFetcher(trusted_url=local.url)
    ses = SesGateway(aws, StsGateway(aws, fetcher, mine), role_documents.session_policy, partition="aws")
    sns = SnsGateway(aws, fetcher, mine)
    tallies: list[Tally] = []

    async def store(batch: Any) -> None:
        tallies.append(await Ingest(Savepoint(db), keyring).take(batch, now=clock.now()))

    flusher = Flusher(store)
    await flusher.start()
    verifier = Verifier(Certificates(sns), partition="aws", endpoint_origin=local.url)
    receiver = Receiver(ingest_role(db), KnownTopics(Savepoint(db)), verifier, flusher, sns, body_limit=1_000_000)
    yield Here(mine, ses, sns, receiver, tallies, listener, [], broker, OtherRoutes(db.as_role(Role.WORKER)))
    await flusher.stop()
    await fetcher.close()
    await aws.close()


@pytest.fixture
def accounts(local: LocalAws) -> tuple[Account, Account]:
    """The owner's account with our role in it, and a delegate's."""
    owner, delegate = local.account(), local.account()
    for account in (owner, delegate):
        account.leave_sandbox()
    make_role(owner, EXTERNAL_ID)
    return owner, delegate


async def unprepared(db: Database, accounts: tuple[Account, Account]) -> World:
    """A world with real accounts, in which no topic has been made yet."""
    owner, delegate = accounts
    world = await make_world(db, owner_account=owner.id, delegate_account=delegate.id, external_id=EXTERNAL_ID)
    name = world.identity_arn.rpartition("/")[2]
    owner.verify(name)
    policy = allow(["ses:SendEmail"], world.identity_arn, principal={"AWS": delegate.id})
    owner.client("sesv2").create_email_identity_policy(EmailIdentity=name, PolicyName="d", Policy=json.dumps(policy))
    async with db.begin(world.owner) as session:
        await session.execute(
            text("UPDATE topics SET arn = NULL, state = 'pending', subscription_arn = NULL, due_at = now()")
        )
        await session.execute(text("UPDATE routes SET state = 'requested', due_at = NULL"))
        await session.execute(text("UPDATE grants SET activated_at = now()"))
    return world


async def work_on_route(world: World, here: Here) -> str:
    route = await route_of(world, world.grant_id)
    await routes.run(world.db.as_role(Role.WORKER), here.handlers, here.settings, only=[route.id])
    return (await route_of(world, world.grant_id)).state


async def test_a_bounce_comes_all_the_way(
    db: Database, here: Here, local: LocalAws, accounts: tuple[Account, Account]
) -> None:
    owner, delegate = accounts
    world = await unprepared(db, accounts)
    name = world.identity_arn.rpartition("/")[2]

    await topics.run(db.as_role(Role.WORKER), here.sns, here.settings, only=[world.topic_id])
    await here.take(1)
    async with db.read(world.owner) as session:
        assert "confirmed" == (await session.scalars(select(Topic.state))).one()

    assert "configured" == await work_on_route(world, here)
    local.settle()
    await here.take(3)
    assert [Tally(ignored=1)] * 3 == here.tallies

    sent = simple(f"news@{name}", "bounce@simulator.amazonses.com")
    delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=world.identity_arn)
    owner.client("sesv2").send_email(**sent)
    local.settle()
    await here.take(2)

    assert {Tally(stored=1), Tally(own=1)} == set(here.tallies[3:])
    (event,) = await world.events(world.delegate)
    assert ("email.bounced", "bounce@simulator.amazonses.com", delegate.id, True) == (
        event.type,
        event.data["recipient"],
        event.data["sending_account"],
        event.data["final"],
    )
    assert [] == await world.events(world.second)
    assert "live" == await work_on_route(world, here)


def open_to_ses(account: Account, topic_arn: str) -> None:
    document = json.dumps(allow("sns:Publish", topic_arn, principal={"Service": "ses.amazonaws.com"}))
    account.client("sns").set_topic_attributes(TopicArn=topic_arn, AttributeName="Policy", AttributeValue=document)


def held(account: Account, name: str) -> dict[str, Any]:
    """What SES says of an identity's notifications."""
    answer = account.client("ses").get_identity_notification_attributes(Identities=[name])
    found: dict[str, Any] = answer["NotificationAttributes"][name]
    return found


def slots_of(account: Account, name: str) -> list[str | None]:
    found = held(account, name)
    return [found.get(f"{kind}Topic") for kind in ("Bounce", "Complaint", "Delivery")]


async def ready(db: Database, here: Here, accounts: tuple[Account, Account]) -> tuple[World, str]:
    """A world whose topic is confirmed, and the name of its identity."""
    world = await unprepared(db, accounts)
    await topics.run(db.as_role(Role.WORKER), here.sns, here.settings, only=[world.topic_id])
    await here.take(1)
    return world, world.identity_arn.rpartition("/")[2]


async def work_until_rest(world: World, here: Here) -> Route:
    """Works on the first route until nothing more is to be done at once."""
    for _ in range(4):
        async with world.db.begin(world.owner) as session:
            changed = update(Route).where(Route.grant_id == world.grant_id)
            await session.execute(changed.values(due_at=text("now()")))
        await work_on_route(world, here)
        route = await route_of(world, world.grant_id)
        now = await database_time(world.db, world.owner)
        if route.due_at is None or route.due_at - now > timedelta(seconds=2):
            break
    return route


async def test_an_owners_own_topic_is_left_where_it_is_and_heard(
    db: Database, here: Here, local: LocalAws, accounts: tuple[Account, Account]
) -> None:
    owner, delegate = accounts
    world, name = await ready(db, here, accounts)
    own = owner.make_topic("own")
    open_to_ses(owner, own)
    owner.client("ses").set_identity_notification_topic(Identity=name, NotificationType="Bounce", SnsTopic=own)

    waiting = await work_until_rest(world, here)
    local.settle()
    assert ("pending", "which SNS has yet to confirm" in (waiting.reason or "")) == (waiting.state, True)
    # Two greetings of the slots that were set, and SNS's question whether we want the owner's topic.
    await here.take(3)
    route = await work_until_rest(world, here)

    assert ("configured", None) == (route.state, route.reason)
    ours = f"arn:aws:sns:{REGION}:{here.settings.aws_account_id}:ses-delegation-broker-"
    bounce, complaint, delivery = slots_of(owner, name)
    assert own == bounce
    assert all((slot or "").startswith(ours) for slot in (complaint, delivery))
    before = len(here.tallies)
    delegate.client("sesv2").send_email(
        **simple(f"news@{name}", "bounce@simulator.amazonses.com"), FromEmailAddressIdentityArn=world.identity_arn
    )
    local.settle()
    await here.take(1)
    assert own == msgspec.json.decode(here.listener.wait(sum(here.seen))[-1].raw)["TopicArn"]
    assert [Tally(stored=1)] == here.tallies[before:]
    for party in (world.owner, world.delegate):
        told = [event for event in await world.events(party) if event.type == "email.bounced"]
        assert [delegate.id] == [event.data["sending_account"] for event in told]
    assert "live" == (await work_until_rest(world, here)).state

    async with db.begin(world.owner) as session:
        await session.execute(update(Route).where(Route.grant_id == world.second_grant_id).values(state="removed"))
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(wanted=False))
    removed = await work_until_rest(world, here)
    assert ("removed", None) == (removed.state, removed.reason)
    assert [own, None, None] == slots_of(owner, name)
    assert [] == owner.client("sns").list_subscriptions_by_topic(TopicArn=own)["Subscriptions"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [({"KmsMasterKeyId": "alias/aws/sns"}, "encrypted with the AWS-managed key"), ({}, "does not let the broker")],
)
async def test_a_topic_that_we_may_not_listen_to_says_why(
    db: Database,
    here: Here,
    accounts: tuple[Account, Account],
    attributes: dict[str, str],
    expected: str,
) -> None:
    owner, _ = accounts
    world, name = await ready(db, here, accounts)
    own = owner.make_topic("own")
    open_to_ses(owner, own)
    owner.client("ses").set_identity_notification_topic(Identity=name, NotificationType="Complaint", SnsTopic=own)
    sns = owner.client("sns")
    for key, value in attributes.items():
        sns.set_topic_attributes(TopicArn=own, AttributeName=key, AttributeValue=value)
    if not attributes:
        make_role(owner, EXTERNAL_ID, name="Narrow", without=("sns:Subscribe",))
        async with db.begin(world.owner) as session:
            narrow = f"arn:aws:iam::{owner.id}:role/Narrow"
            await session.execute(text("UPDATE connections SET role_arn = :arn"), {"arn": narrow})
    route = await work_until_rest(world, here)

    assert "pending" == route.state
    assert expected in (route.reason or "")
    assert own == held(owner, name)["ComplaintTopic"]


async def test_what_ses_drops_is_told_and_put_back(
    db: Database, here: Here, local: LocalAws, accounts: tuple[Account, Account]
) -> None:
    """A failed publish makes SES drop the topic and turn e-mail on (Developer Guide, configure-sns-notifications)."""
    owner, delegate = accounts
    world, name = await ready(db, here, accounts)
    await work_until_rest(world, here)
    owner.client("ses").set_identity_feedback_forwarding_enabled(Identity=name, ForwardingEnabled=False)
    quiet = await work_until_rest(world, here)
    assert quiet.found["identities"][name]["email_forwarding"] is False

    topic_arn = slots_of(owner, name)[0]
    closed = json.dumps(allow("sns:Publish", str(topic_arn), principal={"AWS": here.broker.id}))
    admin = here.broker.client("sns")
    admin.set_topic_attributes(TopicArn=topic_arn, AttributeName="Policy", AttributeValue=closed)
    sent = simple(f"news@{name}", "bounce@simulator.amazonses.com")
    delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=world.identity_arn)
    local.settle()
    assert slots_of(owner, name)[0] is None
    broken = await work_until_rest(world, here)
    assert "broken" == broken.state

    # The topic's own check opens it again, and the route's puts it back.
    async with db.begin(world.owner) as session:
        await session.execute(text("UPDATE topics SET due_at = now()"))
    await topics.run(db.as_role(Role.WORKER), here.sns, here.settings, only=[world.topic_id])
    mended = await work_until_rest(world, here)

    assert ("configured", None) == (mended.state, mended.reason)
    assert [topic_arn] * 3 == slots_of(owner, name)
    assert mended.found["identities"][name]["email_forwarding"] is True
    for party in (world.owner, world.delegate):
        told = [event for event in await world.events(party) if event.type == "connection.degraded"]
        assert [str(world.grant_id)] == [event.data["grant_id"] for event in told]


async def test_mail_from_a_verified_sub_domain_is_heard_and_put_back(
    db: Database, here: Here, local: LocalAws, accounts: tuple[Account, Account]
) -> None:
    owner, delegate = accounts
    world, name = await ready(db, here, accounts)
    child = f"news.{name}"
    owner.verify(child)
    async with db.begin(world.owner) as session:
        await session.execute(
            text(
                "INSERT INTO identities (id, tenant_id, connection_id, account_id, region, name, kind, arn, verified,"
                " attributes, policies) SELECT gen_random_uuid(), tenant_id, connection_id, account_id, region, :name,"
                " kind, :arn, true, attributes, policies FROM identities WHERE id = :id"
            ),
            {"name": child, "arn": f"{world.identity_arn.partition('/')[0]}/{child}", "id": world.identity_id},
        )
    route = await work_until_rest(world, here)
    assert ("configured", {name, child}) == (route.state, set(route.previous or {}))
    local.settle()
    await here.take(6)

    sent = simple(f"a@{child}", "bounce@simulator.amazonses.com")
    delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=world.identity_arn)
    local.settle()
    await here.take(1)
    assert Tally(stored=1) == here.tallies[-1]

    async with db.begin(world.owner) as session:
        await session.execute(update(Route).where(Route.grant_id == world.second_grant_id).values(state="removed"))
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(wanted=False))
    assert "removed" == (await work_until_rest(world, here)).state
    assert [None] * 3 == slots_of(owner, name) == slots_of(owner, child)


async def test_a_subscription_that_somebody_ends_is_noticed_and_made_again(
    db: Database, here: Here, local: LocalAws, accounts: tuple[Account, Account]
) -> None:
    """SNS tells us with an UnsubscribeConfirmation; the topic's worker subscribes again, and feedback flows again."""
    owner, delegate = accounts
    world = await unprepared(db, accounts)
    name = world.identity_arn.rpartition("/")[2]
    await topics.run(db.as_role(Role.WORKER), here.sns, here.settings, only=[world.topic_id])
    await here.take(1)
    ended = await topic_of(world)
    broker = Account(local, here.settings.aws_account_id)
    broker.client("sns").unsubscribe(SubscriptionArn=ended.subscription_arn)

    await here.take(1)
    lost = await topic_of(world)
    assert ("lost", None, False) == (lost.state, lost.subscription_arn, lost.due_at is None)

    await topics.run(db.as_role(Role.WORKER), here.sns, here.settings, only=[world.topic_id])
    await here.take(1)
    again = await topic_of(world)
    assert ("confirmed", None) == (again.state, again.reason)
    assert ended.subscription_arn != again.subscription_arn

    owner.client("ses").set_identity_notification_topic(Identity=name, NotificationType="Bounce", SnsTopic=again.arn)
    await here.take(1)
    sent = simple(f"news@{name}", "bounce@simulator.amazonses.com")
    delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=world.identity_arn)
    local.settle()
    await here.take(1)

    assert ["email.bounced"] == [event.type for event in await world.events(world.delegate)]


async def test_a_subscription_by_https_is_durable_with_our_retries_and_a_dead_letter_queue(
    db: Database, here: Here, accounts: tuple[Account, Account]
) -> None:
    world = await unprepared(db, accounts)
    await topics.run(db.as_role(Role.WORKER), here.sns, here.settings, only=[world.topic_id])
    await here.take(1)
    queues = f"{REGION}=https://sqs.{REGION}.amazonaws.com/{here.settings.aws_account_id}/feedback"
    durable = []
    for settings in (here.settings, msgspec.structs.replace(here.settings, feedback_queues=queues)):
        await topics.run(db.as_role(Role.WORKER), here.sns, settings, only=[await due_now(world)])
        durable.append(((await topic_of(world)).protocol, (await topic_of(world)).durable))

    arn = (await topic_of(world)).subscription_arn
    held = (await here.sns._call(REGION, "get_subscription_attributes", SubscriptionArn=arn))["Attributes"]  # noqa: SLF001
    assert [("https", False), ("https", True)] == durable
    assert 60 == json.loads(held["DeliveryPolicy"])["healthyRetryPolicy"]["numRetries"]
    assert json.loads(held["RedrivePolicy"])["deadLetterTargetArn"].endswith(":feedback-dead")


async def topic_of(world: World) -> Topic:
    async with world.db.read(world.owner) as session:
        return (await session.scalars(select(Topic).execution_options(populate_existing=True))).one()


async def due_now(world: World) -> UUID:
    """The topic, which is due."""
    async with world.db.begin(world.owner) as session:
        await session.execute(text("UPDATE topics SET due_at = now()"))
    return world.topic_id
