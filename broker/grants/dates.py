"""What the clock does to grants and offers, and when it does so next."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Function, Interval, func, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.audit.service import record
from broker.caller import Caller
from broker.grants.events import announce
from broker.grants.lifecycle import LIVE, Effect, Outcome, Paper
from broker.grants.models import Grant, Offer
from broker.grants.moves import wake_routes


async def next_date(session: AsyncSession, identity_id: UUID, *, at_most: timedelta) -> timedelta | None:
    """How long until the clock or a routine check asks for the next sync; None when nothing is left to watch."""
    grants = (
        await session.execute(
            select(
                func.count(),
                _from_now(_soonest(Grant.expires_at)),
                _from_now(_soonest(Grant.not_before).filter(Grant.not_before > func.now())),
            ).where(Grant.identity_id == identity_id, Grant.paper.in_(LIVE))
        )
    ).one()
    lapse = (
        await session.execute(
            select(_from_now(_soonest(Offer.lapses_at)))
            .join(Grant, Grant.id == Offer.grant_id)
            .where(Grant.identity_id == identity_id, Offer.outcome.is_(None))
        )
    ).scalar_one()
    dates = [date for date in (grants[1], grants[2], lapse) if date is not None]
    if grants[0]:
        dates.append(at_most)
    return max(timedelta(0), min(dates)) if dates else None


def _soonest(column: InstrumentedAttribute[Any]) -> Function[Any]:
    return func.min(column)


def _from_now(date: ColumnElement[Any]) -> ColumnElement[timedelta | None]:
    return type_coerce(date - func.now(), Interval())


async def lapse(session: AsyncSession, caller: Caller, identity_id: UUID, now: datetime) -> None:
    """Closes the offers on an identity whose time is over."""
    rows = (
        await session.execute(
            select(Grant, Offer)
            .join(Offer, Offer.id == Grant.latest_offer_id)
            .where(Grant.identity_id == identity_id, Offer.outcome.is_(None), Offer.lapses_at <= now)
            .with_for_update(key_share=True)
        )
    ).all()
    for grant, offer in rows:
        offer.outcome, offer.decided_at = Outcome.LAPSED, offer.lapses_at
        if grant.paper is Paper.OPEN:
            grant.paper = Paper.LAPSED
        grant.version += 1
        await _note(session, caller, "grant.lapsed", grant)


async def expire(session: AsyncSession, caller: Caller, grant: Grant) -> None:
    """Ends the paper of a grant whose date has come."""
    grant.paper, grant.effect, grant.ended_at = Paper.EXPIRED, Effect.REMOVING, grant.expires_at
    grant.removed_at = grant.verified_at = grant.stuck_at = None
    # Its date is in the policy: nothing can bring it back.
    grant.protected_by = grant.protection = grant.sealed_at = None
    grant.version += 1
    await session.execute(
        update(Offer)
        .where(Offer.grant_id == grant.id, Offer.outcome.is_(None))
        .values(outcome=Outcome.VOIDED, decided_at=func.now())
    )
    await wake_routes(session, [grant])
    await record(session, caller, "grant.ended_by_date", subject=("grant", grant.id), counterpart_id=grant.delegate_id)


async def _note(session: AsyncSession, caller: Caller, what: str, grant: Grant) -> None:
    await record(session, caller, what, subject=("grant", grant.id), counterpart_id=grant.delegate_id)
    await announce(session, what, grant)
