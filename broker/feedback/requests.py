"""Asks for the route of a grant when it has become active, and has its routes looked at when it has ended."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker.due import wake
from broker.feedback.models import Route, Topic
from broker.grants.models import Grant
from broker.identities.models import Identity
from broker.ids import new_id
from broker.policies.arns import parse_identity_arn


async def activated(session: AsyncSession, grant: Grant) -> None:
    """What a grant needs on becoming active: its route, unless the owner has removed it before.

    Fits `broker.grants.hooks.Hook`.
    """
    made = select(Route.wanted, Route.state).where(Route.grant_id == grant.id, Route.kind == "identity_topic")
    before = (await session.execute(made)).all()
    if before and not any(row.wanted and row.state != "removed" for row in before):
        return
    arn = parse_identity_arn(grant.identity_arn)
    await request_route(
        session,
        grant_id=grant.id,
        owner_id=grant.owner_id,
        delegate_id=grant.delegate_id,
        identity_id=grant.identity_id,
        region=arn.region,
        account_id=arn.account_id,
    )


async def ended(session: AsyncSession, grant: Grant) -> None:
    """Has every route of an ended grant looked at now: one that tells of all the identity's mail has to go.

    Fits `broker.grants.hooks.Hook`. In the order of ids, as nobody else locks several.
    """
    there = select(Route).where(Route.grant_id == grant.id, Route.state != "removed").order_by(Route.id)
    for route in await session.scalars(there.with_for_update()):
        wake(session, route)
    await session.flush()


async def request_route(
    session: AsyncSession,
    *,
    grant_id: UUID,
    owner_id: UUID,
    delegate_id: UUID,
    identity_id: UUID,
    region: str,
    account_id: str,
) -> None:
    """Makes the `identity_topic` route of this grant, and its connection's topic if that has none in the Region.

    Wakes both. Runs as the owner. Asking again makes them look again. `account_id` is the identity's account, which the
    topic's policy has to admit.
    """
    connection_id = await _connection(session, identity_id)
    topic = await _topic(session, owner_id, connection_id=connection_id, region=region, account_id=account_id)
    fresh = insert(Route).values(
        id=new_id(),
        tenant_id=owner_id,
        delegate_id=delegate_id,
        grant_id=grant_id,
        identity_id=identity_id,
        kind="identity_topic",
        topic_id=topic.id,
        state="requested",
    )
    await session.execute(fresh.on_conflict_do_nothing())
    mine = (Route.grant_id == grant_id, Route.kind == "identity_topic", Route.state != "removed")
    route = await session.scalars(select(Route).where(*mine))
    wake(session, route.one())


async def topic_for(session: AsyncSession, grant: Grant) -> Topic:
    """The topic of the connection and Region of a grant's identity, made if there is none. Runs as the owner."""
    arn = parse_identity_arn(grant.identity_arn)
    connection_id = await _connection(session, grant.identity_id)
    return await _topic(
        session, grant.owner_id, connection_id=connection_id, region=arn.region, account_id=arn.account_id
    )


async def _connection(session: AsyncSession, identity_id: UUID) -> UUID:
    connection_id = await session.scalar(select(Identity.connection_id).where(Identity.id == identity_id))
    if connection_id is None:
        raise LookupError(f"There is no identity {identity_id}.")
    return connection_id


async def _topic(session: AsyncSession, owner_id: UUID, *, connection_id: UUID, region: str, account_id: str) -> Topic:
    fresh = insert(Topic).values(
        id=new_id(),
        tenant_id=owner_id,
        connection_id=connection_id,
        region=region,
        source="broker_topic",
        state="pending",
        accounts=[account_id],
    )
    await session.execute(fresh.on_conflict_do_nothing())
    mine = (Topic.connection_id == connection_id, Topic.region == region, Topic.source == "broker_topic")
    topic = (await session.scalars(select(Topic).where(*mine).with_for_update(key_share=True))).one()
    if topic.state != "confirmed":
        wake(session, topic)
    return topic
