"""Negotiation: proposing, approving, countering, declining, withdrawing and amending."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.db import Database
from broker.grants import demands
from broker.grants.lifecycle import MOVES, Effect, Outcome, Paper, Party, Verb
from broker.grants.models import Grant, Offer
from broker.grants.moves import Found, database_time, find_for, note, shown, wake_identity, watch_identity
from broker.grants.present import party_of, terms_of
from broker.grants.room import find_slot
from broker.grants.views import Counter, GrantView, Proposal, Reason
from broker.idempotency import remember
from broker.identities.room import lock
from broker.ids import new_id
from broker.points import reach
from broker.policies.arns import principal_account
from broker.policies.pack import size_of
from broker.policies.terms import Terms
from broker.quotas import Quota
from broker.room import leave_room


async def propose(db: Database, caller: Caller, wanted: Proposal, *, lifetime: timedelta) -> GrantView:
    """Opens a grant. The owner of the identity names the delegate; anybody else proposes as the delegate."""
    async with db.begin(caller) as session:
        await leave_room(session, caller, Quota.OPEN_PROPOSALS, demands.open_proposals(caller))
        now = await database_time(session)
        identity_id, owner_id = await demands.identity(session, wanted.identity_arn)
        delegate_id = demands.delegate(caller, owner_id, wanted)
        party = Party.OWNER if caller.tenant == owner_id else Party.DELEGATE
        await demands.require_role(session, caller, party)
        demands.check_terms(wanted.terms, wanted.identity_arn, now)
        grant = Grant(id=new_id(), owner_id=owner_id, delegate_id=delegate_id, identity_id=identity_id, created_at=now)
        return await put_forward_first(session, caller, grant, wanted, lifetime=lifetime)


async def put_forward_first(
    session: AsyncSession, caller: Caller, grant: Grant, wanted: Proposal, *, lifetime: timedelta
) -> GrantView:
    """Stores a new grant, whose parties, identity and time are set, with its first offer."""
    now, offer_id = grant.created_at, new_id()
    party, arn = party_of(grant, caller.tenant), wanted.identity_arn
    await find_slot(session, grant.identity_id, arn, grant_id=None, terms=wanted.terms, party=party)
    grant.identity_arn, grant.latest_offer_id = wanted.identity_arn, offer_id
    grant.paper, grant.effect = Paper.OPEN, Effect.NONE
    session.add(grant)
    offer = _offer(grant, party, wanted.terms, number=1, note=wanted.note, lapses_at=now + lifetime, now=now)
    offer.id = offer_id
    await _insert(session, grant, offer)
    await watch_identity(session, grant.identity_id, until=offer.lapses_at)
    told = {"replaces": grant.replaces["policy"]} if grant.replaces else {}
    await note(session, caller, "proposed", grant, number=1, **told)
    reach("grants.proposed")
    return await remember(session, caller, await shown(session, caller, grant, offer, now))


async def approve(db: Database, caller: Caller, grant_id: UUID, *, expected: UUID) -> GrantView:
    """Agrees to the offer that was looked at, and to no other; `PreconditionFailed` when another came meanwhile."""
    async with db.begin(caller) as session:
        await demands.lean_on_accounts(session, grant_id, expected)
        found = await find_for(session, caller, grant_id, Verb.APPROVE, expected=expected)
        grant, terms = found.grant, terms_of(found.offer.terms)
        demands.check_terms(terms, grant.identity_arn, found.now)
        await demands.require_proof(session, grant, terms)
        await lock(session, grant.identity_id)  # the last place goes to one of two that agree at once
        await demands.require_identity(session, grant)
        grant.slot = await _slot(session, found, terms)
        grant.size = size_of(terms, identity_arn=grant.identity_arn)
        amended = grant.paper is not Paper.OPEN
        _decide(found, Outcome.APPROVED)
        _move(found, Verb.APPROVE)
        grant.agreed_offer_id, grant.agreed_at = found.offer.id, found.now
        grant.terms, grant.feedback = found.offer.terms, found.offer.terms["feedback"]
        grant.accounts = sorted({principal_account(principal) for principal in terms.principals} | set(grant.accounts))
        grant.not_before, grant.expires_at = terms.not_before, terms.expires_at
        # What somebody took away only the owner gives back, and what is suspended stays so.
        if grant.paper is Paper.AGREED and (not grant.drifted or found.party is Party.OWNER):
            # What was agreed before may be there until it was read without that, whenever the new window begins.
            begun = amended or grant.not_before is None or grant.not_before <= found.now
            grant.effect, grant.error, grant.drifted = Effect.APPLYING if begun else Effect.NONE, None, False
        await wake_identity(session, grant.identity_id)
        reach("grants.approved")
        await note(session, caller, "amended" if amended else "approved", grant, number=found.offer.number)
        return await remember(session, caller, await shown(session, caller, grant, found.offer, found.now))


async def counter(
    db: Database, caller: Caller, grant_id: UUID, wanted: Counter, *, expected: UUID, lifetime: timedelta
) -> GrantView:
    """Answers an offer with other terms; it is now the other party's turn."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.COUNTER, expected=expected)
        demands.check_terms(wanted.terms, found.grant.identity_arn, found.now)
        await _slot(session, found, wanted.terms)
        _decide(found, Outcome.COUNTERED)
        return await _put_forward(session, caller, found, wanted, action="countered", lifetime=lifetime)


async def amend(
    db: Database, caller: Caller, grant_id: UUID, wanted: Counter, *, expected: UUID, lifetime: timedelta
) -> GrantView:
    """Proposes other terms for a live grant; the agreed ones stay in force until the other party approves."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.AMEND, expected=expected)
        demands.check_terms(wanted.terms, found.grant.identity_arn, found.now)
        await _slot(session, found, wanted.terms)
        return await _put_forward(session, caller, found, wanted, action="proposed", lifetime=lifetime)


async def decline(db: Database, caller: Caller, grant_id: UUID, why: Reason) -> GrantView:
    """Says no to the other party's offer. A live grant goes on under the agreed terms."""
    return await _close(db, caller, grant_id, Verb.DECLINE, outcome=Outcome.DECLINED, why=why)


async def withdraw(db: Database, caller: Caller, grant_id: UUID, why: Reason) -> GrantView:
    """Takes one's own offer back. A live grant goes on under the agreed terms."""
    return await _close(db, caller, grant_id, Verb.WITHDRAW, outcome=Outcome.WITHDRAWN, why=why)


async def _slot(session: AsyncSession, found: Found, terms: Terms) -> int | None:
    grant = found.grant
    return await find_slot(
        session, grant.identity_id, grant.identity_arn, grant_id=grant.id, terms=terms, party=found.party
    )


async def _close(
    db: Database, caller: Caller, grant_id: UUID, verb: Verb, *, outcome: Outcome, why: Reason
) -> GrantView:
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, verb)
        _decide(found, outcome)
        _move(found, verb)
        await note(session, caller, outcome.value, found.grant, number=found.offer.number, note=why.note)
        return await remember(session, caller, await shown(session, caller, found.grant, found.offer, found.now))


async def _put_forward(
    session: AsyncSession, caller: Caller, found: Found, wanted: Counter, *, action: str, lifetime: timedelta
) -> GrantView:
    grant, now = found.grant, found.now
    await session.flush()  # the decided offer first: only one may be open at a time
    number = found.offer.number + 1
    offer = _offer(grant, found.party, wanted.terms, number=number, note=wanted.note, lapses_at=now + lifetime, now=now)
    session.add(offer)
    grant.latest_offer_id = offer.id
    grant.version += 1
    await watch_identity(session, grant.identity_id, until=offer.lapses_at)
    await note(session, caller, action, grant, number=number)
    return await remember(session, caller, await shown(session, caller, grant, offer, now))


def _offer(
    grant: Grant, party: Party, terms: Terms, *, number: int, note: str | None, lapses_at: datetime, now: datetime
) -> Offer:
    stored: dict[str, Any] = msgspec.to_builtins(terms)
    return Offer(
        id=new_id(),
        grant_id=grant.id,
        owner_id=grant.owner_id,
        delegate_id=grant.delegate_id,
        number=number,
        made_by=party.value,
        terms=stored,
        note=note,
        created_at=now,
        lapses_at=lapses_at,
    )


async def _insert(session: AsyncSession, grant: Grant, offer: Offer) -> None:
    session.add(grant)
    try:
        await session.flush()
    except IntegrityError as error:
        if "grants_delegate_id_fkey" in str(error.orig):
            demands.refuse("/delegate_id", "There is no tenant with this id.", cause=error)
        raise
    session.add(offer)


def _decide(found: Found, outcome: Outcome) -> None:
    found.offer.outcome, found.offer.decided_at = outcome, found.now


def _move(found: Found, verb: Verb) -> None:
    found.grant.paper = MOVES[verb].to.get(found.grant.paper, found.grant.paper)
    found.grant.version += 1
