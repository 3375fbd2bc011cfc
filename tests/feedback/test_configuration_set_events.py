"""The whole way of a delegate's own events on the local AWS: set, topic, confirmation, send, signed message, event."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text

from broker import clock
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import NotFound
from broker.feedback.configuration_set import ConfigurationSets
from broker.feedback.flusher import Flusher
from broker.feedback.handling import RouteWork
from broker.feedback.ingest import Ingest, Tally
from broker.feedback.known import KnownTopics
from broker.feedback.receive import Receiver
from broker.feedback.signature import Certificates, Verifier
from broker.feedback.views import RouteState
from broker.gateways.aws import Aws, Credentials
from broker.gateways.http import HttpFetcher
from broker.gateways.sns import SnsGateway
from broker.gateways.sts import StsGateway
from broker.policies.terms import FeedbackKind
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Settings
from tests.feedback.conftest import Savepoint, World, ingest_role, make_world
from tests.feedback.sets import after, delegate_role, handler, know_topic, ours, topic_state, work_for
from tests.sandbox.aws import REGION, Account, Endpoint, allow, endpoint, simple
from tests.sandbox.aws import Aws as LocalAws

DEAD_LETTERS = f"arn:aws:sqs:{REGION}:999999999999:feedback-dead"


@pytest.fixture(
    params=[
        {},
        {"source_key": "SourceOwner"},
        {"default_configuration_set_fails_delegated": True},
        {"identity_topic_silent_for_delegated": True},
    ],
    ids=lambda switches: "-".join(switches) or "usual",
)
def local(request: pytest.FixtureRequest) -> Iterator[LocalAws]:
    """A local AWS for each value of the switches that touch this route."""
    with start_in_thread(dialect=Dialect(sns_retry_seconds=0.02, **request.param)) as running:
        yield LocalAws(running)


class Here(msgspec.Struct, frozen=True):
    """A broker whose AWS is the local one, a delegate's account, and what SNS posted."""

    world: World
    sets: ConfigurationSets
    receiver: Receiver
    tallies: list[Tally]
    listener: Endpoint
    sns: SnsGateway
    seen: list[int]
    local: LocalAws
    owner: Account
    delegate: Account

    async def take(self, wanted: int) -> None:
        """Hands on what SNS posted since the last time, which is so many messages."""
        self.local.settle()
        posts = self.listener.wait(sum(self.seen) + wanted)[sum(self.seen) :]
        self.seen.append(wanted)
        for post in posts:
            await self.receiver.receive(post.headers, post.raw.encode(), now=clock.now())

    def send(self, recipient: str, **more: Any) -> str:
        """The delegate sends as the owner's identity."""
        sent = simple(f"news@{self.world.identity_arn.rpartition('/')[2]}", recipient)
        named = {"FromEmailAddressIdentityArn": self.world.identity_arn}
        return str(self.delegate.client("sesv2").send_email(**sent, **named, **more)["MessageId"])


@pytest_asyncio.fixture
async def here(db: Database, keyring: Keyring, settings: Settings, local: LocalAws) -> AsyncIterator[Here]:
    owner, delegate = local.account(), local.account()
    for account in (owner, delegate):
        account.leave_sandbox()
    world = await permitted(db, owner, delegate)
    with endpoint() as listener:
        mine = msgspec.structs.replace(settings, aws_endpoint_url=local.url, aws_region=REGION)
        made = local.control("POST", "accounts", {"account_id": mine.aws_account_id})
        aws = Aws(mine, own=Credentials(made["access_key_id"], made["secret_access_key"]))
        fetcher = HttpFetcher(trusted_url=local.url)
        sns = SnsGateway(aws, fetcher, mine)
        tallies: list[Tally] = []

        async def store(batch: Any) -> None:
            tallies.append(await Ingest(Savepoint(db), keyring).take(batch, now=clock.now()))

        flusher = Flusher(store)
        await flusher.start()
        verifier = Verifier(Certificates(sns), partition="aws", endpoint_origin=local.url)
        receiver = Receiver(ingest_role(db), KnownTopics(Savepoint(db)), verifier, flusher, sns, body_limit=1_000_000)
        sets = handler(aws, StsGateway(aws, fetcher, mine), sns, listener.url, dead_letters=DEAD_LETTERS)
        yield Here(world, sets, receiver, tallies, listener, sns, [], local, owner, delegate)
        await flusher.stop()
        await fetcher.close()
        await aws.close()


async def permitted(db: Database, owner: Account, delegate: Account) -> World:
    """A world with real accounts, in which the delegate may send and hears all ten kinds."""
    world = await make_world(db, owner_account=owner.id, delegate_account=delegate.id)
    name = world.identity_arn.rpartition("/")[2]
    owner.verify(name)
    policy = allow(["ses:SendEmail"], world.identity_arn, principal={"AWS": delegate.id})
    owner.client("sesv2").create_email_identity_policy(EmailIdentity=name, PolicyName="d", Policy=json.dumps(policy))
    heard = json.dumps({"delegate_events": [kind.value for kind in FeedbackKind]})
    async with db.begin(world.owner) as session:
        await session.execute(
            text("UPDATE grants SET activated_at = now(), feedback = feedback || CAST(:heard AS jsonb)"),
            {"heard": heard},
        )
    return world


async def live(here: Here) -> RouteWork:
    """A route that is set up and confirmed over HTTPS, as the due loop brings it there."""
    access = msgspec.structs.replace(delegate_role(here.delegate), tenant_id=here.world.delegate.tenant)
    work = work_for(access, grant_id=here.world.grant_id, delegate_id=here.world.delegate.tenant)
    first = await here.sets.check(work)
    await know_topic(here.world, first)
    work = after(work, first)
    second = await here.sets.check(work)
    assert RouteState.requested == second.state
    await here.take(1)
    third = await here.sets.check(after(work, second))
    await know_topic(here.world, third)
    assert (RouteState.configured, None) == (third.state, third.reason)
    return after(work, third)


async def test_a_send_that_names_the_set_is_heard_in_all_its_events(here: Here) -> None:
    work = await live(here)
    here.send("bounce@simulator.amazonses.com", ConfigurationSetName=ours(work))
    here.send("success@simulator.amazonses.com", ConfigurationSetName=ours(work))
    await here.take(4)

    assert [Tally(stored=1)] * 4 == here.tallies
    events = await here.world.events(here.world.delegate)
    assert ["email.bounced", "email.delivered", "email.sent", "email.sent"] == sorted(event.type for event in events)
    assert {("tenant_topic", here.delegate.id, ours(work))} == {
        (event.source, event.data["sending_account"], event.data["configuration_set"]) for event in events
    }
    assert [] == await here.world.events(here.world.second)


async def test_mail_that_does_not_name_the_set_is_not_heard(here: Here) -> None:
    work = await live(here)
    here.send("bounce@simulator.amazonses.com")
    here.send("success@simulator.amazonses.com", ConfigurationSetName=ours(work))
    await here.take(2)

    assert [Tally(stored=1)] * 2 == here.tallies


async def test_what_the_delegate_publishes_itself_is_bound_to_its_own_grants(here: Here) -> None:
    """The topic is the delegate's: it can forge, but not for another account, set or identity."""
    work = await live(here)
    here.send("success@simulator.amazonses.com", ConfigurationSetName=ours(work))
    await here.take(2)
    (told, _) = [json.loads(json.loads(post.raw)["Message"]) for post in here.listener.wait(3)[1:3]]
    mail = told["mail"]
    forged = [
        told | {"mail": mail | {"sendingAccountId": "333333333333"}},
        told | {"mail": mail | {"tags": {"ses:configuration-set": ["another"]}}},
        told | {"mail": mail | {"sourceArn": f"arn:aws:ses:{REGION}:{here.owner.id}:identity/other.example"}},
    ]
    for each in forged:
        here.delegate.client("sns").publish(TopicArn=work.topic_arn, Message=json.dumps(each))
    await here.take(3)

    assert [Tally(quarantined=1)] * 3 == here.tallies[2:]
    assert 2 == len(await here.world.events(here.world.delegate))


async def test_a_lost_subscription_is_noticed_and_confirmed_again(here: Here) -> None:
    work = await live(here)
    sns = here.delegate.client("sns")
    (held,) = sns.list_subscriptions_by_topic(TopicArn=work.topic_arn)["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=held["SubscriptionArn"])
    await here.take(1)  # UnsubscribeConfirmation
    lost = await topic_state(here.world)
    found = await here.sets.check(work)
    await here.take(1)
    again = await here.sets.check(msgspec.structs.replace(after(work, found), topic_arn=None))

    assert ("lost", RouteState.broken, "confirmed") == (lost, found.state, await topic_state(here.world))
    assert RouteState.configured == again.state


async def test_a_confirmation_of_a_topic_that_is_not_known_is_not_given(here: Here) -> None:
    topic = here.delegate.make_topic("unknown")
    here.delegate.client("sns").subscribe(TopicArn=topic, Protocol="http", Endpoint=here.listener.url)

    with pytest.raises(NotFound):
        await here.take(1)


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        ("reject", "email.rejected"),
        ("delay", "email.delayed"),
        ("open", "email.opened"),
        ("click", "email.clicked"),
        ("rendering_failure", "email.rendering_failed"),
        ("subscription", "email.subscription_changed"),
        ("complaint", "email.complained"),
    ],
)
async def test_the_kinds_that_the_simulator_does_not_make_come_through_too(here: Here, kind: str, type_: str) -> None:
    work = await live(here)
    name = here.world.identity_arn.rpartition("/")[2]
    here.local.control(
        "POST",
        "events",
        {
            "account_id": here.owner.id,
            "region": REGION,
            "identity": name,
            "sending_account_id": here.delegate.id,
            "source": f"news@{name}",
            "recipients": ["someone@example.org"],
            "kind": kind,
            "configuration_set": ours(work),
        },
    )
    await here.take(1)

    assert [type_] == [event.type for event in await here.world.events(here.world.delegate)]


async def test_over_https_what_we_could_not_take_is_tried_again_and_kept(here: Here) -> None:
    """Retries below an hour and a dead-letter queue (SNS Developer Guide, sns-message-delivery-retries)."""
    work = await live(here)
    arn = work.found["subscription_arn"]
    held = (await here.sns._call(REGION, "get_subscription_attributes", SubscriptionArn=arn))["Attributes"]  # noqa: SLF001

    assert 60 == json.loads(held["DeliveryPolicy"])["healthyRetryPolicy"]["numRetries"]
    assert {"deadLetterTargetArn": DEAD_LETTERS} == json.loads(held["RedrivePolicy"])
    assert (True, "https") == (work.found["durable"], work.found["protocol"])
