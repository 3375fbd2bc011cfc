"""What every move of a grant shares: locking it, asking the table, waking its identity, telling both parties."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.errors import Conflict, NotFound, PreconditionFailed
from broker.grants.events import announce
from broker.grants.lifecycle import Outcome, Party, Verb, offer_is_open, refusal
from broker.grants.models import Grant, Offer
from broker.grants.present import grant_view, names_of, party_of, standing_of, visible_to
from broker.grants.views import GrantView
from broker.policies.deny import ProtectedBy


class Found(msgspec.Struct, frozen=True):
    """A grant locked for a move, with its latest offer, the caller's side and the database's time."""

    grant: Grant
    offer: Offer
    party: Party
    now: datetime


async def find_for(
    session: AsyncSession, caller: Caller, grant_id: UUID, verb: Verb, *, expected: UUID | None = None
) -> Found:
    """Locks a grant for a move that its state and the caller's side allow; `expected` is the offer looked at."""
    row = (
        await session.execute(
            select(Grant, func.now())
            .where(Grant.id == grant_id, visible_to(caller))
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)  # it may have been read before it was locked
        )
    ).one_or_none()
    if row is None:
        raise NotFound("There is no grant with this id.")
    grant, now = row
    offer = await session.get_one(Offer, grant.latest_offer_id)
    if expected is not None and expected != offer.id:
        raise PreconditionFailed("Another offer was made since you looked; read the grant and decide on that one.")
    found = Found(grant, offer, party_of(grant, caller.tenant), now)
    why_not = refusal(verb, found.party, standing_of(grant, offer), now)
    if why_not:
        raise Conflict(why_not)
    if offer.outcome is None and not offer_is_open(standing_of(grant, offer), now):
        offer.outcome, offer.decided_at = Outcome.LAPSED, offer.lapses_at
        await session.flush()
    return found


def first_protection(grant: Grant) -> str | None:
    """What protects access that is being taken back, until a Deny was read; None where its owner does it by hand."""
    return None if grant.by_hand else ProtectedBy.reads.value


async def database_time(session: AsyncSession) -> datetime:
    """The time that everything in this transaction is compared with."""
    now: datetime = (await session.execute(select(func.now()))).scalar_one()
    return now


async def wake_identity(session: AsyncSession, identity_id: UUID, *, at: datetime | None = None) -> None:
    """Makes the identity of a grant due now. It is the owner's row, so the delegate's transactions need a function.

    `at`: since when it is due, a moment ago, where several that are woken at once have an order.
    """
    await session.flush()
    await session.execute(text("SELECT wake_identity(:id, coalesce(:at, now()))"), {"id": identity_id, "at": at})
    session.info.setdefault("woken", {}).setdefault("identities", set()).add(identity_id)


# One round trip for any number of grants; in the order of ids, as whoever else locks several routes.
_WAKE_ROUTES = text(
    """
    WITH there AS (
      SELECT id FROM routes WHERE grant_id = ANY (:ids) AND state <> 'removed' ORDER BY id FOR UPDATE
    )
    UPDATE routes r SET due_at = now() FROM there WHERE r.id = there.id RETURNING r.id
    """
)


async def wake_routes(session: AsyncSession, grants: Sequence[Grant]) -> None:
    """Makes the feedback routes of grants that end due now: what tells somebody of all the identity's mail has to go.

    Before the identity is woken and before anybody is told: grants, routes, identity, lanes. A route that only brings
    its parties the bounces of their last mail stays (`broker.feedback.handling.Handler.check`).
    """
    woken = await session.scalars(_WAKE_ROUTES, {"ids": [grant.id for grant in grants]})
    session.info.setdefault("woken", {}).setdefault("routes", set()).update(woken)


async def watch_identity(session: AsyncSession, identity_id: UUID, *, until: datetime) -> None:
    """Makes the identity due when an offer lapses. Nothing to do before: an offer alone changes nothing in SES."""
    await session.flush()
    await session.execute(text("SELECT wake_identity(:id, :until)"), {"id": identity_id, "until": until})


async def note(session: AsyncSession, caller: Caller, what: str, grant: Grant, **details: Any) -> None:
    """The audit row and the event of one move, in its transaction."""
    other = grant.delegate_id if caller.tenant == grant.owner_id else grant.owner_id
    await record(session, caller, f"grant.{what}", subject=("grant", grant.id), counterpart_id=other, **details)
    await announce(session, f"grant.{what}", grant, **details)


async def shown(session: AsyncSession, caller: Caller, grant: Grant, offer: Offer, now: datetime) -> GrantView:
    """The grant as the caller sees it after its move."""
    await session.flush()
    names = await names_of(session, {grant.owner_id, grant.delegate_id})
    return grant_view(grant, offer, caller, names=names, now=now)
