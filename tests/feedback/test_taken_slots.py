"""Slots that hold a topic of the owner's already: listened to where we may, left alone, explained."""

import pytest

from broker.aws_access import RoleAccess
from broker.feedback.slots import ADMIT_IT, CLEAR_IT, LEAVE_IT, OTHER_KEY, OTHER_ROUTE
from broker.settings import Settings
from tests.feedback.conftest import World
from tests.feedback.examples import OWNER_ACCOUNT
from tests.feedback.owners import EMPTY, OTHER, PUBLIC, TAKEN, Ses, name_of, run, topics_of


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

    assert ("configured", None, []) == (route.state, route.reason, route.choices)
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
