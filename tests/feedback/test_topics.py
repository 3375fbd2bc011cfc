"""The broker's own topics: made, opened to one owner's SES, subscribed to, and watched."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select, text, update

from broker.caller import Caller
from broker.configuration import load
from broker.connections.models import Connection
from broker.db import Database, Role
from broker.errors import Refused, Unavailable
from broker.feedback import topics
from broker.feedback.models import Route, Topic
from broker.feedback.requests import activated, request_route
from broker.grants.models import Grant
from broker.ids import new_id
from broker.settings import Settings, SettingsError
from tests.feedback.conftest import World, database_time, route_of
from tests.feedback.examples import OWNER_ACCOUNT

PUBLIC = "https://broker.example.com"


class Sns:
    """SNS of the broker's account, as the gateway shows it. `answer` is what subscribing answers."""

    def __init__(self, *, answer: str | None = None, error: Exception | None = None) -> None:
        self.answer = answer
        self.error = error
        self.made: dict[str, str] = {}
        self.subscribed: list[tuple[str, str]] = []
        self.redriven: list[tuple[str, str | None]] = []
        self.while_subscribing: Callable[[str], None] | None = None

    async def ensure_topic(self, region: str, name: str, *, policy: str) -> str:
        if self.error is not None:
            raise self.error
        arn = f"arn:aws:sns:{region}:999999999999:{name}"
        self.made[arn] = policy
        return arn

    async def keep_all(self, subscription_arn: str, *, dead_letters: str | None) -> bool:
        self.redriven.append((subscription_arn, dead_letters))
        return dead_letters is not None

    async def subscribe(self, topic_arn: str, endpoint: str) -> str | None:
        self.subscribed.append((topic_arn, endpoint))
        return self.answer


@pytest.fixture
def reachable(settings: Settings) -> Settings:
    """Settings of an API that SNS can reach."""
    return msgspec.structs.replace(settings, public_url=PUBLIC)


async def new_topic(world: World) -> UUID:
    """A topic in another Region, asked for by the first grant."""
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(topic_id=None))
        await request_route(
            session,
            grant_id=world.second_grant_id,
            owner_id=world.owner.tenant,
            delegate_id=world.second.tenant,
            identity_id=world.identity_id,
            region="us-east-1",
            account_id=OWNER_ACCOUNT,
        )
        topic = await session.scalars(select(Topic.id).where(Topic.region == "us-east-1"))
        return topic.one()


async def topic_of(world: World, topic_id: UUID) -> Topic:
    async with world.db.read(world.owner) as session:
        return (await session.scalars(select(Topic).where(Topic.id == topic_id))).one()


async def make_due(world: World, topic_id: UUID) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(text("UPDATE topics SET due_at = now() WHERE id = :id"), {"id": topic_id})


async def run(world: World, sns: Sns, settings: Settings) -> int:
    """Works on those of this world's topics that are due."""
    async with world.db.read(world.owner) as session:
        mine = (await session.scalars(select(Topic.id))).all()
    return await topics.run(world.db.as_role(Role.WORKER), sns, settings, only=mine)


async def actions(db: Database, caller: Caller) -> list[str]:
    async with db.read(caller) as session:
        return list(await session.scalars(text("SELECT action FROM audit WHERE actor LIKE 'system:%' ORDER BY id")))


async def test_a_topic_is_made_and_subscribed_to(world: World, reachable: Settings) -> None:
    topic_id, sns = await new_topic(world), Sns()
    assert 1 == await run(world, sns, reachable)

    topic = await topic_of(world, topic_id)
    arn = f"arn:aws:sns:us-east-1:999999999999:{topics.topic_name(topic.connection_id or topic_id)}"
    assert [arn] == list(sns.made)
    assert [(arn, f"{PUBLIC}/v1/feedback/sns")] == sns.subscribed
    assert (arn, "pending") == (topic.arn, topic.state)


async def test_its_arn_is_known_before_sns_asks_for_confirmation(world: World, reachable: Settings) -> None:
    topic_id = await new_topic(world)
    seen: list[str | None] = []

    class Asking(Sns):
        async def subscribe(self, topic_arn: str, endpoint: str) -> str | None:
            seen.append((await topic_of(world, topic_id)).arn)
            return await super().subscribe(topic_arn, endpoint)

    sns = Asking()
    await run(world, sns, reachable)

    assert list(sns.made) == seen


def test_its_policy_admits_ses_for_these_accounts_and_nobody_else() -> None:
    document = json.loads(topics.topic_policy("arn:t", ["222222222222", "111111111111"]))

    assert [
        ({"StringEquals": {"aws:SourceAccount": ["111111111111", "222222222222"]}}),
        ({"StringEquals": {"aws:SourceOwner": ["111111111111", "222222222222"]}}),
    ] == [statement["Condition"] for statement in document["Statement"]]
    assert {("Allow", "ses.amazonaws.com", "sns:Publish", "arn:t")} == {
        (each["Effect"], each["Principal"]["Service"], each["Action"], each["Resource"])
        for each in document["Statement"]
    }


async def test_a_waiting_topic_is_looked_at_again_with_growing_pauses(world: World, reachable: Settings) -> None:
    topic_id, sns = await new_topic(world), Sns()
    pauses = []
    for _ in range(3):
        await make_due(world, topic_id)
        await run(world, sns, reachable)
        due = (await topic_of(world, topic_id)).due_at
        assert due is not None
        pauses.append(due - await database_time(world.db, world.owner))

    assert [timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=4)] == pauses


async def test_a_confirmed_topic_wakes_its_routes(world: World, reachable: Settings) -> None:
    topic_id = await new_topic(world)
    async with world.db.begin(world.owner) as session:
        values = {"topic_id": topic_id, "state": "requested", "due_at": None}
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(values))
    await run(world, Sns(answer="arn:aws:sns:us-east-1:999999999999:t:1"), reachable)

    topic = await topic_of(world, topic_id)
    assert ("confirmed", "arn:aws:sns:us-east-1:999999999999:t:1") == (topic.state, topic.subscription_arn)
    assert (await route_of(world, world.grant_id)).due_at is not None
    assert ["topic.confirmed"] == await actions(world.db, world.owner)


async def test_a_subscription_that_is_gone_is_noticed_and_asked_for_again(world: World, reachable: Settings) -> None:
    await make_due(world, world.topic_id)
    await run(world, Sns(), reachable)

    topic = await topic_of(world, world.topic_id)
    assert ("lost", None) == (topic.state, topic.subscription_arn)
    assert ["topic.lost"] == await actions(world.db, world.owner)


@pytest.mark.parametrize("error", [Unavailable("SNS is slow."), Refused("SNS said no.", code="AuthorizationError")])
async def test_trouble_with_sns_is_the_reason_and_is_tried_again(
    world: World, reachable: Settings, error: Unavailable | Refused
) -> None:
    topic_id = await new_topic(world)
    await run(world, Sns(error=error), reachable)

    topic = await topic_of(world, topic_id)
    assert ("pending", error.detail, 1) == (topic.state, topic.reason, topic.attempts)
    assert topic.due_at is not None


async def test_an_unforeseen_error_leaves_the_topic_to_be_tried_again(world: World, reachable: Settings) -> None:
    topic_id = await new_topic(world)
    await run(world, Sns(error=KeyError("TopicArn")), reachable)

    assert (await topic_of(world, topic_id)).due_at is not None


async def test_an_api_without_an_address_says_so(world: World, settings: Settings) -> None:
    topic_id, sns = await new_topic(world), Sns()
    await run(world, sns, settings)

    assert "The operator has not set BROKER_PUBLIC_URL." == (await topic_of(world, topic_id)).reason
    assert {} == sns.made


async def test_asking_twice_makes_one_route_and_one_topic(world: World) -> None:
    async with world.db.begin(world.owner) as session:
        grant = (await session.scalars(select(Grant).where(Grant.id == world.grant_id))).one()
        await activated(session, grant)
        await activated(session, grant)
        routes = (await session.scalars(select(Route).where(Route.grant_id == world.grant_id))).all()
        found = (await session.scalars(select(Topic.id))).all()

    assert [(world.topic_id, "configured")] == [(route.topic_id, route.state) for route in routes]
    assert [world.topic_id] == list(found)


async def test_each_account_of_an_owner_has_a_topic_of_its_own(world: World, reachable: Settings) -> None:
    """Its policy admits that one account, so a mistake about one connection opens no other's topic."""
    further = Connection(
        id=new_id(),
        tenant_id=world.owner.tenant,
        kind="role",
        account_id="444444444444",
        regions=["eu-west-1"],
        external_id="external",
        state="verified",
    )
    async with world.db.begin(world.owner) as session:
        session.add(further)
        await session.flush()
        named = {"connection": further.id, "identity": world.identity_id}
        await session.execute(text("UPDATE identities SET connection_id = :connection WHERE id = :identity"), named)
        await request_route(
            session,
            grant_id=world.grant_id,
            owner_id=world.owner.tenant,
            delegate_id=world.delegate.tenant,
            identity_id=world.identity_id,
            region="eu-west-1",
            account_id="444444444444",
        )
    sns = Sns()
    await run(world, sns, reachable)

    (arn,) = sns.made
    assert arn.endswith(further.id.hex)
    assert "444444444444" in sns.made[arn]
    assert "111111111111" not in sns.made[arn]


async def test_what_sns_cannot_deliver_over_https_goes_into_the_regions_queue(
    world: World, reachable: Settings
) -> None:
    """By itself SNS gives up on HTTPS after an hour at most (SNS Developer Guide, sns-message-delivery-retries)."""
    queue = "arn:aws:sqs:us-east-1:999999999999:dead"
    settings = msgspec.structs.replace(
        reachable, feedback_dead_letters=f"arn:aws:sqs:eu-west-1:999999999999:dead,{queue}"
    )
    await new_topic(world)
    sns = Sns(answer="arn:aws:sns:us-east-1:999999999999:t:1")
    await run(world, sns, settings)

    assert [("arn:aws:sns:us-east-1:999999999999:t:1", queue)] == sns.redriven


async def test_a_topic_of_an_owner_is_left_to_its_routes(world: World, reachable: Settings) -> None:
    """It is in the owner's account: we neither make it nor change it."""
    async with world.db.begin(world.owner) as session:
        changed = {"source": "tenant_topic", "connection_id": None, "state": "lost", "due_at": func.now()}
        await session.execute(update(Topic).where(Topic.id == world.topic_id).values(changed))
        await session.execute(update(Route).values(due_at=None))
    sns = Sns()
    await run(world, sns, reachable)

    assert ({}, []) == (sns.made, sns.subscribed)
    assert (await route_of(world, world.grant_id)).due_at is not None
    assert (await topic_of(world, world.topic_id)).due_at is None


@pytest.mark.parametrize(("arn", "is_good"), [("arn:aws:sqs:eu-west-1:999999999999:dead", True), ("dead", False)])
def test_a_dead_letter_queue_is_named_by_its_arn(arn: str, *, is_good: bool) -> None:
    environ = {
        "BROKER_DATABASE_URL": "postgresql+asyncpg://broker@127.0.0.1/broker",
        "BROKER_SECRET_KEYS": base64.urlsafe_b64encode(bytes(32)).decode(),
        "BROKER_API_KEY_PEPPER": "x" * 32,
        "BROKER_REGISTRATION": "open",
        "BROKER_FEEDBACK_DEAD_LETTERS": arn,
    }

    if is_good:
        assert {"eu-west-1": arn} == load(environ).dead_letters
    else:
        with pytest.raises(SettingsError, match="BROKER_FEEDBACK_DEAD_LETTERS must be ARNs"):
            load(environ)
