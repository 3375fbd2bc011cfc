"""Removing a connection: what stands in the way, and what goes with it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.connections.models import Connection
from broker.errors import Conflict
from broker.grants.events import announce
from broker.grants.lifecycle import ENDED, LIVE, Effect, Outcome, Paper, Party
from broker.grants.models import Grant, Offer
from broker.grants.present import terms_of
from broker.identities.models import Identity
from broker.identities.service import retire
from broker.policies.arns import principal_account


async def release(session: AsyncSession, connection_id: UUID) -> None:
    """Retires the connection's identities, so that they are no longer listed and the ARNs are free again.

    Raises `Conflict` while a grant is live or not proven to be gone, on an identity of this connection or for a sender
    in its account: without the connection nobody could say that access has ended, and whoever proved the account next
    would send under that grant. Open offers hold nobody, since anybody can make one: they are closed.
    """
    connection = await session.get_one(Connection, connection_id)
    # Before it is looked whether a grant is live: whoever is about to agree to one has it locked, and is waited for.
    offers = await _lock_offers(session, connection)
    await _lock_identities(session, connection)
    held = await _grants_on(session, connection_id) + await _grants_to(session, connection)
    if held:
        grants = "1 grant needs" if held == 1 else f"{held} grants need"
        raise Conflict(f"{grants} this connection; end them first, and wait until their removal is verified.")
    await retire(session, connection_id)
    await _close_offers(session, connection, offers)


def _in_effect() -> ColumnElement[bool]:
    return or_(Grant.paper.in_(LIVE), Grant.paper.in_(ENDED) & (Grant.effect != Effect.REMOVED))


async def _grants_on(session: AsyncSession, connection_id: UUID) -> int:
    """How many rest on the connection's identities."""
    query = (
        select(func.count())
        .select_from(Grant)
        .join(Identity, Identity.id == Grant.identity_id)
        .where(Identity.connection_id == connection_id, _in_effect())
    )
    return await session.scalar(query) or 0


async def _grants_to(session: AsyncSession, connection: Connection) -> int:
    """How many let the connection's account send. `accounts` also names those of earlier terms, so terms decide."""
    query = select(Grant.terms).where(
        Grant.delegate_id == connection.tenant_id, Grant.accounts.contains([connection.account_id]), _in_effect()
    )
    found = [terms_of(stored) for stored in await session.scalars(query) if stored]
    return sum(connection.account_id in map(principal_account, terms.principals) for terms in found)


async def _lock_offers(session: AsyncSession, connection: Connection) -> Sequence[Row[Grant, Offer, datetime]]:
    """Open proposals about the connection's identities, none of which anybody decides meanwhile."""
    query = (
        select(Grant, Offer, func.now())
        .join(Identity, Identity.id == Grant.identity_id)
        .join(Offer, Offer.id == Grant.latest_offer_id)
        .where(Identity.connection_id == connection.id, Grant.paper == Paper.OPEN)
        .order_by(Grant.id)
        .with_for_update(of=Grant)
    )
    return (await session.execute(query)).all()


async def _lock_identities(session: AsyncSession, connection: Connection) -> None:
    """After the grants, as everybody: who agrees to a grant that is newer than this looks for its identity again."""
    query = select(Identity.id).where(Identity.connection_id == connection.id).order_by(Identity.id)
    await session.execute(query.with_for_update(key_share=True))


async def _close_offers(
    session: AsyncSession, connection: Connection, offers: Sequence[Row[Grant, Offer, datetime]]
) -> None:
    """They end as if the owner had decided each of them."""
    caller = Caller.system(connection.tenant_id, job="release")
    for grant, offer, now in offers:
        own = offer.made_by == Party.OWNER.value
        offer.outcome, offer.decided_at = Outcome.VOIDED, now
        grant.paper = Paper.WITHDRAWN if own else Paper.DECLINED
        grant.version += 1
        what, note = f"grant.{grant.paper.value}", "The owner has disconnected the account of this identity."
        await record(session, caller, what, subject=("grant", grant.id), counterpart_id=grant.delegate_id, note=note)
        await announce(session, what, grant, note=note)
