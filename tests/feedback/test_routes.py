"""The due loop of routes: what a check found is written down, told once, and looked at again."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, text

from broker.connections.models import Connection
from broker.errors import Refused, Unavailable
from broker.feedback import routes
from broker.feedback.handling import Checked, RouteWork, TenantTopic
from broker.feedback.models import Topic
from broker.feedback.views import RouteKind, RouteState
from broker.ids import new_id
from broker.settings import Settings
from tests.feedback.conftest import ChangeGrant, World
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.feedback.owners import EMPTY, OTHER, Ses, change_route, now_of, run, run_with, told
from tests.feedback.sns import NOW


async def test_a_route_that_was_heard_is_live(world: World, settings: Settings) -> None:
    await change_route(world, live_at=NOW)

    assert "live" == (await run(world, Ses(), settings)).state


async def test_what_ses_refuses_is_the_reason(world: World, settings: Settings) -> None:
    route = await run(world, Ses(error=Refused("Not authorized to publish.", code="InvalidParameterValue")), settings)

    said = "AWS refused a call in the owner's account (InvalidParameterValue). The owner reads in `found` what it said."
    assert ("broken", said, 1) == (route.state, route.reason, route.attempts)
    assert "Not authorized to publish." == route.found["refused"]
    assert route.due_at is not None


async def test_trouble_that_passes_changes_no_state(world: World, settings: Settings) -> None:
    route = await run(world, Ses(error=Unavailable("SES is slow.")), settings)

    assert ("configured", 1) == (route.state, route.attempts)
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


async def test_what_cannot_be_put_back_is_told_once_while_it_stays_broken(world: World, settings: Settings) -> None:
    ses = Ses()
    await run(world, ses, settings)
    ses.slots = dict(EMPTY)
    ses.error = Refused("Not authorized to publish.", code="InvalidParameterValue")
    for _ in range(3):
        route = await run(world, ses, settings)
    ses.error = None
    mended = await run(world, ses, settings)

    assert ("broken", "Not authorized to publish.") == (route.state, route.found["refused"])
    assert "refused" not in mended.found
    assert ["connection.degraded"] == [type_ for type_, _ in await told(world, world.delegate)]
    assert "configured" == mended.state


async def test_a_second_drop_is_a_second_event(world: World, settings: Settings) -> None:
    ses = Ses()
    for _ in range(2):
        await run(world, ses, settings)
        ses.slots["bounce"] = None
        await run(world, ses, settings)

    assert 2 == len(await told(world, world.owner))


async def test_a_kind_without_a_handler_is_refused_with_a_sentence(world: World, settings: Settings) -> None:
    route = await run_with(world, {}, settings)

    assert ("broken", "This installation of the broker does not set up routes of the kind identity_topic.") == (
        route.state,
        route.reason,
    )


async def test_a_route_that_is_silent_against_expectation_is_quiet(world: World, settings: Settings) -> None:
    long_ago = await now_of(world) - timedelta(days=8)
    await change_route(world, configured_at=long_ago)
    route = await run(world, Ses(), settings)

    assert "quiet" == route.state
    assert "Nothing of the delegate's mail was heard since" in (route.reason or "")
    await change_route(world, live_at=await now_of(world))
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
                roles=["delegate"],
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


async def test_a_kind_may_end_with_its_grant(world: World, settings: Settings, change_grant: ChangeGrant) -> None:
    class Ending(Finder):
        async def check(self, work: RouteWork) -> Checked:
            assert work.ended
            return Checked(state=RouteState.removed, reason="The grant has ended.")

    await change_grant(ended_at=NOW)
    await change_route(world, kind="foreign_topic")
    handlers = {RouteKind.foreign_topic: Ending("arn:t", world.delegate.tenant)}
    route = await run_with(world, handlers, settings)

    assert ("removed", "The grant has ended.", None) == (route.state, route.reason, route.due_at)


def test_routes_are_looked_at_at_times_of_their_own_and_never_later_than_was_said() -> None:
    every = timedelta(minutes=15)
    gaps = [routes.spread(new_id(), every) for _ in range(200)]

    assert all(every * 0.75 <= gap <= every for gap in gaps)
    assert len(set(gaps)) > 100
