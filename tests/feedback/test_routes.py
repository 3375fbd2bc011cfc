"""The identity's notification slots: set where empty, left alone where taken, put back when SES dropped them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections.models import Connection
from broker.db import Role
from broker.errors import Refused, Unavailable
from broker.feedback import routes
from broker.feedback.handling import Checked, Handler, RouteWork, TenantTopic
from broker.feedback.identity_topic import IdentityTopic
from broker.feedback.models import Route, Topic
from broker.feedback.owners_topics import OwnersTopics
from broker.feedback.slots import ADMIT_IT, CLEAR_IT, LEAVE_IT, OTHER_KEY, OTHER_ROUTE, Plan, plan
from broker.feedback.views import RouteKind, RouteState
from broker.identities.models import Identity
from broker.ids import new_id
from broker.settings import Settings
from tests.feedback.conftest import ChangeGrant, World, route_of
from tests.feedback.examples import DELEGATE_ACCOUNT, OWNER_ACCOUNT
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


async def told(world: World, caller: Caller) -> list[tuple[str, str]]:
    """Type and reason of the events that are about a route."""
    return [(event.type, event.data["reason"]) for event in await world.events(caller) if "route_id" in event.data]


async def test_what_ses_dropped_is_told_to_both_parties_once_and_put_back(world: World, settings: Settings) -> None:
    ses = Ses()
    await run(world, ses, settings)
    ses.slots["complaint"] = None
    ses.forwarding = True
    route = await run(world, ses, settings)
    await run(world, ses, settings)

    for caller in (world.owner, world.delegate):
        ((type_, reason),) = await told(world, caller)
        assert "connection.degraded" == type_
        assert f"the complaint notifications of {name_of(world)}" in reason
    assert [] == await told(world, world.second)
    assert ("configured", None) == (route.state, route.reason)
    assert dict.fromkeys(EMPTY, "ours") | {"email_forwarding": True} == route.found["identities"][name_of(world)]


async def test_what_cannot_be_put_back_is_told_once_while_it_stays_broken(world: World, settings: Settings) -> None:
    ses = Ses()
    await run(world, ses, settings)
    ses.slots = dict(EMPTY)
    ses.error = Refused("Not authorized to publish.", code="InvalidParameterValue")
    for _ in range(3):
        route = await run(world, ses, settings)
    ses.error = None
    mended = await run(world, ses, settings)

    assert ("broken", "Not authorized to publish.") == (route.state, route.reason)
    assert ["connection.degraded"] == [type_ for type_, _ in await told(world, world.delegate)]
    assert "configured" == mended.state


async def test_a_second_drop_is_a_second_event(world: World, settings: Settings) -> None:
    ses = Ses()
    for _ in range(2):
        await run(world, ses, settings)
        ses.slots["bounce"] = None
        await run(world, ses, settings)

    assert 2 == len(await told(world, world.owner))


async def add_child(world: World, name: str, *, verified: bool = True) -> str:
    """An identity beneath the grant's, as discovery found it."""
    async with world.db.begin(world.owner) as session:
        parent = (await session.scalars(select(Identity).where(Identity.id == world.identity_id))).one()
        session.add(
            Identity(
                id=new_id(),
                tenant_id=parent.tenant_id,
                connection_id=parent.connection_id,
                account_id=parent.account_id,
                region=parent.region,
                name=name,
                kind="email" if "@" in name else "domain",
                arn=f"{parent.arn.partition('/')[0]}/{name}",
                verified=verified,
                attributes={},
                policies={},
            )
        )
    return name


async def test_the_route_is_set_on_every_identity_that_the_mail_comes_from(
    world: World, settings: Settings, change_grant: ChangeGrant
) -> None:
    """A verified sub-domain or address has settings of its own (SES Developer Guide, creating-identities)."""
    await change_grant(terms={"from_addresses": [f"*@news.{name_of(world)}", f"b?ss@{name_of(world)}"]})
    news = await add_child(world, f"news.{name_of(world)}")
    boss = await add_child(world, f"boss@{name_of(world)}")
    shop = await add_child(world, f"shop.{name_of(world)}")
    new = await add_child(world, f"eu.news.{name_of(world)}", verified=False)
    ses = Ses()
    ses.others = {child: dict(EMPTY) for child in (news, boss, shop, new)}
    route = await run(world, ses, settings)

    ours = dict.fromkeys(EMPTY, world.topic_arn)
    assert {news: ours, boss: ours, shop: EMPTY, new: EMPTY} == ses.others
    assert "configured" == route.state
    assert dict.fromkeys((name_of(world), news, boss), EMPTY) == route.previous
    assert {name_of(world), news, boss} == set(route.found["identities"])


async def test_a_child_that_is_not_covered_makes_the_route_partial(world: World, settings: Settings) -> None:
    child = await add_child(world, f"news.{name_of(world)}")
    ses = Ses()
    ses.others = {child: {"bounce": OTHER, "complaint": None, "delivery": None}}
    route = await run(world, ses, settings)

    assert "configured" == route.state
    assert route.reason is not None
    assert route.reason.startswith(f"Partial: mail from {child} is not covered.")
    assert OTHER not in route.reason
    assert "another_topic" == route.found["identities"][child]["bounce"]
    assert LEAVE_IT in route.choices


async def test_a_child_that_ses_refuses_does_not_stop_the_others(world: World, settings: Settings) -> None:
    child = await add_child(world, f"a.{name_of(world)}")

    class Picky(Ses):
        async def set_notification_topic(
            self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None
        ) -> None:
            if identity == child:
                raise Refused("Identity is paused.", code="InvalidParameterValue")
            await super().set_notification_topic(access, identity, kind, topic_arn)

    ses = Picky()
    ses.others = {child: dict(EMPTY)}
    route = await run(world, ses, settings)

    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots
    assert "configured" == route.state
    assert f"SES refused the topic on {child}: Identity is paused." in (route.reason or "")


async def test_ses_may_ask_to_wait_in_between(world: World, settings: Settings) -> None:
    """About one such call a second is taken (SES Developer Guide, quotas)."""

    class Slow(Ses):
        calls = 0

        async def set_notification_topic(
            self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None
        ) -> None:
            self.calls += 1
            if self.calls % 2 == 0:
                raise Unavailable("Rate exceeded.")
            await super().set_notification_topic(access, identity, kind, topic_arn)

    await change_route(world, state="requested")
    ses = Slow()
    route = await run(world, ses, settings)

    assert ("configured", 0) == (route.state, route.attempts)
    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots


TAKEN = f"arn:aws:sns:eu-west-1:{OWNER_ACCOUNT}:own-bounces"


async def topics_of(world: World) -> dict[str, str]:
    """State by ARN of the owner's own topics that the broker knows."""
    async with world.db.read(world.owner) as session:
        rows = await session.execute(select(Topic.arn, Topic.state).where(Topic.source == "tenant_topic"))
        return {str(arn): state for arn, state in rows}


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


async def remove(world: World, ses: Ses, settings: Settings) -> Route:
    await change_route(world, wanted=False)
    return await run(world, ses, settings)


async def drop_second(world: World) -> None:
    """The other grant on the identity has no route any more."""
    async with world.db.begin(world.owner) as session:
        other = update(Route).where(Route.grant_id == world.second_grant_id)
        await session.execute(other.values(state="removed"))


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
    handlers = {RouteKind.identity_topic: IdentityTopic(ses, OwnersTopics(ses, lambda _region: None))}
    second = (await route_of(world, world.second_grant_id)).id
    worker = world.db.as_role(Role.WORKER)

    async def work_on_second(**values: Any) -> None:
        async with world.db.begin(world.owner) as session:
            changed = update(Route).where(Route.id == second)
            await session.execute(changed.values(due_at=await _now(world), **values))
        await routes.run(worker, handlers, settings, only=[second])

    await work_on_second()
    await remove(world, ses, settings)
    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots
    await work_on_second(wanted=False)

    assert {"bounce": OTHER, "complaint": None, "delivery": None} == ses.slots


async def test_what_cannot_be_put_back_is_cleared_and_said(world: World, settings: Settings) -> None:
    await drop_second(world)

    class Strict(Ses):
        async def set_notification_topic(
            self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None
        ) -> None:
            if topic_arn == OTHER:
                raise Refused("The topic does not exist.", code="InvalidParameterValue")
            await super().set_notification_topic(access, identity, kind, topic_arn)

    ses = Strict()
    await run(world, ses, settings)
    await change_route(world, previous={name_of(world): EMPTY | {"bounce": OTHER}})
    route = await remove(world, ses, settings)

    assert ("removed", EMPTY) == (route.state, ses.slots)
    assert "could not be put back, so it is empty: The topic does not exist." in (route.reason or "")


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


async def test_a_kind_without_a_handler_is_refused_with_a_sentence(world: World, settings: Settings) -> None:
    route = await run_with(world, {}, settings)

    assert ("broken", "This installation of the broker does not set up routes of the kind identity_topic.") == (
        route.state,
        route.reason,
    )


async def test_a_route_that_is_silent_against_expectation_is_quiet(world: World, settings: Settings) -> None:
    long_ago = await _now(world) - timedelta(days=8)
    await change_route(world, configured_at=long_ago)
    route = await run(world, Ses(), settings)

    assert "quiet" == route.state
    assert "Nothing of the delegate's mail was heard since" in (route.reason or "")
    await change_route(world, live_at=await _now(world))
    assert "live" == (await run(world, Ses(dict.fromkeys(EMPTY, world.topic_arn)), settings)).state
    assert [] == await told(world, world.owner)


class Finder:
    """A handler of another kind, which finds a topic of the delegate's."""

    def __init__(self, arn: str, tenant_id: UUID) -> None:
        self.topic = TenantTopic(arn=arn, tenant_id=tenant_id, configuration_set="s", subscription_arn=f"{arn}:1")
        self.asked: list[RouteWork] = []

    async def check(self, work: RouteWork) -> Checked:
        self.asked.append(work)
        return Checked(state=RouteState.configured, topic=self.topic, previous={}, found={"set": "s"})

    async def remove(self, work: RouteWork) -> Checked:
        return Checked(state=RouteState.removed)


async def test_a_delegates_topic_is_known_as_the_delegates(world: World, settings: Settings) -> None:
    arn = f"arn:aws:sns:eu-west-1:{DELEGATE_ACCOUNT}:delegation-broker-{world.grant_id.hex}"
    finder = Finder(arn, world.delegate.tenant)
    async with world.db.begin(world.delegate) as session:
        session.add(
            Connection(
                id=new_id(),
                tenant_id=world.delegate.tenant,
                kind="role",
                account_id=DELEGATE_ACCOUNT,
                regions=["eu-west-1"],
                external_id="theirs",
                role_arn=f"arn:aws:iam::{DELEGATE_ACCOUNT}:role/SesDelegationBroker",
                state="verified",
            )
        )
    await change_route(world, kind="configuration_set")
    route = await run_with(world, {RouteKind.configuration_set: finder}, settings)
    again = await run_with(world, {RouteKind.configuration_set: finder}, settings)

    async with world.db.read(world.delegate) as session:
        topic = (await session.scalars(select(Topic).where(Topic.id == again.topic_id))).one()
    assert (arn, "tenant_topic", "confirmed", "s") == (topic.arn, topic.source, topic.state, topic.configuration_set)
    assert ("configured", {"set": "s"}) == (route.state, route.found)
    assert finder.asked[0].delegate is not None
    assert ("theirs", DELEGATE_ACCOUNT) == (finder.asked[0].delegate.external_id, finder.asked[0].delegate.account_id)
    assert arn == finder.asked[-1].topic_arn
