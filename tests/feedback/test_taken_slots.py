"""Slots that hold a topic of the owner's already: listened to where we may, left alone, explained."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from broker.aws_access import RoleAccess
from broker.db import Role
from broker.feedback import routes
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.models import Topic
from broker.feedback.set_gateways import Subscription
from broker.feedback.slots import (
    ADMIT_BROKER,
    ADMIT_IT,
    ANOTHERS,
    CLEAR_IT,
    KEEP_ALL,
    LEAVE_IT,
    NO_ADDRESS,
    OTHER_KEY,
    OTHER_ROUTE,
    SET_ADDRESS,
)
from broker.feedback.views import RouteKind, RouteState
from broker.settings import Settings
from tests.feedback.conftest import World, route_of
from tests.feedback.examples import OWNER_ACCOUNT
from tests.feedback.owners import (
    EMPTY,
    OTHER,
    PUBLIC,
    TAKEN,
    Ses,
    change_route,
    handlers_of,
    know_topic,
    name_of,
    now_of,
    run,
    run_with,
    topics_of,
)


async def test_a_taken_slot_is_left_alone_and_explained(world: World, settings: Settings) -> None:
    ses = Ses({"bounce": OTHER, "complaint": OTHER, "delivery": None})
    route = await run(world, ses, settings)

    assert {"bounce": OTHER, "complaint": OTHER, "delivery": world.topic_arn} == ses.slots
    assert "pending" == route.state
    assert route.reason is not None
    assert route.reason.startswith("The bounce and complaint notifications of ")
    assert LEAVE_IT in route.choices
    assert OTHER not in route.reason
    assert {name_of(world): {"bounce": OTHER, "complaint": OTHER, "delivery": None}} == route.previous


async def test_a_slot_that_was_freed_is_taken_at_the_next_check(world: World, settings: Settings) -> None:
    ses = Ses({"bounce": OTHER, "complaint": None, "delivery": None})
    await run(world, ses, settings)
    ses.slots["bounce"] = None
    route = await run(world, ses, settings)

    assert ("configured", None) == (route.state, route.reason)
    assert {name_of(world): {"bounce": OTHER, "complaint": None, "delivery": None}} == route.previous


async def test_an_owners_own_topic_is_subscribed_to_and_left_where_it_is(world: World, settings: Settings) -> None:
    taken = dict.fromkeys(EMPTY, TAKEN)
    ses = Ses(taken)
    ses.topics = {TAKEN: {}}
    waiting = await run(world, ses, settings)

    assert ("pending", {TAKEN: "pending"}) == (waiting.state, await topics_of(world))
    assert {(TAKEN, "https", PUBLIC)} == set(ses.subscribed)
    assert "which SNS has yet to confirm" in (waiting.reason or "")
    ses.confirmed = True
    route = await run(world, ses, settings)

    assert ("configured", None, False) == (route.state, route.reason, route.durable)
    assert [ADMIT_BROKER] == route.choices
    assert {TAKEN: "confirmed"} == await topics_of(world)
    assert taken == ses.slots
    assert (
        dict.fromkeys(EMPTY, "owners_topic") | {"email_forwarding": True} == route.found["identities"][name_of(world)]
    )
    assert world.topic_id != route.topic_id


async def test_it_is_known_before_sns_asks_for_confirmation(world: World, settings: Settings) -> None:
    """SNS asks at once, and gives up after an answer of 4xx (SNS Developer Guide, sns-message-delivery-retries)."""
    known: list[dict[str, str]] = []

    class Asking(Ses):
        async def subscribe(self, access: RoleAccess, topic_arn: str, protocol: str, endpoint: str) -> str | None:
            known.append(await topics_of(world))
            return await super().subscribe(access, topic_arn, protocol, endpoint)

    ses = Asking({"bounce": TAKEN, "complaint": None, "delivery": None})
    ses.topics = {TAKEN: {}}
    await run(world, ses, settings)

    assert {TAKEN: "pending"} == known[0]


@pytest.mark.parametrize(
    ("arn", "attributes", "expected", "choice"),
    [
        (f"{TAKEN}.fifo", {}, "a FIFO topic", CLEAR_IT),
        (TAKEN.replace("eu-west-1", "us-east-1"), {}, "in another Region", CLEAR_IT),
        (TAKEN.replace(OWNER_ACCOUNT, "555555555555"), {}, "in another AWS account", OTHER_ROUTE),
        (TAKEN, {"KmsMasterKeyId": "alias/aws/sns"}, "encrypted with the AWS-managed key", OTHER_KEY),
        (TAKEN, None, "does not let the broker subscribe", ADMIT_IT),
    ],
)
async def test_a_topic_that_cannot_be_listened_to_says_why(
    world: World, settings: Settings, arn: str, attributes: dict[str, str] | None, expected: str, choice: str
) -> None:
    ses = Ses({"bounce": arn, "complaint": None, "delivery": None})
    ses.topics = {arn: attributes} if attributes is not None else {}
    route = await run(world, ses, settings)

    assert ("pending", [], {}) == (route.state, ses.subscribed, await topics_of(world))
    assert expected in (route.reason or "")
    assert {choice, LEAVE_IT, CLEAR_IT, OTHER_ROUTE} == set(route.choices)
    assert arn not in f"{route.reason} {route.choices} {route.found}"


@pytest.mark.parametrize("whose", ["another_tenants", "a_configuration_sets"])
async def test_a_topic_that_is_known_as_something_else_is_a_reason_and_not_asked_about_for_ever(
    world: World, settings: Settings, whose: str
) -> None:
    """The account may have moved from one tenant to another; each look costs the account's one call a second."""
    if whose == "another_tenants":
        await know_topic(world, world.second)
    else:
        await know_topic(world, world.owner, configuration_set="news")
    ses = Ses({"bounce": TAKEN, "complaint": None, "delivery": None})
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    route = await run(world, ses, settings)

    assert route.due_at is not None
    assert ("pending", []) == (route.state, ses.subscribed)
    assert ANOTHERS in (route.reason or "")
    assert {LEAVE_IT, CLEAR_IT, OTHER_ROUTE} == set(route.choices)
    assert route.due_at - await now_of(world) > timedelta(minutes=1)
    async with world.db.read(world.second if whose == "another_tenants" else world.owner) as session:
        kept = await session.execute(select(Topic.state, Topic.subscription_arn).where(Topic.arn == TAKEN))
        assert ("confirmed", f"{TAKEN}:9") == tuple(kept.one())


async def test_it_is_listened_to_once_it_is_nobody_elses(world: World, settings: Settings) -> None:
    await know_topic(world, world.owner, configuration_set="news")
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    await run(world, ses, settings)
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Topic).where(Topic.arn == TAKEN).values(arn=f"{TAKEN}-of-old"))
    await run(world, ses, settings)
    route = await run(world, ses, settings)

    assert ("configured", None, "confirmed") == (route.state, route.reason, (await topics_of(world))[TAKEN])


async def test_steps_that_never_end_are_taken_ever_more_slowly(world: World, settings: Settings) -> None:
    class Endless:
        async def check(self, work: RouteWork) -> Checked:
            return Checked(state=RouteState.pending, reason="Just a moment.", unfinished=True)

        remove = check

    gaps = []
    for _ in range(7):
        await change_route(world, due_at=await now_of(world))
        mine = [(await route_of(world, world.grant_id)).id]
        worker = world.db.as_role(Role.WORKER)
        await routes.run(worker, {RouteKind.identity_topic: Endless()}, settings, only=mine)
        route = await route_of(world, world.grant_id)
        assert route.due_at is not None
        gaps.append(round((route.due_at - await now_of(world)).total_seconds()))

    assert [1, 1, 1, 1, 2, 4, 8] == gaps


async def test_without_an_address_for_https_the_reason_is_true_and_there_are_choices(
    world: World, settings: Settings
) -> None:
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    route = await run_with(world, handlers_of(world, ses, where=None), settings)

    assert ("pending", [], {}) == (route.state, ses.subscribed, await topics_of(world))
    assert NO_ADDRESS in (route.reason or "")
    assert [SET_ADDRESS, ADMIT_BROKER, LEAVE_IT, CLEAR_IT, OTHER_ROUTE] == route.choices


@pytest.mark.parametrize("where", [None, ("https", PUBLIC)])
async def test_a_topic_that_admits_the_broker_is_heard_through_its_queue(
    world: World, settings: Settings, where: tuple[str, str] | None
) -> None:
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.queue = {TAKEN: {}}, Subscription(arn=f"{TAKEN}:2", protocol="sqs", durable=True)
    route = await run_with(world, handlers_of(world, ses, where=where), settings)

    assert ("configured", None, [], True) == (route.state, route.reason, route.choices, route.durable)
    assert [] == ses.subscribed
    async with world.db.read(world.owner) as session:
        kept = await session.execute(
            select(Topic.state, Topic.subscription_arn, Topic.protocol, Topic.durable).where(Topic.arn == TAKEN)
        )
        assert ("confirmed", f"{TAKEN}:2", "sqs", True) == tuple(kept.one())


async def test_a_topic_that_the_broker_hears_over_https_says_that_it_has_no_dead_letter_queue(
    world: World, settings: Settings
) -> None:
    """The owner has done its part: what is missing is the operator's."""
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.queue = {TAKEN: {}}, Subscription(arn=f"{TAKEN}:2", protocol="https", durable=False)
    without = await run(world, ses, settings)
    ses.queue = Subscription(arn=f"{TAKEN}:2", protocol="https", durable=True)
    redriven = await run(world, ses, settings)

    assert [(False, [KEEP_ALL]), (True, [])] == [(each.durable, each.choices) for each in (without, redriven)]


async def test_a_topic_that_comes_to_admit_the_broker_leaves_https(world: World, settings: Settings) -> None:
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    before = await run(world, ses, settings)
    ses.queue = Subscription(arn=f"{TAKEN}:2", protocol="sqs", durable=True)
    after = await run(world, ses, settings)

    assert [False, True] == [before.durable, after.durable]
    assert [f"{TAKEN}:1"] == ses.unsubscribed


async def test_one_slot_that_may_lose_something_makes_the_whole_route_not_durable(
    world: World, settings: Settings
) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Topic).where(Topic.id == world.topic_id).values(durable=True))
    ses = Ses({"bounce": TAKEN, "complaint": None, "delivery": None})
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    mixed = await run(world, ses, settings)
    ses.queue = Subscription(arn=f"{TAKEN}:2", protocol="sqs", durable=True)
    whole = await run(world, ses, settings)

    assert [(False, [ADMIT_BROKER]), (True, [])] == [(each.durable, each.choices) for each in (mixed, whole)]
