"""What the end of a grant does to its feedback: its routes are looked at in the same commit."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from broker.caller import Caller
from broker.db import Database, Role
from broker.feedback import decide, moves, routes
from broker.feedback.decide import Approval
from broker.feedback.models import Route
from broker.feedback.usage.last import last_used
from broker.gateways.ses_notifications import NotificationsGateway
from broker.grants import end, revoking
from broker.grants.dates import expire
from broker.grants.models import Grant
from broker.grants.views import Matching, Reason
from broker.settings import Settings
from tests.feedback.conftest import World, make_world, route_of
from tests.feedback.foreign import local, make_scene, ses  # noqa: F401 - fixtures
from tests.sandbox.aws import Aws as LocalAws

Ending = Callable[[World], Awaitable[object]]


async def _by_date(world: World) -> None:
    async with world.db.begin(Caller.system(world.owner.tenant, job="sync")) as session:
        await expire(session, world.owner, await session.get_one(Grant, world.grant_id))


async def _matching(world: World, *, dry_run: bool) -> object:
    wanted = Matching(delegate_id=world.delegate.tenant, dry_run=dry_run)
    return await revoking.revoke_matching(world.db, world.owner, wanted, last_used=last_used, gap=timedelta(seconds=1))


ENDINGS: dict[str, Ending] = {
    "revoke": lambda world: end.revoke(world.db, world.owner, world.grant_id, Reason()),
    "relinquish": lambda world: end.relinquish(world.db, world.delegate, world.grant_id, Reason()),
    "revoke_matching": lambda world: _matching(world, dry_run=False),
    "expiry": _by_date,
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_whatever_ends_a_grant_makes_its_routes_due_in_the_same_commit(db: Database, how: str) -> None:
    """And those of no other grant; one that was removed stays so."""
    world = await make_world(db)
    async with db.begin(world.owner) as session:
        await session.execute(update(Route).values(due_at=None))
        grant = update(Grant).where(Grant.owner_id == world.owner.tenant)
        terms = {"principals": ["111122223333"], "actions": ["send"], "expires_at": "2100-01-01T00:00:00Z"}
        await session.execute(grant.values(expires_at=func.now() + timedelta(days=1), terms=terms))
    await ENDINGS[how](world)

    async with db.read(world.owner) as session:
        due = set(await session.scalars(select(Route.id).where(Route.due_at <= func.now())))
    assert {(await route_of(world, world.grant_id)).id} == due


async def test_nothing_is_due_when_only_looked_at_what_would_end(db: Database) -> None:
    world = await make_world(db)
    async with db.begin(world.owner) as session:
        await session.execute(update(Route).values(due_at=None))
    await _matching(world, dry_run=True)

    async with db.read(world.owner) as session:
        assert [] == list(await session.scalars(select(Route.id).where(Route.due_at.is_not(None))))


async def test_a_delegates_own_topic_goes_without_waiting_for_the_read_back(
    db: Database,
    local: LocalAws,  # noqa: F811
    ses: NotificationsGateway,  # noqa: F811
    settings: Settings,
) -> None:
    """It hears all mail of the identity, also what the owner sends itself; the policy may still be there."""
    scene = await make_scene(db, local)
    world = scene.world
    handlers, topic = scene.handlers(ses), scene.topic("mine")
    route_id = (await moves.make(db, world.delegate, scene.asked(bounce={"topic_arn": topic}))).id
    await decide.approve(db, world.owner, route_id, Approval())
    await routes.run(db.as_role(Role.WORKER), handlers, settings, only=[route_id])
    held = scene.settings_in_ses()["BounceTopic"]
    await end.relinquish(db, world.delegate, world.grant_id, Reason())
    ran = await routes.run(db.as_role(Role.WORKER), handlers, settings, only=[route_id])

    assert (topic, 1, "removed") == (held, ran, (await scene.route(route_id)).state)
    assert "BounceTopic" not in scene.settings_in_ses()
