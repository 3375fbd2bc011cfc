"""A delegate's topic on the identities beneath the grant's: set, contested, partial, taken away again."""

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from broker.aws_access import RoleAccess
from broker.db import Database
from broker.errors import Refused
from broker.feedback.foreign_rules import BYPASSES
from broker.feedback.foreign_topic import ForeignTopic
from broker.feedback.views import RouteKind, RouteState
from broker.gateways.ses_notifications import NotificationsGateway
from broker.grants.models import Grant
from broker.identities.models import Identity
from tests.feedback.foreign import Scene, local, make_scene, prove, ses  # noqa: F401 — fixtures
from tests.feedback.owners import add_child
from tests.feedback.test_foreign_topic import approved, asking
from tests.sandbox.aws import Aws as LocalAws
from tests.sandbox.aws import simple


@pytest_asyncio.fixture
async def scene(db: Database, local: LocalAws) -> Scene:  # noqa: F811 — the fixture
    return await make_scene(db, local)


@pytest.fixture
def handler(db: Database, ses: NotificationsGateway) -> ForeignTopic:  # noqa: F811 — the fixture
    return ForeignTopic(db, ses)


async def with_child(scene: Scene, name: str = "news") -> str:
    """A verified sub-domain, which supplies the settings of its own mail (Developer Guide, creating-identities)."""
    child = f"{name}.{scene.name}"
    scene.owner.verify(child)
    return await add_child(scene.world, child)


async def test_a_verified_sub_domain_is_set_heard_and_put_back_too(scene: Scene, handler: ForeignTopic) -> None:
    child, bounces = await with_child(scene), scene.topic("b")
    own = scene.topic("own", scene.owner)
    scene.set_topic("Bounce", own, child)
    before = [scene.settings_in_ses(name) for name in (scene.name, child)]
    queue = scene.delegate.make_queue("feedback", bounces)
    settings = asking(bounce=bounces, complaint=scene.topic("c"), forwarding="off")
    route_id = await scene.make_route(RouteKind.foreign_topic, settings)
    asked = await scene.turn(handler, route_id)
    checked = await approved(scene, handler, route_id, replace=True)
    held = scene.settings_in_ses(child)
    sent = simple(f"news@{child}", "bounce@simulator.amazonses.com")
    scene.delegate.client("sesv2").send_email(**sent, FromEmailAddressIdentityArn=scene.world.identity_arn)
    heard = queue.feedback()
    await scene.forget(route_id)
    gone = await scene.turn(handler, route_id)

    assert "owner" == (asked.found or {})["identities"][child]["bounce"]
    assert f"the bounce and complaint notifications of one identity beneath {scene.name}" in (asked.reason or "")
    assert child not in (asked.reason or "")
    assert (RouteState.configured, BYPASSES) == (checked.state, checked.reason)
    assert (bounces, False) == (held["BounceTopic"], held["ForwardingEnabled"])
    assert ["Bounce"] == [each["notificationType"] for each in heard]
    assert own == ((await scene.route(route_id)).previous or {})[child]["bounce"]
    assert RouteState.removed == gone.state
    assert before == [scene.settings_in_ses(name) for name in (scene.name, child)]


async def test_what_is_taken_beneath_is_left_and_said_to_be_partial(scene: Scene, handler: ForeignTopic) -> None:
    child, own, mine = await with_child(scene), scene.topic("own", scene.owner), scene.topic("mine")
    scene.set_topic("Bounce", own, child)
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=mine))
    asked = await scene.turn(handler, route_id)
    partial = await approved(scene, handler, route_id)
    held = [scene.settings_in_ses(name)["BounceTopic"] for name in (scene.name, child)]
    whole = await approved(scene, handler, route_id, replace=True)

    assert ["approve", "replace", "decline"] == [
        next(word for word in ("replace", "decline", "approve") if word in choice) for choice in asked.choices
    ]
    assert RouteState.configured == partial.state
    assert f"Partial: mail from one identity beneath {child.removeprefix('news.')} is not covered." in (
        partial.reason or ""
    )
    assert "go to another topic, which is a topic that the owner has set" in (partial.reason or "")
    assert child in str((partial.found or {})["not_covered"])
    assert own not in f"{partial.reason} {partial.choices} {partial.found}"
    assert "replace" in partial.choices[0]
    assert [mine, own] == held
    assert (RouteState.configured, BYPASSES, ()) == (whole.state, whole.reason, whole.choices)
    assert mine == scene.settings_in_ses(child)["BounceTopic"]


async def test_a_sub_domain_that_ses_does_not_know_or_that_the_grant_is_not_for_is_left_out(
    scene: Scene, handler: ForeignTopic
) -> None:
    await add_child(scene.world, f"gone.{scene.name}")
    other = await with_child(scene, "other")
    await permit(scene, f"*@{scene.name}", f"*@gone.{scene.name}")
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("mine")))

    checked = await approved(scene, handler, route_id)

    assert (RouteState.configured, BYPASSES) == (checked.state, checked.reason)
    assert {scene.name} == (checked.found or {})["identities"].keys()
    assert "BounceTopic" not in scene.settings_in_ses(other)


async def permit(scene: Scene, *patterns: str) -> None:
    """The grant is for these From addresses."""
    async with scene.world.db.begin(scene.world.owner) as session:
        changed = update(Grant).where(Grant.id == scene.world.grant_id)
        await session.execute(changed.values(terms={"from_addresses": list(patterns)}))


async def test_terms_that_no_longer_name_a_sub_domain_take_the_topic_off_it(
    scene: Scene, handler: ForeignTopic
) -> None:
    """It would hear of mail that the delegate may not even send."""
    child, mine = await with_child(scene), scene.topic("mine")
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=mine))
    await approved(scene, handler, route_id)
    held = scene.settings_in_ses(child)["BounceTopic"]
    await permit(scene, f"*@{scene.name}")

    checked = await scene.turn(handler, route_id)

    assert (mine, RouteState.configured) == (held, checked.state)
    assert {scene.name} == ((await scene.route(route_id)).previous or {}).keys()
    assert "BounceTopic" not in scene.settings_in_ses(child)
    assert mine == scene.settings_in_ses()["BounceTopic"]


async def test_a_slot_beneath_that_another_sender_holds_through_its_own_grant_is_seen_as_such(
    scene: Scene, handler: ForeignTopic
) -> None:
    """The other route is on the sub-domain itself."""
    world, rival = scene.world, scene.local.account()
    child = await with_child(scene)
    await prove(world.db, world.second, rival.id)
    theirs = scene.topic("theirs", rival)
    async with world.db.begin(world.owner) as session:
        child_id = await session.scalar(select(Identity.id).where(Identity.name == child))
    asked = asking(bounce=theirs)
    second = await scene.make_route(
        RouteKind.foreign_topic, asked, grant_id=world.second_grant_id, identity_id=child_id
    )
    await scene.turn(handler, second)
    await approved(scene, handler, second)
    first = await scene.make_route(RouteKind.foreign_topic, asking(bounce=scene.topic("mine")))

    checked = await approved(scene, handler, first)

    assert "which is a topic of another sender, which the owner approved" in (checked.reason or "")
    assert {scene.name: {"bounce": "this_route"}, child: {"bounce": "another_route"}} == (checked.found or {})[
        "identities"
    ]
    assert theirs == scene.settings_in_ses(child)["BounceTopic"]


class Refusing(NotificationsGateway):
    """SES as it is, but for one identity that it takes no topic on."""

    def __init__(self, ses: NotificationsGateway, name: str) -> None:  # noqa: F811 — not the fixture
        vars(self).update(vars(ses))
        self.name = name

    async def set_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None:
        if identity == self.name:
            raise Refused("Domain is not eligible.", code="InvalidParameterValue")
        await super().set_topic(access, identity, kind, topic_arn)


async def test_a_sub_domain_that_ses_takes_no_topic_on_is_partial_with_the_reason(
    db: Database,
    scene: Scene,
    ses: NotificationsGateway,  # noqa: F811 — the fixture
) -> None:
    child, mine = await with_child(scene), scene.topic("mine")
    handler = ForeignTopic(db, Refusing(ses, child))
    route_id = await scene.make_route(RouteKind.foreign_topic, asking(bounce=mine))

    checked = await approved(scene, handler, route_id)

    assert RouteState.configured == checked.state
    assert f"Partial: mail from one identity beneath {child.removeprefix('news.')} is not covered." in (
        checked.reason or ""
    )
    assert "Domain is not eligible." in str((checked.found or {})["not_covered"])
    assert any("sns:Publish" in choice for choice in checked.choices)
    assert mine == scene.settings_in_ses()["BounceTopic"]
