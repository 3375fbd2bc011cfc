"""The whole way of a migration on the local AWS: old notifications, test, signed message, event, removal."""

from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from broker.db import Database, Role
from broker.feedback import migrate, topics
from broker.feedback.legacy import Legacy
from broker.feedback.legacy_terms import BOUNCE, Target
from broker.feedback.migrate import Migrating
from broker.feedback.models import Route, Topic
from broker.feedback.views import RouteKind, RouteState
from broker.gateways.ses_notifications import NotificationsGateway
from tests.feedback.foreign import Scene, make_scene, ses  # noqa: F401 — a fixture
from tests.feedback.test_through_local_aws import Here, here, listener, local  # noqa: F401 — fixtures
from tests.sandbox.aws import Aws as LocalAws


async def with_broker_topic(db: Database, scene: Scene, here: Here) -> None:  # noqa: F811 — the fixture's value
    """The broker's topic is made, confirmed, and set for bounces of the identity."""
    world = scene.world
    async with db.begin(world.owner) as session:
        await session.execute(text("UPDATE topics SET arn = NULL, state = 'pending', due_at = now()"))
        await session.execute(text("UPDATE grants SET activated_at = now()"))
    await topics.run(db.as_role(Role.WORKER), here.sns, here.settings, only=[world.topic_id])
    await here.take(1)
    async with db.begin(world.owner) as session:
        mine = (Route.grant_id == world.grant_id, Route.kind == "identity_topic")
        await session.execute(update(Route).where(*mine).values(state="configured"))
        arn = (await session.scalars(select(Topic.arn).where(Topic.id == world.topic_id))).one()
    scene.set_topic("Bounce", arn)
    await here.take(1)


async def old_route(scene: Scene, handler: Legacy, topic: str) -> UUID:
    body = {"account_id": scene.delegate.id, "identity_arn": scene.world.identity_arn, "topics": {"Bounce": topic}}
    scene.local.control("POST", "legacy", body)
    route_id = await scene.make_route(RouteKind.legacy, {})
    await scene.turn(handler, route_id)
    return route_id


@pytest.mark.parametrize("may_test", [True, False])
async def test_nothing_is_lost_and_nothing_comes_twice(
    db: Database,
    here: Here,  # noqa: F811 — the fixture
    local: LocalAws,  # noqa: F811 — the fixture
    ses: NotificationsGateway,  # noqa: F811 — the fixture
    may_test: bool,
) -> None:
    """With our own test and with the delegate's."""
    scene, handler = await make_scene(db, local, may_test=may_test), Legacy(db, ses)
    await with_broker_topic(db, scene, here)
    topic = scene.topic("old", for_account=scene.delegate.id)
    queue = scene.delegate.make_queue("old", topic)
    route_id = await old_route(scene, handler, topic)

    await migrate.migrate(db, scene.world.delegate, route_id, Migrating(to=Target.IDENTITY_TOPIC))
    waiting = await scene.turn(handler, route_id)
    if not may_test:
        scene.delegate.client("sesv2").send_email(
            FromEmailAddress=f"news@{scene.name}",
            FromEmailAddressIdentityArn=scene.world.identity_arn,
            Destination={"ToAddresses": [BOUNCE]},
            Content={"Simple": {"Subject": {"Data": "Test"}, "Body": {"Text": {"Data": "Test"}}}},
        )
    local.settle()
    before = await scene.turn(handler, route_id)
    await here.take(1)
    done = await scene.turn(handler, route_id)

    assert [RouteState.configured, RouteState.configured, RouteState.removed] == [
        each.state for each in (waiting, before, done)
    ]
    assert ["email.bounced"] == [event.type for event in await scene.world.events(scene.world.delegate)]
    assert ["Bounce"] == [record["notificationType"] for record in queue.feedback()]
    assert "done" == (done.found or {})["migration"]["state"]
    arn = scene.world.identity_arn
    left = scene.delegate.client("ses").get_identity_notification_attributes(Identities=[arn])
    assert "BounceTopic" not in left["NotificationAttributes"].get(arn, {})
