"""An owner's SES and SNS as the gateways show them, and what tests of its routes share."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from sqlalchemy import select, text, update

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.db import Role
from broker.errors import Refused
from broker.feedback import routes
from broker.feedback.handling import Checked, Handler, RouteWork, Unfinished
from broker.feedback.identity_topic import IdentityTopic
from broker.feedback.models import Route, Topic
from broker.feedback.other_routes import OtherRoutes
from broker.feedback.owners_topics import OwnersTopics
from broker.feedback.set_gateways import Subscription
from broker.feedback.views import RouteKind
from broker.identities.models import Identity
from broker.ids import new_id
from broker.settings import Settings
from tests.feedback.conftest import World, route_of
from tests.feedback.examples import OWNER_ACCOUNT

OTHER = "arn:aws:sns:eu-west-1:111111111111:own-bounces"
PUBLIC = "https://broker.example.com/v1/feedback/sns"
EMPTY: dict[str, str | None] = {"bounce": None, "complaint": None, "delivery": None}


class Ses:
    """An identity's slots and an owner's topics, as the gateway shows them.

    `slots`: of the grant's identity; `others`: of further identities, by name. `topics`: attributes of the owner's
    topics. `confirmed`: whether SNS has confirmed our subscriptions. `queue`: what comes of the broker's subscribing
    itself; None: the topics do not let it.
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
        self.queue: Subscription | None = None

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


class AsBroker:
    """Subscribes with the broker's own credentials."""

    def __init__(self, ses: Ses) -> None:
        self._ses = ses

    async def subscribe(self, topic_arn: str) -> Subscription:
        if self._ses.queue is None:
            raise Refused("Not authorized to perform sns:Subscribe.", code="AuthorizationError")
        return self._ses.queue


async def run(world: World, ses: Ses, settings: Settings) -> Route:
    """Makes the first grant's route due, works on it until there is nothing more to do at once, and shows it."""
    return await run_with(world, handlers_of(world, ses), settings)


def handlers_of(
    world: World, ses: Ses, *, where: tuple[str, str] | None = ("https", PUBLIC)
) -> Mapping[RouteKind, Handler]:
    """The handlers of a broker that is reached at `where`, as SNS names it."""
    topics = OwnersTopics(ses, lambda _region: where, AsBroker(ses), lambda _region: ses.queue is not None)
    return {RouteKind.identity_topic: IdentityTopic(ses, topics, OtherRoutes(world.db.as_role(Role.WORKER)))}


class _Watched:
    """A handler, and whether there is more to do at once."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.unfinished = False

    async def check(self, work: RouteWork) -> Checked:
        return await self._watch(self._handler.check(work))

    async def remove(self, work: RouteWork) -> Checked:
        return await self._watch(self._handler.remove(work))

    async def _watch(self, turn: Awaitable[Checked]) -> Checked:
        self.unfinished = False
        try:
            checked = await turn
        except Unfinished:
            self.unfinished = True
            raise
        self.unfinished = checked.unfinished
        return checked


async def run_with(world: World, handlers: Mapping[RouteKind, Handler], settings: Settings) -> Route:
    watched = {kind: _Watched(handler) for kind, handler in handlers.items()}
    for _ in range(3):
        await change_route(world, due_at=await now_of(world))
        mine = [(await route_of(world, world.grant_id)).id]
        assert 1 == await routes.run(world.db.as_role(Role.WORKER), watched, settings, only=mine)
        if not any(handler.unfinished for handler in watched.values()):
            break
    return await route_of(world, world.grant_id)


async def now_of(world: World) -> Any:
    async with world.db.read(world.owner) as session:
        return (await session.scalars(text("SELECT now()"))).one()


async def change_route(world: World, **values: Any) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(**values))


def name_of(world: World) -> str:
    """The name of the grant's identity."""
    return world.identity_arn.rpartition("/")[2]


async def told(world: World, caller: Caller) -> list[tuple[str, str]]:
    """Type and reason of the events that are about a route."""
    return [(event.type, event.data["reason"]) for event in await world.events(caller) if "route_id" in event.data]


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


TAKEN = f"arn:aws:sns:eu-west-1:{OWNER_ACCOUNT}:own-bounces"


async def topics_of(world: World) -> dict[str, str]:
    """State by ARN of the owner's own topics that the broker knows."""
    async with world.db.read(world.owner) as session:
        rows = await session.execute(select(Topic.arn, Topic.state).where(Topic.source == "tenant_topic"))
        return {str(arn): state for arn, state in rows}


async def remove(world: World, ses: Ses, settings: Settings) -> Route:
    await change_route(world, wanted=False)
    return await run(world, ses, settings)


async def know_topic(world: World, caller: Caller, **values: Any) -> None:
    """The owner's topic is known already, as something else."""
    async with world.db.begin(caller) as session:
        given = {"arn": TAKEN, "region": "eu-west-1", "accounts": [OWNER_ACCOUNT], "subscription_arn": f"{TAKEN}:9"}
        session.add(
            Topic(id=new_id(), tenant_id=caller.tenant, source="tenant_topic", state="confirmed", **given, **values)
        )


async def drop_second(world: World) -> None:
    """The other grant on the identity has no route any more."""
    async with world.db.begin(world.owner) as session:
        other = update(Route).where(Route.grant_id == world.second_grant_id)
        await session.execute(other.values(state="removed"))
