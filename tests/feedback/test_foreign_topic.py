"""SES's "SNS topic you don't own" on the local AWS: asked, decided, set, contested, dropped, taken away again."""

import contextlib
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import update

from broker.db import Database
from broker.due import Superseded
from broker.errors import Conflict, Unavailable
from broker.feedback import decide
from broker.feedback.decide import Approval
from broker.feedback.foreign_rules import BYPASSES
from broker.feedback.foreign_topic import ForeignTopic
from broker.feedback.handling import Unfinished
from broker.feedback.views import RouteKind, RouteState
from broker.gateways.ses_notifications import NotificationsGateway
from broker.grants.models import Grant
from broker.grants.views import Reason
from tests.feedback.foreign import Scene, local, make_scene, prove, ses  # noqa: F401 — fixtures
from tests.feedback.sns import NOW
from tests.sandbox.aws import Account, simple
from tests.sandbox.aws import Aws as LocalAws


@pytest_asyncio.fixture
async def scene(db: Database, local: LocalAws) -> Scene:  # noqa: F811 — the fixture
    return await make_scene(db, local)


@pytest.fixture
def handler(db: Database, ses: NotificationsGateway) -> ForeignTopic:  # noqa: F811 — the fixture
    return ForeignTopic(db, ses)


def asking(**topics: Any) -> dict[str, Any]:
    """Settings: an ARN, or a pair of ARN and whether headers are wanted, by kind."""
    found: dict[str, Any] = {}
    for kind, given in topics.items():
        arn, headers = given if isinstance(given, tuple) else (given, False)
        found[kind] = given if kind == "forwarding" else {"topic_arn": arn, "include_headers": headers}
    return found


async def approved(scene: Scene, handler: ForeignTopic, route_id: UUID, *, replace: bool = False) -> Any:
    await decide.approve(scene.world.db, scene.world.owner, route_id, Approval(replace=replace))
    return await scene.turn(handler, route_id)


async def test_nothing_is_set_before_the_owner_has_said_yes(scene: Scene, handler: ForeignTopic) -> None:
    topic = scene.topic("mine")
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=topic))

    checked = await scene.turn(handler, route_id)

    assert RouteState.requested == checked.state
    assert "all mail of this identity, whoever sends it" in (checked.reason or "")
    assert [f"/v1/routes/{route_id}/approve", f"/v1/routes/{route_id}/decline"] == [
        choice.rpartition("POST ")[2].rstrip(".") for choice in checked.choices
    ]
    assert {"identities": {scene.name: {"bounce": "nobody"}}} == checked.found
    assert "BounceTopic" not in scene.settings_in_ses()


async def test_approved_topics_are_set_and_hear_of_the_delegate_s_bounces(scene: Scene, handler: ForeignTopic) -> None:
    bounces, complaints = scene.topic("bounces"), scene.topic("complaints")
    queue = scene.delegate.make_queue("feedback", bounces)
    settings = asking(bounce=(bounces, True), complaint=complaints, forwarding="off")
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)

    checked = await approved(scene, handler, route_id)
    sent = simple(f"news@{scene.name}", "bounce@simulator.amazonses.com")
    scene.delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=scene.world.identity_arn)

    held = scene.settings_in_ses()
    assert (RouteState.configured, BYPASSES) == (checked.state, checked.reason)
    assert (bounces, complaints) == (held["BounceTopic"], held["ComplaintTopic"])
    assert not held["ForwardingEnabled"]
    assert held["HeadersInBounceNotificationsEnabled"]
    assert not held["HeadersInComplaintNotificationsEnabled"]
    (record,) = queue.feedback()
    assert "headers" in record["mail"]


async def test_a_second_check_changes_nothing(scene: Scene, handler: ForeignTopic) -> None:
    topic = scene.topic("mine")
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=(topic, True)))
    first = await approved(scene, handler, route_id)
    held = scene.settings_in_ses()

    assert first == await scene.turn(handler, route_id)
    assert held == scene.settings_in_ses()


async def test_taking_it_away_leaves_the_identity_as_it_was(scene: Scene, handler: ForeignTopic) -> None:
    before = scene.settings_in_ses()
    settings = asking(bounce=(scene.topic("b"), True), complaint=scene.topic("c"), forwarding="off")
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)
    await approved(scene, handler, route_id)
    await scene.forget(route_id)

    checked = await scene.turn(handler, route_id)

    assert RouteState.removed == checked.state
    assert before == scene.settings_in_ses()
    nothing = {"bounce": None, "complaint": None, "forwarding": "on", "headers": ""}
    assert {scene.name: nothing} == (await scene.route(route_id)).previous


async def test_forwarding_is_on_before_a_topic_is_cleared(scene: Scene, handler: ForeignTopic) -> None:
    """Else SES would have nobody left to tell in between; one dialect refuses it."""
    settings = asking(bounce=scene.topic("b"), complaint=scene.topic("c"), forwarding="off")
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)
    await approved(scene, handler, route_id)
    await scene.forget(route_id)
    seen = len(scene.local.control("GET", f"calls?account_id={scene.owner.id}"))

    await scene.turn(handler, route_id)

    calls = [each["operation"] for each in scene.local.control("GET", f"calls?account_id={scene.owner.id}")[seen:]]
    changes = [name for name in calls if name.startswith("Set")]
    assert ["SetIdentityFeedbackForwardingEnabled", *["SetIdentityNotificationTopic"] * 2] == changes


async def test_removing_what_was_never_set_touches_nothing(scene: Scene, handler: ForeignTopic) -> None:
    scene.set_topic("Bounce", scene.topic("own", scene.owner))
    before = scene.settings_in_ses()
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("mine")), wanted=False)

    assert RouteState.removed == (await scene.turn(handler, route_id)).state
    assert before == scene.settings_in_ses()


async def test_a_topic_of_the_owner_s_is_named_as_the_obstacle_and_left(scene: Scene, handler: ForeignTopic) -> None:
    own = scene.topic("own", scene.owner)
    scene.set_topic("Bounce", own)
    settings = asking(bounce=scene.topic("mine"), complaint=scene.topic("also-mine"))
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)

    checked = await scene.turn(handler, route_id)
    with pytest.raises(Conflict, match="the bounce notifications go to a topic that the owner has set itself"):
        await decide.approve(scene.world.db, scene.world.owner, route_id, Approval())

    assert {"identities": {scene.name: {"bounce": "owner", "complaint": "nobody"}}} == checked.found
    assert "the bounce notifications go to a topic that the owner has set itself" in (checked.reason or "")
    assert own not in (checked.reason or "")
    assert own == scene.settings_in_ses()["BounceTopic"]


async def test_the_owner_may_have_it_replaced_and_gets_it_back(scene: Scene, handler: ForeignTopic) -> None:
    own, mine = scene.topic("own", scene.owner), scene.topic("mine")
    scene.set_topic("Bounce", own)
    headers = {"Identity": scene.name, "NotificationType": "Bounce", "Enabled": True}
    scene.owner.client("ses").set_identity_headers_in_notifications_enabled(**headers)
    before = scene.settings_in_ses()
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=mine))
    await scene.turn(handler, route_id)

    checked = await approved(scene, handler, route_id, replace=True)
    held = scene.settings_in_ses()
    await scene.forget(route_id)
    await scene.turn(handler, route_id)

    assert RouteState.configured == checked.state
    assert (mine, False) == (held["BounceTopic"], held["HeadersInBounceNotificationsEnabled"])
    assert own == ((await scene.route(route_id)).previous or {})[scene.name]["bounce"]
    assert before == scene.settings_in_ses()


async def test_what_the_owner_sets_afterwards_is_left_alone(scene: Scene, handler: ForeignTopic) -> None:
    """`replace` was said of what was there then."""
    own, mine = scene.topic("own", scene.owner), scene.topic("mine")
    scene.set_topic("Bounce", own)
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=mine))
    await scene.turn(handler, route_id)
    await approved(scene, handler, route_id, replace=True)
    scene.set_topic("Bounce", own)

    checked = await scene.turn(handler, route_id)
    after = scene.settings_in_ses()["BounceTopic"]
    again = await approved(scene, handler, route_id, replace=True)

    assert (RouteState.pending, own) == (checked.state, after)
    assert RouteState.configured == again.state
    assert mine == scene.settings_in_ses()["BounceTopic"]


async def test_a_topic_that_ses_dropped_is_set_again_and_forwarding_is_off_again(
    scene: Scene, handler: ForeignTopic
) -> None:
    """SES does so where it could not publish (Developer Guide, configure-sns-notifications)."""
    bounces = scene.topic("b")
    settings = asking(bounce=bounces, complaint=scene.topic("c"), forwarding="off")
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)
    await approved(scene, handler, route_id)
    identity = scene.local.cloud.state.at(scene.world.identity_arn)
    assert identity is not None
    identity.topics.pop("Bounce")
    identity.forwarding = True

    told = await scene.turn(handler, route_id)
    untouched = scene.settings_in_ses()
    checked = await scene.turn(handler, route_id)

    held = scene.settings_in_ses()
    assert (RouteState.broken, True) == (told.state, told.unfinished)
    assert f"SES no longer sends the bounce notifications of {scene.name} to the delegate's topic" in (
        told.reason or ""
    )
    assert "BounceTopic" not in untouched
    assert (RouteState.configured, bounces, False) == (checked.state, held["BounceTopic"], held["ForwardingEnabled"])
    assert "lost" not in (checked.found or {})


async def test_forwarding_that_was_turned_on_is_told_before_it_is_off_again(
    scene: Scene, handler: ForeignTopic
) -> None:
    settings = asking(bounce=scene.topic("b"), complaint=scene.topic("c"), forwarding="off")
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)
    await approved(scene, handler, route_id)
    scene.owner.client("ses").set_identity_feedback_forwarding_enabled(Identity=scene.name, ForwardingEnabled=True)

    told = await scene.turn(handler, route_id)
    checked = await scene.turn(handler, route_id)

    assert (RouteState.broken, True) == (told.state, told.unfinished)
    assert f"SES sends the bounces and complaints of {scene.name} by e-mail again" in (told.reason or "")
    assert RouteState.configured == checked.state
    assert not scene.settings_in_ses()["ForwardingEnabled"]


async def test_a_late_worker_neither_writes_nor_replaces_anything(scene: Scene, handler: ForeignTopic) -> None:
    """Another worker has claimed the route meanwhile, which raises its fence."""
    own = scene.topic("own", scene.owner)
    scene.set_topic("Bounce", own)
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("mine")))
    await scene.turn(handler, route_id)
    await decide.approve(scene.world.db, scene.world.owner, route_id, Approval(replace=True))
    late = await scene.work(route_id)
    kept = {scene.name: {"bounce": "arn:aws:sns:eu-west-1:111111111111:kept"}}
    await scene.change_route(route_id, fence=late.fence + 1, previous=kept)

    with pytest.raises(Superseded):
        await handler.check(late)

    assert kept == (await scene.route(route_id)).previous
    assert own == scene.settings_in_ses()["BounceTopic"]


async def test_a_topic_that_ses_cannot_publish_to_is_said_with_the_way_out(scene: Scene, handler: ForeignTopic) -> None:
    closed = scene.delegate.make_topic("closed")
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=closed))

    checked = await approved(scene, handler, route_id)
    scene.topic("closed")
    again = await scene.turn(handler, route_id)

    assert RouteState.broken == checked.state
    assert "SES does not take the bounce topic. What it said is in `found`, for the owner." == checked.reason
    assert "Unable to publish" in (checked.refused or "")
    assert "sns:Publish" in checked.choices[0]
    assert RouteState.configured == again.state


async def test_two_delegates_cannot_both_have_the_slot(scene: Scene, handler: ForeignTopic) -> None:
    """The second is told that it is taken, and by whom as little as can be."""
    world, rival = scene.world, scene.local.account()
    await prove(world.db, world.second, rival.id)
    first_topic, second_topic = scene.topic("first"), scene.topic("second", rival)
    first = await scene.make_route(RouteKind.foreign_topic, asking(bounce=first_topic))
    second = await scene.make_route(
        RouteKind.foreign_topic, asking(bounce=second_topic), grant_id=world.second_grant_id
    )
    await scene.turn(handler, second)
    await decide.approve(world.db, world.owner, first, Approval())

    with pytest.raises(Conflict) as refused:
        await decide.approve(world.db, world.owner, second, Approval())
    await scene.turn(handler, first)
    checked = await scene.turn(handler, second)

    told = f"{refused.value.detail} {checked.reason} {checked.choices} {checked.found}"
    assert "the bounce notifications go to a topic of another sender, which the owner approved" in told
    assert "replace" in checked.choices[0]
    assert {first_topic, scene.delegate.id, str(world.delegate.tenant)} & set(told.split()) == set()
    assert first_topic not in told
    assert first_topic == scene.settings_in_ses()["BounceTopic"]


async def test_the_owner_gives_the_slot_to_another_and_it_comes_back(scene: Scene, handler: ForeignTopic) -> None:
    world, rival = scene.world, scene.local.account()
    await prove(world.db, world.second, rival.id)
    first_topic, second_topic = scene.topic("first"), scene.topic("second", rival)
    first = await scene.make_route(RouteKind.foreign_topic, asking(bounce=first_topic))
    second = await scene.make_route(
        RouteKind.foreign_topic, asking(bounce=second_topic), grant_id=world.second_grant_id
    )
    await approved(scene, handler, first)
    await scene.turn(handler, second)
    await decide.approve(world.db, world.owner, second, Approval(replace=True))

    given = await scene.turn(handler, second)
    waiting = await scene.turn(handler, first)
    held = scene.settings_in_ses()["BounceTopic"]
    await scene.forget(second)
    await scene.turn(handler, second)

    assert (RouteState.configured, second_topic) == (given.state, held)
    assert RouteState.pending == waiting.state
    assert "given the bounce notifications to another route" in (waiting.reason or "")
    assert first_topic == scene.settings_in_ses()["BounceTopic"]
    assert RouteState.configured == (await scene.turn(handler, first)).state


async def test_the_broker_s_own_topic_is_replaced_and_comes_back(scene: Scene, handler: ForeignTopic) -> None:
    """The usual case: every grant has an identity_topic by itself."""
    ours = scene.topic(scene.world.topic_arn.rpartition(":")[2], Account(scene.local, "999999999999"))
    scene.set_topic("Bounce", ours)
    mine = scene.topic("mine")
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=mine))

    asked = await scene.turn(handler, route_id)
    await approved(scene, handler, route_id, replace=True)
    held = scene.settings_in_ses()["BounceTopic"]
    await scene.forget(route_id)
    await scene.turn(handler, route_id)

    assert ours == scene.world.topic_arn
    assert {"identities": {scene.name: {"bounce": "broker"}}} == asked.found
    assert "the broker's own topic (a route of the kind identity_topic)" in (asked.reason or "")
    assert [mine, ours] == [held, scene.settings_in_ses()["BounceTopic"]]


async def test_a_topic_whose_grant_has_ended_is_not_put_back(scene: Scene, handler: ForeignTopic) -> None:
    """It would hear of the owner's mail again."""
    world, rival = scene.world, scene.local.account()
    await prove(world.db, world.second, rival.id)
    first = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("first")))
    settings = asking(bounce=scene.topic("second", rival))
    second = await scene.make_route(RouteKind.foreign_topic, settings, grant_id=world.second_grant_id)
    await approved(scene, handler, first)
    await scene.turn(handler, second)
    await approved(scene, handler, second, replace=True)
    await scene.change_route(first, wanted=False, state="removed")
    await scene.forget(second)

    await scene.turn(handler, second)

    assert "BounceTopic" not in scene.settings_in_ses()


async def test_a_topic_that_another_route_shares_stays(scene: Scene, handler: ForeignTopic) -> None:
    """One delegate may have several grants of one identity, and one topic for all of them."""
    topic = scene.topic("mine")
    first = await scene.make_route(RouteKind.foreign_topic, asking(bounce=topic))
    await approved(scene, handler, first)
    second = await scene.make_route(
        RouteKind.foreign_topic,
        (await scene.route(first)).settings,
        grant_id=scene.world.second_grant_id,
    )
    shared = await scene.turn(handler, second)
    await scene.forget(first)

    checked = await scene.turn(handler, first)

    assert [RouteState.configured, RouteState.removed] == [shared.state, checked.state]
    assert topic == scene.settings_in_ses()["BounceTopic"]


async def test_the_end_of_the_grant_takes_the_topic_away(scene: Scene, handler: ForeignTopic) -> None:
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(delivery=scene.topic("mine")))
    await approved(scene, handler, route_id)
    async with scene.world.db.begin(scene.world.owner) as session:
        await session.execute(update(Grant).where(Grant.id == scene.world.grant_id).values(ended_at=NOW))

    checked = await scene.turn(handler, route_id)

    assert RouteState.removed == checked.state
    assert "DeliveryTopic" not in scene.settings_in_ses()


async def test_a_former_topic_that_is_gone_leaves_the_slot_empty(scene: Scene, handler: ForeignTopic) -> None:
    own = scene.topic("own", scene.owner)
    scene.set_topic("Complaint", own)
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(complaint=scene.topic("mine")))
    await scene.turn(handler, route_id)
    await approved(scene, handler, route_id, replace=True)
    scene.owner.client("sns").delete_topic(TopicArn=own)
    await scene.forget(route_id)

    checked = await scene.turn(handler, route_id)

    assert RouteState.removed == checked.state
    assert "SES no longer takes the complaint topic that was there before." == checked.reason
    assert "ComplaintTopic" not in scene.settings_in_ses()


async def test_what_was_there_is_written_down_before_it_is_replaced(scene: Scene, handler: ForeignTopic) -> None:
    """A worker that dies in between leaves it known."""
    own = scene.topic("own", scene.owner)
    scene.set_topic("Bounce", own)
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("mine")))
    await scene.turn(handler, route_id)
    await decide.approve(scene.world.db, scene.world.owner, route_id, Approval(replace=True))
    fault = {"operation": "SetIdentityNotificationTopic", "account_id": scene.owner.id, "error": "500"}
    scene.local.control("POST", "faults", fault)

    with pytest.raises(Unavailable):
        await scene.turn(handler, route_id)
    scene.local.control("DELETE", "faults")

    assert own == ((await scene.route(route_id)).previous or {})[scene.name]["bounce"]
    assert RouteState.configured == (await scene.turn(handler, route_id)).state
    assert own == ((await scene.route(route_id)).previous or {})[scene.name]["bounce"]


async def test_without_the_owner_s_role_it_waits_for_its_hands(scene: Scene, handler: ForeignTopic) -> None:
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("mine")))
    asked = await scene.turn(handler, route_id, by_role=False)
    await decide.approve(scene.world.db, scene.world.owner, route_id, Approval())

    checked = await scene.turn(handler, route_id, by_role=False)

    assert RouteState.requested == asked.state
    assert RouteState.pending == checked.state


async def test_a_decline_ends_it_and_says_why(scene: Scene) -> None:
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("mine")))

    view = await decide.decline(scene.world.db, scene.world.owner, route_id, Reason(note="Not now."))

    route = await scene.route(route_id)
    assert (RouteState.removed, "The owner has declined. Not now.") == (view.state, view.reason)
    assert (False, None) == (route.wanted, route.due_at)


@pytest.mark.parametrize("answer", ["lost", "throttled"])
async def test_it_gets_there_however_often_ses_lets_it_wait(scene: Scene, handler: ForeignTopic, answer: str) -> None:
    """SES takes one such call a second (SES API Reference); an answer may also be lost after its call took effect."""
    before = scene.settings_in_ses()
    settings = asking(bounce=(scene.topic("b"), True), complaint=scene.topic("c"), forwarding="off")
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)
    await decide.approve(scene.world.db, scene.world.owner, route_id, Approval())

    set_up = await through_trouble(scene, handler, route_id, after=answer == "lost")
    held = scene.settings_in_ses()
    await scene.forget(route_id)
    taken_away = await through_trouble(scene, handler, route_id, after=answer == "lost")

    assert [RouteState.configured, RouteState.removed] == [set_up, taken_away]
    assert (True, False) == (held["HeadersInBounceNotificationsEnabled"], held["ForwardingEnabled"])
    assert before == scene.settings_in_ses()


async def through_trouble(scene: Scene, handler: ForeignTopic, route_id: UUID, *, after: bool) -> RouteState:
    """Each call that changes something fails once, one in each turn."""
    for name in (
        "NotificationTopic",
        "NotificationTopic",
        "HeadersInNotificationsEnabled",
        "FeedbackForwardingEnabled",
    ):
        fault = {"error": "throttle", "operation": f"SetIdentity{name}", "after": after}
        scene.local.control("POST", "faults", fault | {"account_id": scene.owner.id})
        with contextlib.suppress(Unavailable, Unfinished):
            await scene.turn(handler, route_id)
    scene.local.control("DELETE", "faults")
    return RouteState((await scene.turn(handler, route_id)).state)
