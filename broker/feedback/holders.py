"""Which routes want the notification slots of one identity, and who holds a slot. An identity has one for each kind."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.feedback.foreign_terms import Agreed, agreed
from broker.feedback.models import Route, Topic
from broker.feedback.notification_settings import Notifications, listed
from broker.feedback.slots import KINDS
from broker.grants.models import Grant
from broker.identities.models import Identity


class Holder(StrEnum):
    """Who holds a slot, as far as both parties may be told: no ARN, no tenant."""

    NOBODY = "nobody"
    THIS_ROUTE = "this_route"
    BROKER = "broker"
    ANOTHER_ROUTE = "another_route"
    OWNER = "owner"


_WORDS = {
    Holder.BROKER: "the broker's own topic (a route of the kind identity_topic)",
    Holder.ANOTHER_ROUTE: "a topic of another sender, which the owner approved",
    Holder.OWNER: "a topic that the owner has set itself",
}


class Rival(msgspec.Struct, frozen=True):
    """Another route of the same identity. `topics` by kind; `alive`: it is to be kept; `decided_at`: the owner's."""

    id: UUID
    foreign: bool
    alive: bool
    topics: Mapping[str, str]
    decided_at: datetime | None = None
    replaces: bool = False


async def rivals(session: AsyncSession, *, identity_id: UUID, besides: UUID) -> tuple[Rival, ...]:
    """Runs as the owner, who is a party to every route of the identity; removed ones are among them."""
    ours = (
        (Topic.source == "broker_topic")
        & (Topic.connection_id == Identity.connection_id)
        & (Topic.region == Identity.region)
    )
    query = (
        select(Route, Topic.arn, Grant.ended_at)
        .join(Grant, Grant.id == Route.grant_id)
        .join(Identity, Identity.id == Route.identity_id)
        .outerjoin(Topic, ours)
        .where(
            Route.identity_id == identity_id,
            Route.kind.in_(("identity_topic", "foreign_topic")),
            Route.id != besides,
        )
        .order_by(Route.id)
    )
    rows = (await session.execute(query)).all()
    return tuple(_rival(route, arn, ended=ended_at is not None) for route, arn, ended_at in rows)


def _rival(route: Route, arn: str | None, *, ended: bool) -> Rival:
    """`arn` is that of the broker's topic for the identity."""
    kept = route.wanted and route.state != "removed"
    if route.kind == "identity_topic":
        # An ended grant's route still brings the bounces of its last mail.
        return Rival(route.id, foreign=False, alive=kept, topics=dict.fromkeys(KINDS, arn) if arn else {})
    asked: Agreed = agreed(route.settings)
    return Rival(
        route.id,
        foreign=True,
        alive=kept and not ended and asked.decision is not None,
        topics={kind: slot.topic for kind, slot in asked.wanted.items() if slot.topic},
        decided_at=asked.decision.at if asked.decision else None,
        replaces=bool(asked.decision and asked.decision.replace),
    )


def holder(kind: str, topic: str | None, *, mine: str | None, others: Iterable[Rival]) -> Holder:
    """Whose the topic in a slot is; what belongs to no route was set by the owner."""
    if not topic:
        return Holder.NOBODY
    if topic == mine:
        return Holder.THIS_ROUTE
    for rival in others:
        if rival.topics.get(kind) == topic:
            return Holder.ANOTHER_ROUTE if rival.foreign else Holder.BROKER
    return Holder.OWNER


def holders(asked: Agreed, now: Notifications, others: tuple[Rival, ...]) -> dict[str, Holder]:
    """Of each slot that is asked for."""
    return {kind: holder(kind, now.topic(kind), mine=slot.topic, others=others) for kind, slot in asked.wanted.items()}


def promised(asked: Agreed, others: Iterable[Rival]) -> dict[str, Holder]:
    """Slots that another delegate's approved route asks for, whether or not SES holds its topic yet."""
    return {
        kind: Holder.ANOTHER_ROUTE
        for kind, slot in asked.wanted.items()
        if any(each.foreign and each.alive and each.topics.get(kind) not in {None, slot.topic} for each in others)
    }


def given_away(asked: Agreed, others: Iterable[Rival]) -> frozenset[str]:
    """Slots that the owner gave to another route after it gave them to this one; they come back when that one goes."""
    mine = asked.decision
    return frozenset(
        kind
        for kind, slot in asked.wanted.items()
        for each in others
        if mine and each.foreign and each.alive and each.replaces and each.decided_at and each.decided_at > mine.at
        if each.topics.get(kind) not in {None, slot.topic}
    )


def conflict(identity: str, held: Mapping[str, Holder]) -> str | None:
    """Which slots are taken and by what, None when none is. Both parties read it."""
    taken = [
        f"the {listed(tuple(kind for kind in held if held[kind] is who))} notifications go to {words}"
        for who, words in _WORDS.items()
        if who in held.values()
    ]
    if not taken:
        return None
    return f"SES has one topic for each kind of notification of {identity}: {'; '.join(taken)}."


def to_put_back(kind: str, before: str | None, others: Iterable[Rival]) -> str | None:
    """The topic that a slot is given when ours goes: what was there, unless its route or its grant has gone since."""
    of_routes = [each for each in others if before and each.topics.get(kind) == before]
    return before if not of_routes or any(each.alive for each in of_routes) else None
