"""Writes down what a check of a route found: its state, its topics, the audit row, and the event where it got worse."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.feedback import slots
from broker.feedback.handling import Checked, TenantTopic
from broker.feedback.kinds import KINDS
from broker.feedback.loading import REFUSED, Loaded
from broker.feedback.models import Route, Topic
from broker.feedback.states import WORKING, Heard, degrades, shown
from broker.feedback.topics import lose
from broker.feedback.views import RouteKind, RouteState
from broker.ids import new_id
from broker.webhooks.events import Event, View
from broker.webhooks.fanout import publish


async def write(
    session: AsyncSession, caller: Caller, loaded: Loaded, found: Checked, *, quiet_after: timedelta
) -> None:
    """In the transaction that settles the work: nothing of it is kept when another worker has taken over.

    Topics are locked before the route, as by whoever confirms a topic and wakes its routes.
    """
    ids = await _know(session, caller, loaded, found)
    query = select(Route, func.now()).where(Route.id == loaded.work.id).with_for_update()
    route, now = (await session.execute(query)).one()
    route.topic_id = _serving(route, loaded, found, ids)
    if found.previous is not None:
        route.previous = dict(found.previous)
    seen = loaded.work.found if found.found is None else found.found
    route.found = dict(seen) | ({REFUSED: found.refused} if found.refused else {})
    unknown = sorted(arn for arn, topic_id in ids.items() if topic_id is None)
    if unknown:
        route.found = {**route.found, "unknown": unknown}
    route.durable, hints = await _durable(session, route, loaded, found, ids)
    route.choices = [*found.choices, *(hint for hint in hints if found.state in WORKING)]
    was_set = route.configured_at is not None
    route.configured_at = (route.configured_at or now) if found.state in WORKING else None
    state, why_quiet = found.state, None
    if KINDS[loaded.work.kind].heard:
        state, why_quiet = shown(found.state, _heard(route, loaded, now), now=now, quiet_after=quiet_after)
    await _change(session, caller, route, (state, why_quiet or found.reason), was_set=was_set, now=now)
    if found.forget:
        await _forget(session, route, found.forget)


def _heard(route: Route, loaded: Loaded, now: datetime) -> Heard:
    times = [at for at in (route.live_at, route.heard_at) if at is not None]
    return Heard(since=route.configured_at or now, last=max(times, default=None), elsewhere=loaded.elsewhere)


async def _change(
    session: AsyncSession,
    caller: Caller,
    route: Route,
    after: tuple[RouteState, str | None],
    *,
    was_set: bool,
    now: datetime,
) -> None:
    before, (state, reason) = RouteState(route.state), after
    if (before, route.reason) == after:
        return
    route.state, route.reason = state, reason
    await session.flush()
    told = {"reason": reason} if reason else {}
    other = route.delegate_id if caller.tenant == route.tenant_id else route.tenant_id
    await record(session, caller, f"route.{state}", subject=("route", route.id), counterpart_id=other, **told)
    if degrades(before, state, was_set=was_set or route.previous is not None):
        await record(session, caller, "connection.degraded", subject=("route", route.id), counterpart_id=other, **told)
        await publish(session, [_event(route, now)])


def _event(route: Route, now: datetime) -> Event:
    event_id = new_id()
    return Event(
        id=event_id,
        at=now,
        type="connection.degraded",
        source="broker",
        owner_id=route.tenant_id,
        delegate_id=route.delegate_id,
        grant_id=route.grant_id,
        owner_view=View.FULL,
        delegate_view=View.FULL,
        data={
            "event_id": str(event_id),
            "route_id": str(route.id),
            "grant_id": str(route.grant_id),
            "kind": route.kind,
            "state": route.state,
            "reason": route.reason,
            "choices": route.choices,
        },
    )


async def _know(session: AsyncSession, caller: Caller, loaded: Loaded, found: Checked) -> dict[str, UUID | None]:
    """Knows these topics from now on: their ids by ARN."""
    topics = {topic.arn: topic for topic in (*found.more_topics, *((found.topic,) if found.topic else ()))}
    if found.forget:
        going = select(Topic.id).where(Topic.tenant_id == loaded.work.owner_id, Topic.arn.in_(found.forget))
        await session.execute(going.order_by(Topic.arn).with_for_update())
    return {arn: await _remember(session, caller, topics[arn], region=loaded.work.region) for arn in sorted(topics)}


def _serving(route: Route, loaded: Loaded, found: Checked, ids: dict[str, UUID | None]) -> UUID | None:
    """The topic that the route is heard by."""
    if found.state is RouteState.removed:
        return None
    if found.topic is not None and (topic_id := ids[found.topic.arn]) is not None:
        return topic_id
    if route.kind == RouteKind.identity_topic:
        return loaded.broker_topic_id or route.topic_id
    return route.topic_id


async def _durable(
    session: AsyncSession, route: Route, loaded: Loaded, found: Checked, ids: dict[str, UUID | None]
) -> tuple[bool | None, tuple[str, ...]]:
    """Whether none of its topics loses anything while we are away, and what can be done about those that do.

    As it was, where the topics cannot be seen by whom this is written; None where nothing comes to us this way.
    """
    if not KINDS[loaded.work.kind].heard or route.topic_id is None:
        return None, ()
    through = {route.topic_id, *ids.values()}
    identities = route.found.get("identities", {}).values()
    if loaded.broker_topic_id is not None and any("ours" in each.values() for each in identities):
        through.add(loaded.broker_topic_id)
    some = [each for each in through if each is not None]
    topics = (await session.scalars(select(Topic).where(Topic.id.in_(some)))).all()
    if not topics:
        return route.durable, ()
    losing = [topic for topic in topics if not topic.durable]
    ours = {topic.arn for topic in found.more_topics if topic.by_broker}
    hints = {slots.ADMIT_BROKER if _is_owners(topic) and topic.arn not in ours else slots.KEEP_ALL for topic in losing}
    return not losing, tuple(sorted(hints))


def _is_owners(topic: Topic) -> bool:
    return topic.source == "tenant_topic" and topic.configuration_set is None


async def _remember(session: AsyncSession, caller: Caller, topic: TenantTopic, *, region: str) -> UUID | None:
    """The id of a tenant's topic, None when its ARN is another tenant's already or is known in another role."""
    confirmed = topic.subscription_arn is not None
    fresh = insert(Topic).values(
        id=new_id(),
        tenant_id=topic.tenant_id,
        arn=topic.arn,
        region=region,
        accounts=[topic.arn.split(":")[4]],
        source="tenant_topic",
        configuration_set=topic.configuration_set,
        state="confirmed" if confirmed else "pending",
        subscription_arn=topic.subscription_arn,
        protocol=topic.protocol,
        durable=topic.durable,
    )
    await session.execute(fresh.on_conflict_do_nothing())
    mine = (Topic.arn == topic.arn, Topic.tenant_id == topic.tenant_id, Topic.source == "tenant_topic")
    # The topic of a configuration set is trusted for other mail than one that an owner's slot holds, and the other
    # way round; it is in the hands of another route.
    of_set = Topic.configuration_set.is_not(None)
    same_role = of_set if topic.configuration_set is not None else ~of_set
    row = (await session.scalars(select(Topic).where(*mine, same_role).with_for_update(key_share=True))).one_or_none()
    if row is not None and confirmed:
        row.state, row.reason, row.subscription_arn = "confirmed", None, topic.subscription_arn
        row.protocol, row.durable = topic.protocol, topic.durable
    elif row is not None and row.state == "confirmed":
        await lose(session, caller, row, "SNS no longer has the subscription; it was asked for again.")
    return row.id if row is not None else None


async def _forget(session: AsyncSession, route: Route, arns: tuple[str, ...]) -> None:
    """What no route comes through any more; its messages are those of an unknown topic then."""
    await session.flush()
    used = select(Route.topic_id).where(Route.tenant_id == route.tenant_id, Route.topic_id.is_not(None))
    mine = (Topic.tenant_id == route.tenant_id, Topic.source == "tenant_topic", Topic.configuration_set.is_(None))
    await session.execute(delete(Topic).where(*mine, Topic.arn.in_(arns), Topic.id.not_in(used)))
