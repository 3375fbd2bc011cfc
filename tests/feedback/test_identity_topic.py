"""The identities' notification slots: set where empty, put back when SES dropped them, children included."""

import pytest
from sqlalchemy import update

from broker.aws_access import RoleAccess
from broker.connections.models import Connection
from broker.errors import Refused, Unavailable
from broker.feedback.models import Topic
from broker.feedback.slots import LEAVE_IT, Plan, plan
from broker.settings import Settings
from tests.feedback.conftest import ChangeGrant, World
from tests.feedback.examples import OWNER_ACCOUNT
from tests.feedback.owners import EMPTY, OTHER, Ses, add_child, change_route, name_of, run, told


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


async def test_a_slot_that_ses_dropped_is_put_back(world: World, settings: Settings) -> None:
    ses = Ses()
    await run(world, ses, settings)
    ses.slots["complaint"] = None
    await run(world, ses, settings)

    assert ["bounce", "complaint", "delivery", "complaint"] == ses.set
    assert dict.fromkeys(EMPTY, world.topic_arn) == ses.slots


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
    assert route.reason.startswith(f"Partial: mail from one identity beneath {name_of(world)} is not covered.")
    assert child not in f"{route.reason} {route.choices}"
    assert f"The bounce notifications of {child} go to another topic" in route.found["not_covered"][child]
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
    assert {child: "Identity is paused."} == route.found["not_covered"]


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


async def test_the_delegate_is_not_told_the_names_of_the_owners_other_identities(
    world: World, settings: Settings
) -> None:
    """Both parties read a route's reason and its events; `found` is for the owner alone."""
    boss = await add_child(world, f"boss@{name_of(world)}")
    news = await add_child(world, f"news.{name_of(world)}")

    class Picky(Ses):
        async def set_notification_topic(
            self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None
        ) -> None:
            if identity == boss:
                raise Refused(f"Identity <{boss}> does not exist.", code="InvalidParameterValue")
            await super().set_notification_topic(access, identity, kind, topic_arn)

    ses = Picky()
    ses.others = {boss: dict(EMPTY), news: dict(EMPTY)}
    refused = await run(world, ses, settings)
    ses.others[news]["bounce"] = None
    await run(world, ses, settings)

    assert f"SES refused the topic on one identity beneath {name_of(world)}." in (refused.reason or "")
    assert {boss: f"Identity <{boss}> does not exist."} == refused.found["not_covered"]
    ((_, reason),) = await told(world, world.delegate)
    assert f"SES no longer sends the bounce notifications of one identity beneath {name_of(world)}" in reason
    assert not [name for name in (boss, news) if name in f"{refused.reason} {reason}"]
