"""The identity's notification slots: set where empty, left alone where taken, put back when SES dropped them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from broker.aws_access import RoleAccess
from broker.connections.models import Connection
from broker.db import Role
from broker.errors import Refused, Unavailable
from broker.feedback import routes
from broker.feedback.handling import Handler
from broker.feedback.identity_topic import IdentityTopic
from broker.feedback.models import Route, Topic
from broker.feedback.owners_topics import OwnersTopics
from broker.feedback.slots import LEAVE_IT, Plan, plan
from broker.feedback.views import RouteKind
from broker.settings import Settings
from tests.feedback.conftest import ChangeGrant, World, route_of
from tests.feedback.examples import OWNER_ACCOUNT
from tests.feedback.sns import NOW

OTHER = "arn:aws:sns:eu-west-1:111111111111:own-bounces"
PUBLIC = "https://broker.example.com/v1/feedback/sns"
EMPTY: dict[str, str | None] = {"bounce": None, "complaint": None, "delivery": None}


class Ses:
    """An identity's slots and an owner's topics, as the gateway shows them.

    `slots`: of the grant's identity; `others`: of further identities, by name. `topics`: attributes of the owner's
    topics. `confirmed`: whether SNS has confirmed our subscriptions.
    """

    def __init__(self, slots: Mapping[str, str | None] = EMPTY, *, error: Exception | None = None) -> None:
        self.slots = dict(slots)
        self.others: dict[str, dict[str, str | None]] = {}
        self.topics: dict[str, dict[str, str]] = {}
        self.confirmed = False
        self.forwarding = True
        self.error = error
        self.set: list[str] = []
        self.asked: list[tuple[RoleAccess, str]] = []
        self.subscribed: list[tuple[str, str, str]] = []
        self.unsubscribed: list[str] = []

    def of(self, identity: str) -> dict[str, str | None]:
        return self.others.get(identity, self.slots)

    async def notifications_of(
        self, access: RoleAccess, identities: Sequence[str]
    ) -> dict[str, tuple[dict[str, str | None], bool]]:
        self.asked += [(access, identity) for identity in identities]
        return {name: (dict(self.of(name)), self.forwarding) for name in identities}

    async def set_notification_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None:
        self.asked.append((access, identity))
        if self.error is not None:
            raise self.error
        self.set.append(kind)
        self.of(identity)[kind] = topic_arn

    async def topic_attributes(self, access: RoleAccess, topic_arn: str) -> dict[str, str]:
        if topic_arn not in self.topics:
            raise Refused("Not authorized to read this topic.", code="AuthorizationError")
        return self.topics[topic_arn]

    async def subscribe(self, access: RoleAccess, topic_arn: str, protocol: str, endpoint: str) -> str | None:
        self.subscribed.append((topic_arn, protocol, endpoint))
        return f"{topic_arn}:1" if self.confirmed else None

    async def unsubscribe(self, access: RoleAccess, subscription_arn: str) -> None:
        self.unsubscribed.append(subscription_arn)


async def run(world: World, ses: Ses, settings: Settings) -> Route:
    """Makes the first grant's route due, works on it until there is nothing more to do at once, and shows it."""
    handlers: Mapping[RouteKind, Handler] = {
        RouteKind.identity_topic: IdentityTopic(ses, OwnersTopics(ses, lambda _region: ("https", PUBLIC)))
    }
    return await run_with(world, handlers, settings)


async def run_with(world: World, handlers: Mapping[RouteKind, Handler], settings: Settings) -> Route:
    for _ in range(3):
        await change_route(world, due_at=await _now(world))
        mine = [(await route_of(world, world.grant_id)).id]
        assert 1 == await routes.run(world.db.as_role(Role.WORKER), handlers, settings, only=mine)
        route = await route_of(world, world.grant_id)
        if route.due_at is None or route.attempts or route.due_at - await _now(world) > timedelta(seconds=2):
            break
    return route


async def _now(world: World) -> Any:
    async with world.db.read(world.owner) as session:
        return (await session.scalars(text("SELECT now()"))).one()


async def change_route(world: World, **values: Any) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(**values))


def name_of(world: World) -> str:
    """The name of the grant's identity."""
    return world.identity_arn.rpartition("/")[2]


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (EMPTY, Plan(free=("bounce", "complaint", "delivery"), taken=())),
        ({"bounce": "ours", "complaint": "ours", "delivery": "ours"}, Plan(free=(), taken=())),
        ({"bounce": "x", "complaint": "ours", "delivery": None}, Plan(free=("delivery",), taken=("bounce",))),
        ({}, Plan(free=("bounce", "complaint", "delivery"), taken=())),
    ],
)
def test_only_empty_slots_are_to_be_set(current: dict[str, str | None], expected: Plan) -> None:
    assert expected == plan(current, "ours")


async def test_empty_slots_are_set_and_remembered(world: World, settings: Settings) -> None:
    await change_route(world, state="requested")
    ses = Ses()
    route = await run(world, ses, settings)

    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots
    assert ("configured", None, {name_of(world): EMPTY}) == (route.state, route.reason, route.previous)
    assert route.due_at is not None
    assert {OWNER_ACCOUNT} == {access.account_id for access, _ in ses.asked}
    assert {world.identity_arn.rpartition("/")[2]} == {identity for _, identity in ses.asked}


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


async def test_a_slot_that_ses_dropped_is_put_back(world: World, settings: Settings) -> None:
    ses = Ses()
    await run(world, ses, settings)
    ses.slots["complaint"] = None
    await run(world, ses, settings)

    assert ["bounce", "complaint", "delivery", "complaint"] == ses.set
    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots


async def test_a_route_that_was_heard_is_live(world: World, settings: Settings) -> None:
    await change_route(world, live_at=NOW)

    assert "live" == (await run(world, Ses(), settings)).state


async def test_a_route_waits_for_its_topic(world: World, settings: Settings) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Topic).where(Topic.id == world.topic_id).values(state="pending"))
    ses = Ses()
    route = await run(world, ses, settings)

    assert ("requested", []) == (route.state, ses.asked)
    assert route.due_at is not None


async def test_a_route_whose_topic_was_lost_is_broken(world: World, settings: Settings) -> None:
    await run(world, Ses(), settings)
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Topic).where(Topic.id == world.topic_id).values(state="lost"))

    assert "broken" == (await run(world, Ses(), settings)).state


async def test_slots_that_were_set_in_two_goes_were_empty_before(world: World, settings: Settings) -> None:
    ses = Ses({"bounce": world.topic_arn, "complaint": None, "delivery": OTHER})

    expected = {name_of(world): {"bounce": None, "complaint": None, "delivery": OTHER}}
    assert expected == (await run(world, ses, settings)).previous


async def test_an_owner_without_a_role_is_told_what_to_do(world: World, settings: Settings) -> None:
    async with world.db.begin(world.owner) as session:
        mine = Connection.tenant_id == world.owner.tenant
        await session.execute(update(Connection).where(mine).values(state="lost"))
    ses = Ses()
    route = await run(world, ses, settings)

    assert ("pending", []) == (route.state, ses.asked)
    assert "the owner has to set the notification topics" in (route.reason or "")


async def test_what_ses_refuses_is_the_reason(world: World, settings: Settings) -> None:
    route = await run(world, Ses(error=Refused("Not authorized to publish.", code="InvalidParameterValue")), settings)

    assert ("broken", "Not authorized to publish.", 1) == (route.state, route.reason, route.attempts)
    assert route.due_at is not None


async def test_trouble_that_passes_changes_no_state(world: World, settings: Settings) -> None:
    route = await run(world, Ses(error=Unavailable("SES is slow.")), settings)

    assert ("configured", 1) == (route.state, route.attempts)
    assert route.due_at is not None


async def test_an_answer_that_proves_nothing_is_not_believed(world: World, settings: Settings) -> None:
    class Forgetful(Ses):
        async def set_notification_topic(
            self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None
        ) -> None:
            self.set.append(kind)

    await change_route(world, state="requested")
    route = await run(world, Forgetful(), settings)

    assert "requested" == route.state
    assert route.due_at is not None


async def test_an_unforeseen_error_leaves_the_route_to_be_tried_again(world: World, settings: Settings) -> None:
    route = await run(world, Ses(error=KeyError("x")), settings)

    assert "configured" == route.state
    assert route.due_at is not None


async def test_nothing_is_put_back_for_a_grant_that_ended(
    world: World, settings: Settings, change_grant: ChangeGrant
) -> None:
    await change_grant(ended_at=NOW)
    ses = Ses()
    route = await run(world, ses, settings)

    assert [] == ses.asked
    assert route.due_at is None


async def test_a_change_of_state_is_told_to_both_parties(world: World, settings: Settings) -> None:
    await change_route(world, state="requested")
    ses = Ses({"bounce": OTHER, "complaint": None, "delivery": None})
    await run(world, ses, settings)
    await run(world, ses, settings)

    for caller in (world.owner, world.delegate):
        async with world.db.read(caller) as session:
            told = await session.scalars(text("SELECT action FROM audit WHERE subject_kind = 'route'"))
            assert ["route.pending"] == list(told)
    async with world.db.read(world.second) as session:
        assert [] == list(await session.scalars(text("SELECT action FROM audit WHERE subject_kind = 'route'")))
