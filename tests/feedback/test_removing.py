"""Removing an `identity_topic`: what was there before is put back, and what cannot be is said."""

from typing import Any

from sqlalchemy import update

from broker.aws_access import RoleAccess
from broker.connections.models import Connection
from broker.db import Role
from broker.errors import Refused
from broker.feedback import routes
from broker.feedback.handling import Checked, RouteWork
from broker.feedback.models import Route
from broker.feedback.views import RouteKind, RouteState
from broker.ids import new_id
from broker.settings import Settings
from tests.feedback.conftest import World, route_of
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.feedback.owners import (
    EMPTY,
    OTHER,
    TAKEN,
    Ses,
    add_child,
    change_route,
    drop_second,
    handlers_of,
    name_of,
    now_of,
    remove,
    run,
    run_with,
    topics_of,
)

EX = "arn:aws:sns:eu-west-1:222222222222:ex-delegates-topic"
OTHER_OWN = f"{TAKEN}-too"


class Strict(Ses):
    """Knows that the topic there was before is gone."""

    async def set_notification_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None:
        if topic_arn == OTHER:
            raise Refused(f"SNS topic <{OTHER}> does not exist.", code="InvalidParameterValue")
        await super().set_notification_topic(access, identity, kind, topic_arn)


async def test_removing_puts_back_what_was_there(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Ses({"bounce": OTHER, "complaint": None, "delivery": None})
    await run(world, ses, settings)
    ses.slots["bounce"] = None  # the owner cleared it, so that we take the slot
    await run(world, ses, settings)
    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots
    route = await remove(world, ses, settings)

    assert {"bounce": OTHER, "complaint": None, "delivery": None} == ses.slots
    assert ("removed", None, None, None) == (route.state, route.reason, route.due_at, route.topic_id)


async def test_removing_leaves_what_another_grant_needs(world: World, settings: Settings) -> None:
    ses = Ses()
    await run(world, ses, settings)
    route = await remove(world, ses, settings)

    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots
    assert "removed" == route.state


async def test_the_last_of_several_routes_puts_back_what_the_first_found(world: World, settings: Settings) -> None:
    ses = Ses({"bounce": OTHER, "complaint": None, "delivery": None})
    await run(world, ses, settings)
    ses.slots["bounce"] = None
    await run(world, ses, settings)
    handlers = handlers_of(world, ses)
    second = (await route_of(world, world.second_grant_id)).id
    worker = world.db.as_role(Role.WORKER)

    async def work_on_second(**values: Any) -> None:
        async with world.db.begin(world.owner) as session:
            changed = update(Route).where(Route.id == second)
            await session.execute(changed.values(due_at=await now_of(world), **values))
        await routes.run(worker, handlers, settings, only=[second])

    await work_on_second()
    await remove(world, ses, settings)
    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots
    await work_on_second(wanted=False)

    assert {"bounce": OTHER, "complaint": None, "delivery": None} == ses.slots


async def test_what_cannot_be_put_back_is_cleared_and_said(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Strict()
    await run(world, ses, settings)
    await change_route(world, previous={name_of(world): EMPTY | {"bounce": OTHER}})
    route = await remove(world, ses, settings)

    assert ("removed", EMPTY) == (route.state, ses.slots)
    assert f"What {name_of(world)} had before could not be put back, so it is empty." == route.reason
    assert f"SNS topic <{OTHER}> does not exist." in route.found["not_put_back"][name_of(world)]


async def test_a_route_made_before_children_were_known_is_put_back_too(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Ses(dict.fromkeys(EMPTY, world.topic_arn))
    await change_route(world, previous=EMPTY)
    await remove(world, ses, settings)

    assert EMPTY == ses.slots


async def test_removing_ends_the_subscription_to_the_owners_topic(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    await run(world, ses, settings)
    route = await remove(world, ses, settings)

    assert ("removed", dict.fromkeys(EMPTY, TAKEN)) == (route.state, ses.slots)
    assert [f"{TAKEN}:1"] == ses.unsubscribed
    assert {} == await topics_of(world)


async def test_without_a_usable_role_removing_waits_and_says_so(world: World, settings: Settings) -> None:
    await run(world, Ses(), settings)
    async with world.db.begin(world.owner) as session:
        mine = Connection.tenant_id == world.owner.tenant
        await session.execute(update(Connection).where(mine).values(state="lost"))
    route = await remove(world, Ses(), settings)

    assert ("broken", True) == (route.state, route.due_at is not None)
    assert "cannot be put back" in (route.reason or "")


async def test_without_a_connection_removing_ends_with_an_honest_reason(world: World, settings: Settings) -> None:
    ses = Ses()
    await run(world, ses, settings)
    async with world.db.begin(world.owner) as session:
        mine = Connection.tenant_id == world.owner.tenant
        await session.execute(update(Connection).where(mine).values(state="removed"))
    route = await remove(world, ses, settings)

    assert ("removed", None) == (route.state, route.due_at)
    assert "connection was removed before the route was" in (route.reason or "")


async def _approve(world: World, topic: str, **values: Any) -> None:
    """A topic of another delegate's on the identity, with the owner's yes."""
    asked = {"bounce": {"topic_arn": topic}, "decision": {"at": "2026-01-01T00:00:00Z", "replace": False}}
    async with world.db.begin(world.owner) as session:
        session.add(
            Route(
                id=new_id(),
                tenant_id=world.owner.tenant,
                delegate_id=world.second.tenant,
                grant_id=world.second_grant_id,
                identity_id=world.identity_id,
                kind="foreign_topic",
                made_by="delegate",
                settings=asked,
                **{"state": "configured"} | values,
            )
        )


async def test_a_delegates_topic_is_not_recorded_as_what_was_there(world: World, settings: Settings) -> None:
    """It would hear of all mail of the identity again, with no route on record."""
    await _approve(world, EX)
    ses = Ses({"bounce": EX, "complaint": OTHER, "delivery": None})
    route = await run(world, ses, settings)

    assert {name_of(world): {"bounce": None, "complaint": OTHER, "delivery": None}} == route.previous


async def test_a_topic_of_a_delegate_whose_route_has_gone_is_not_put_back(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Ses()
    await run(world, ses, settings)
    await change_route(world, previous={name_of(world): EMPTY | {"bounce": EX, "complaint": OTHER}})
    await _approve(world, EX, state="removed", wanted=False)
    await remove(world, ses, settings)

    assert {"bounce": None, "complaint": OTHER, "delivery": None} == ses.slots


async def test_a_topic_of_a_delegate_whose_route_stands_is_put_back(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Ses()
    await run(world, ses, settings)
    await change_route(world, previous={name_of(world): EMPTY | {"bounce": EX}})
    await _approve(world, EX)
    await remove(world, ses, settings)

    assert EMPTY | {"bounce": EX} == ses.slots


async def test_a_topic_that_the_owner_took_out_of_the_slots_is_left(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    await run(world, ses, settings)
    ses.slots = dict(EMPTY)
    route = await run(world, ses, settings)

    assert [f"{TAKEN}:1"] == ses.unsubscribed
    assert ({}, []) == (await topics_of(world), route.found["topics"])
    assert ("configured", world.topic_id) == (route.state, route.topic_id)


async def test_a_topic_is_left_when_ses_dropped_ours_at_the_same_time(world: World, settings: Settings) -> None:
    await drop_second(world)
    ses = Ses({"bounce": TAKEN, "complaint": None, "delivery": None})
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    await run(world, ses, settings)
    ses.slots = dict(EMPTY)
    await run(world, ses, settings)
    await run(world, ses, settings)

    assert ([f"{TAKEN}:1"], {}) == (ses.unsubscribed, await topics_of(world))


async def test_a_topic_that_changed_for_another_is_left_and_the_other_listened_to(
    world: World, settings: Settings
) -> None:
    await drop_second(world)
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.confirmed = {TAKEN: {}, OTHER_OWN: {}}, True
    await run(world, ses, settings)
    ses.slots = dict.fromkeys(EMPTY, OTHER_OWN)
    await run(world, ses, settings)

    assert ([f"{TAKEN}:1"], {OTHER_OWN: "confirmed"}) == (ses.unsubscribed, await topics_of(world))


async def test_the_last_of_two_routes_leaves_a_topic(world: World, settings: Settings) -> None:
    ses = Ses(dict.fromkeys(EMPTY, TAKEN))
    ses.topics, ses.confirmed = {TAKEN: {}}, True
    handlers = handlers_of(world, ses)
    second = (await route_of(world, world.second_grant_id)).id

    async def work_on_second() -> None:
        for _ in range(2):
            async with world.db.begin(world.owner) as session:
                await session.execute(update(Route).where(Route.id == second).values(due_at=await now_of(world)))
            await routes.run(world.db.as_role(Role.WORKER), handlers, settings, only=[second])

    await run(world, ses, settings)
    await work_on_second()
    ses.slots = dict(EMPTY)
    await run(world, ses, settings)
    assert [] == ses.unsubscribed
    await work_on_second()

    assert ([f"{TAKEN}:1"], {}) == (ses.unsubscribed, await topics_of(world))


async def test_what_cannot_be_put_back_beneath_is_named_to_the_owner_alone(world: World, settings: Settings) -> None:
    await drop_second(world)
    boss = await add_child(world, f"boss@{name_of(world)}")
    ses = Strict()
    ses.others = {boss: dict(EMPTY)}
    await run(world, ses, settings)
    await change_route(world, previous={name_of(world): EMPTY, boss: EMPTY | {"bounce": OTHER}})
    route = await remove(world, ses, settings)

    expected = f"What one identity beneath {name_of(world)} had before could not be put back, so it is empty."
    assert ("removed", expected, EMPTY) == (route.state, route.reason, ses.others[boss])
    assert boss in route.found["not_put_back"]


async def test_another_account_of_the_delegates_is_of_no_use_where_it_was_not_set_up(
    world: World, settings: Settings
) -> None:
    """The recorded account has no connection left, so nobody could undo it: that is said, and the route ends."""
    async with world.db.begin(world.delegate) as session:
        session.add(
            Connection(
                id=new_id(),
                tenant_id=world.delegate.tenant,
                kind="role",
                account_id=DELEGATE_ACCOUNT,
                regions=["eu-west-1"],
                external_id="external",
                role_arn=f"arn:aws:iam::{DELEGATE_ACCOUNT}:role/SesDelegationBroker",
                state="lost",
            )
        )
    asked: list[str] = []

    class Waiting:
        async def check(self, work: RouteWork) -> Checked:
            asked.append(work.found["account_id"])
            return Checked(state=RouteState.broken, reason="Not now.")

        remove = check

    routes_ = []
    for account in (DELEGATE_ACCOUNT, "555555555555"):
        await change_route(world, kind="configuration_set", found={"account_id": account}, wanted=False)
        routes_.append(await run_with(world, {RouteKind.configuration_set: Waiting()}, settings))

    assert [DELEGATE_ACCOUNT] == asked
    assert ["broken", "removed"] == [route.state for route in routes_]
    assert "The delegate's connection was removed before the route was" in (routes_[1].reason or "")
