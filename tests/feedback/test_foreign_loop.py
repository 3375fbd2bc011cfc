"""The same kinds through the API's moves and the due loop of routes."""

from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, update

from broker.db import Database, Role
from broker.errors import Forbidden, Invalid
from broker.feedback import decide, moves, routes
from broker.feedback.decide import Approval
from broker.feedback.foreign_topic import BYPASSES, ForeignTopic
from broker.feedback.models import Route
from broker.feedback.views import NewRoute, RouteKind
from broker.gateways.ses_notifications import NotificationsGateway
from broker.settings import Settings
from tests.feedback.foreign import Scene, local, make_scene, ses  # noqa: F401 — fixtures
from tests.sandbox.aws import Aws as LocalAws


async def test_asked_approved_set_and_taken_away_by_the_loop(
    db: Database,
    local: LocalAws,  # noqa: F811
    ses: NotificationsGateway,  # noqa: F811
    settings: Settings,
) -> None:
    scene = await make_scene(db, local)
    world = scene.world
    handlers = {RouteKind.foreign_topic: ForeignTopic(db.as_role(Role.WORKER), ses)}

    async def loop(route_id: UUID) -> Route:
        async with db.begin(world.owner) as session:
            await session.execute(update(Route).where(Route.id == route_id).values(due_at=func.now()))
        assert 1 == await routes.run(db.as_role(Role.WORKER), handlers, settings, only=[route_id])
        return await scene.route(route_id)

    topic = scene.topic("mine")
    asked = NewRoute(grant_id=world.grant_id, kind=RouteKind.foreign_topic, settings={"bounce": {"topic_arn": topic}})
    with pytest.raises(Forbidden):
        await moves.make(db, world.owner, asked)
    with pytest.raises(Invalid):
        await moves.make(
            db, world.delegate, msgspec.structs.replace(asked, settings={"bounce": {"topic_arn": topic + ".fifo"}})
        )
    route_id = (await moves.make(db, world.delegate, asked)).id

    waiting = (await loop(route_id)).state
    await decide.approve(db, world.owner, route_id, Approval())
    set_up = await loop(route_id)
    held = scene.settings_in_ses()["BounceTopic"]
    await moves.remove(db, world.delegate, route_id)
    gone = await loop(route_id)

    assert ("requested", "configured", BYPASSES, topic) == (waiting, set_up.state, set_up.reason, held)
    assert "removed" == gone.state
    assert "BounceTopic" not in scene.settings_in_ses()
