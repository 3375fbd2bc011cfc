"""Negotiation: proposing, approving, countering, declining, withdrawing and amending."""

from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.errors import Conflict, Flaw, Invalid, NotFound, PreconditionFailed
from broker.grants.events import announce
from broker.grants.lifecycle import MOVES, Effect, Outcome, Paper, Party, Verb, offer_is_open, refusal
from broker.grants.models import Grant, Offer
from broker.grants.present import grant_view, names_of, party_of, standing_of, terms_of, visible_to
from broker.grants.views import Counter, GrantView, Proposal, Reason
from broker.idempotency import remember
from broker.ids import new_id
from broker.policies.arns import principal_account
from broker.policies.check import check
from broker.policies.terms import Terms
from broker.tenants.models import Tenant


class Found(msgspec.Struct, frozen=True):
    """A grant locked for a move, with its latest offer, the caller's side and the database's time."""

    grant: Grant
    offer: Offer
    party: Party
    now: datetime


async def propose(db: Database, caller: Caller, wanted: Proposal, *, lifetime: timedelta) -> GrantView:
    """Opens a grant. The owner of the identity names the delegate; anybody else proposes as the delegate."""
    async with db.begin(caller) as session:
        now = await database_time(session)
        identity_id, owner_id = await _identity(session, wanted.identity_arn)
        delegate_id = _delegate(caller, owner_id, wanted)
        party = Party.OWNER if caller.tenant == owner_id else Party.DELEGATE
        await _require_role(session, caller, party)
        _check_terms(wanted.terms, wanted.identity_arn, now)
        grant_id, offer_id = new_id(), new_id()
        grant = Grant(
            id=grant_id,
            owner_id=owner_id,
            delegate_id=delegate_id,
            identity_id=identity_id,
            identity_arn=wanted.identity_arn,
            paper=Paper.OPEN,
            effect=Effect.NONE,
            latest_offer_id=offer_id,
            created_at=now,
        )
        session.add(grant)
        offer = _offer(grant, party, wanted.terms, number=1, note=wanted.note, lapses_at=now + lifetime, now=now)
        offer.id = offer_id
        await _insert(session, grant, offer)
        await wake_identity(session, grant.identity_id)  # so that its next check comes before the offer lapses
        await _note(session, caller, "proposed", grant, number=1)
        return await remember(session, caller, await _view(session, caller, grant, offer, now))


async def approve(db: Database, caller: Caller, grant_id: UUID, *, expected: UUID) -> GrantView:
    """Agrees to the offer that was looked at, and to no other; `PreconditionFailed` when another came meanwhile."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.APPROVE, expected=expected)
        grant, terms = found.grant, terms_of(found.offer.terms)
        _check_terms(terms, grant.identity_arn, found.now)
        await _require_proof(session, grant, terms)
        await _require_identity(session, grant)
        amended = grant.paper is not Paper.OPEN
        _decide(found, Outcome.APPROVED)
        _move(found, Verb.APPROVE)
        grant.agreed_offer_id, grant.agreed_at = found.offer.id, found.now
        grant.terms, grant.feedback = found.offer.terms, found.offer.terms["feedback"]
        grant.accounts = sorted({principal_account(principal) for principal in terms.principals} | set(grant.accounts))
        grant.not_before, grant.expires_at = terms.not_before, terms.expires_at
        if not grant.drifted or found.party is Party.OWNER:  # what somebody took away only the owner gives back
            grant.effect, grant.error, grant.drifted = Effect.APPLYING, None, False
        await wake_identity(session, grant.identity_id)
        await _note(session, caller, "amended" if amended else "approved", grant, number=found.offer.number)
        return await remember(session, caller, await _view(session, caller, grant, found.offer, found.now))


async def counter(
    db: Database, caller: Caller, grant_id: UUID, wanted: Counter, *, expected: UUID, lifetime: timedelta
) -> GrantView:
    """Answers an offer with other terms; it is now the other party's turn."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.COUNTER, expected=expected)
        _check_terms(wanted.terms, found.grant.identity_arn, found.now)
        _decide(found, Outcome.COUNTERED)
        return await _put_forward(session, caller, found, wanted, action="countered", lifetime=lifetime)


async def amend(
    db: Database, caller: Caller, grant_id: UUID, wanted: Counter, *, expected: UUID, lifetime: timedelta
) -> GrantView:
    """Proposes other terms for a live grant; the agreed ones stay in force until the other party approves."""
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, Verb.AMEND, expected=expected)
        _check_terms(wanted.terms, found.grant.identity_arn, found.now)
        return await _put_forward(session, caller, found, wanted, action="proposed", lifetime=lifetime)


async def decline(db: Database, caller: Caller, grant_id: UUID, why: Reason) -> GrantView:
    """Says no to the other party's offer. A live grant goes on under the agreed terms."""
    return await _close(db, caller, grant_id, Verb.DECLINE, outcome=Outcome.DECLINED, why=why)


async def withdraw(db: Database, caller: Caller, grant_id: UUID, why: Reason) -> GrantView:
    """Takes one's own offer back. A live grant goes on under the agreed terms."""
    return await _close(db, caller, grant_id, Verb.WITHDRAW, outcome=Outcome.WITHDRAWN, why=why)


async def find_for(
    session: AsyncSession, caller: Caller, grant_id: UUID, verb: Verb, *, expected: UUID | None = None
) -> Found:
    """Locks a grant for a move that its state and the caller's side allow; `expected` is the offer looked at."""
    row = (
        await session.execute(
            select(Grant, func.now()).where(Grant.id == grant_id, visible_to(caller)).with_for_update(key_share=True)
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


async def database_time(session: AsyncSession) -> datetime:
    """The time that everything in this transaction is compared with."""
    now: datetime = (await session.execute(select(func.now()))).scalar_one()
    return now


async def wake_identity(session: AsyncSession, identity_id: UUID) -> None:
    """Makes the identity of a grant due. It is the owner's row, so the delegate's transactions need a function."""
    await session.flush()
    await session.execute(text("SELECT wake_identity(:id)"), {"id": identity_id})
    session.info.setdefault("woken", {}).setdefault("identities", set()).add(identity_id)


async def _close(
    db: Database, caller: Caller, grant_id: UUID, verb: Verb, *, outcome: Outcome, why: Reason
) -> GrantView:
    async with db.begin(caller) as session:
        found = await find_for(session, caller, grant_id, verb)
        _decide(found, outcome)
        _move(found, verb)
        await _note(session, caller, outcome.value, found.grant, number=found.offer.number, note=why.note)
        return await remember(session, caller, await _view(session, caller, found.grant, found.offer, found.now))


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
    await wake_identity(session, grant.identity_id)
    await _note(session, caller, action, grant, number=number)
    return await remember(session, caller, await _view(session, caller, grant, offer, now))


async def _identity(session: AsyncSession, arn: str) -> tuple[UUID, UUID]:
    row = (
        await session.execute(text("SELECT identity_id, owner_id, verified FROM find_identity(:arn)"), {"arn": arn})
    ).one_or_none()
    if row is None:
        _refuse("/identity_arn", "No connected identity has this ARN; its owner has to connect the account first.")
    if not row.verified:
        _refuse("/identity_arn", "This identity is not verified in SES.")
    return row.identity_id, row.owner_id


def _delegate(caller: Caller, owner_id: UUID, wanted: Proposal) -> UUID:
    if caller.tenant != owner_id:
        if wanted.delegate_id not in {None, caller.tenant}:
            _refuse("/delegate_id", "You can propose only for yourself: the identity is not yours.")
        return caller.tenant
    if wanted.delegate_id is None:
        _refuse("/delegate_id", "The identity is yours: name the delegate's tenant id.")
    if wanted.delegate_id == owner_id:
        _refuse("/delegate_id", "Owner and delegate must be two tenants.")
    return wanted.delegate_id


async def _require_role(session: AsyncSession, caller: Caller, party: Party) -> None:
    tenant = await session.get_one(Tenant, caller.tenant)
    if party.value not in tenant.roles:
        raise Conflict(f"You are not registered as {party.value}.")


def _check_terms(terms: Terms, identity_arn: str, now: datetime) -> None:
    flaws = tuple(
        Flaw(f"/terms{flaw.pointer}", flaw.detail) for flaw in check(terms, identity_arn=identity_arn, now=now)
    )
    if flaws:
        raise Invalid("The terms are not valid: " + " ".join(flaw.detail for flaw in flaws), flaws=flaws)


async def _require_proof(session: AsyncSession, grant: Grant, terms: Terms) -> None:
    """Every principal lives in an account that the delegate has proven."""
    accounts = {principal_account(principal) for principal in terms.principals}
    rows = await session.execute(
        text("SELECT account_id, tenant_id FROM account_tenants(:accounts)"), {"accounts": sorted(accounts)}
    )
    proven = {row.account_id for row in rows if row.tenant_id == grant.delegate_id}
    missing = sorted(accounts - proven)
    if missing:
        raise Conflict(
            f"The delegate has not proven account {', '.join(missing)}; it connects the account, then try again."
        )


async def _require_identity(session: AsyncSession, grant: Grant) -> None:
    """The identity is still connected; it may have gone while the offer was open."""
    row = (
        await session.execute(text("SELECT identity_id FROM find_identity(:arn)"), {"arn": grant.identity_arn})
    ).one_or_none()
    if row is None or row.identity_id != grant.identity_id:
        raise Conflict("The owner's account is not connected any more; connect it and propose anew.")


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
            _refuse("/delegate_id", "There is no tenant with this id.", cause=error)
        raise
    session.add(offer)


def _decide(found: Found, outcome: Outcome) -> None:
    found.offer.outcome, found.offer.decided_at = outcome, found.now


def _move(found: Found, verb: Verb) -> None:
    found.grant.paper = MOVES[verb].to.get(found.grant.paper, found.grant.paper)
    found.grant.version += 1


async def _note(session: AsyncSession, caller: Caller, what: str, grant: Grant, **details: Any) -> None:
    """The audit row and the event of one move, in its transaction."""
    other = grant.delegate_id if caller.tenant == grant.owner_id else grant.owner_id
    await record(session, caller, f"grant.{what}", subject=("grant", grant.id), counterpart_id=other, **details)
    await announce(session, f"grant.{what}", grant, **details)


async def _view(session: AsyncSession, caller: Caller, grant: Grant, offer: Offer, now: datetime) -> GrantView:
    await session.flush()
    names = await names_of(session, {grant.owner_id, grant.delegate_id})
    return grant_view(grant, offer, caller, names=names, now=now)


def _refuse(pointer: str, detail: str, *, cause: Exception | None = None) -> NoReturn:
    raise Invalid(detail, flaws=(Flaw(pointer, detail),)) from cause
