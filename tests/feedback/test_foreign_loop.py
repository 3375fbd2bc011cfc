"""The same kinds through the API's moves and the due loop of routes."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from sqlalchemy import func, update

from broker.db import Database, Role
from broker.errors import Forbidden, Invalid
from broker.feedback import decide, moves, routes
from broker.feedback.decide import Approval
from broker.feedback.foreign_rules import BYPASSES
from broker.feedback.handling import Handler
from broker.feedback.models import Route
from broker.feedback.views import RouteKind
from broker.gateways.ses_notifications import NotificationsGateway
from broker.settings import Settings
from tests.feedback.foreign import Scene, local, make_scene, ses  # noqa: F401 — fixtures
from tests.feedback.owners import told
from tests.sandbox.aws import Aws as LocalAws
from tests.sandbox.aws import simple


async def turn(scene: Scene, handlers: Mapping[RouteKind, Handler], settings: Settings, route_id: UUID) -> Route:
    """The route is due, and worked on once."""
    db = scene.world.db
    async with db.begin(scene.world.owner) as session:
        await session.execute(update(Route).where(Route.id == route_id).values(due_at=func.now()))
    assert 1 == await routes.run(db.as_role(Role.WORKER), handlers, settings, only=[route_id])
    return await scene.route(route_id)


async def test_asked_approved_set_and_taken_away_by_the_loop(
    db: Database,
    local: LocalAws,  # noqa: F811
    ses: NotificationsGateway,  # noqa: F811
    settings: Settings,
) -> None:
    scene = await make_scene(db, local)
    world = scene.world
    handlers, topic = scene.handlers(ses), scene.topic("mine")
    asked = scene.asked(bounce={"topic_arn": topic})
    with pytest.raises(Forbidden):
        await moves.make(db, world.owner, asked)
    with pytest.raises(Invalid):
        await moves.make(db, world.delegate, scene.asked(bounce={"topic_arn": topic + ".fifo"}))
    route_id = (await moves.make(db, world.delegate, asked)).id

    waiting = (await turn(scene, handlers, settings, route_id)).state
    await decide.approve(db, world.owner, route_id, Approval())
    set_up = await turn(scene, handlers, settings, route_id)
    held = scene.settings_in_ses()["BounceTopic"]
    await moves.remove(db, world.delegate, route_id)
    gone = await turn(scene, handlers, settings, route_id)

    assert ("requested", "configured", BYPASSES, topic) == (waiting, set_up.state, set_up.reason, held)
    assert "removed" == gone.state
    assert "BounceTopic" not in scene.settings_in_ses()


async def test_what_ses_dropped_is_told_to_both_parties_once_and_put_back(
    db: Database,
    local: LocalAws,  # noqa: F811
    ses: NotificationsGateway,  # noqa: F811
    settings: Settings,
) -> None:
    """SES drops a topic that it cannot publish to and then forwards by e-mail (configure-sns-notifications)."""
    scene = await make_scene(db, local)
    world = scene.world
    handlers, bounces, complaints = scene.handlers(ses), scene.topic("b"), scene.topic("c")
    asked = scene.asked(bounce={"topic_arn": bounces}, complaint={"topic_arn": complaints}, forwarding="off")
    route_id = (await moves.make(db, world.delegate, asked)).id
    await decide.approve(db, world.owner, route_id, Approval())
    await turn(scene, handlers, settings, route_id)
    scene.delegate.client("sns").delete_topic(TopicArn=bounces)
    mail = simple(f"news@{scene.name}", "bounce@simulator.amazonses.com")
    scene.delegate.client("sesv2").send_email(**mail, FromEmailAddressIdentityArn=world.identity_arn)
    dropped = scene.settings_in_ses()
    scene.topic("b")

    states = [(await turn(scene, handlers, settings, route_id)).state for _ in range(3)]

    assert ("BounceTopic" in dropped, dropped["ForwardingEnabled"]) == (False, True)
    assert ["broken", "configured", "configured"] == states
    for caller in (world.owner, world.delegate):
        ((type_, reason),) = await told(world, caller)
        assert "connection.degraded" == type_
        assert f"SES no longer sends the bounce notifications of {scene.name} to the delegate's topic" in reason
    assert [] == await told(world, world.second)
    held = scene.settings_in_ses()
    assert (bounces, False) == (held["BounceTopic"], held["ForwardingEnabled"])
