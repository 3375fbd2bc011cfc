"""What a proposal or an approval has to satisfy, each demand with its own sentence and field."""

from datetime import datetime
from typing import NoReturn
from uuid import UUID

from sqlalchemy import Select, and_, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.connections.binding import lean_on
from broker.errors import Conflict, Flaw, Invalid
from broker.grants.lifecycle import Paper, Party
from broker.grants.models import Grant, Offer
from broker.grants.views import Proposal
from broker.policies.arns import principal_account
from broker.policies.check import check
from broker.policies.terms import Terms
from broker.tenants.models import Tenant


async def identity(session: AsyncSession, arn: str) -> tuple[UUID, UUID]:
    """Id and owner of a connected, verified identity; `Invalid` for any other ARN."""
    row = (
        await session.execute(text("SELECT identity_id, owner_id, verified FROM find_identity(:arn)"), {"arn": arn})
    ).one_or_none()
    if row is None:
        refuse("/identity_arn", "No connected identity has this ARN; its owner has to connect the account first.")
    if not row.verified:
        refuse("/identity_arn", "This identity is not verified in SES.")
    return row.identity_id, row.owner_id


def open_proposals(caller: Caller) -> Select[int]:
    """How many proposals of the caller wait for the other party's answer."""
    as_owner = and_(Grant.owner_id == caller.tenant, Offer.made_by == Party.OWNER.value)
    as_delegate = and_(Grant.delegate_id == caller.tenant, Offer.made_by == Party.DELEGATE.value)
    latest = select(func.count()).select_from(Grant).join(Offer, Offer.id == Grant.latest_offer_id)
    return latest.where(Grant.paper == Paper.OPEN, Offer.outcome.is_(None), or_(as_owner, as_delegate))


def delegate(caller: Caller, owner_id: UUID, wanted: Proposal) -> UUID:
    """The delegate of a proposal: whom the owner names, or oneself."""
    if caller.tenant != owner_id:
        if wanted.delegate_id not in {None, caller.tenant}:
            refuse("/delegate_id", "You can propose only for yourself: the identity is not yours.")
        return caller.tenant
    if wanted.delegate_id is None:
        refuse("/delegate_id", "The identity is yours: name the delegate's tenant id.")
    if wanted.delegate_id == owner_id:
        refuse("/delegate_id", "Owner and delegate must be two tenants.")
    return wanted.delegate_id


async def require_role(session: AsyncSession, caller: Caller, party: Party) -> None:
    """The caller's tenant is registered for its side of the grant."""
    tenant = await session.get_one(Tenant, caller.tenant)
    if party.value not in tenant.roles:
        raise Conflict(f"You are not registered as {party.value}.")


def check_terms(terms: Terms, identity_arn: str, now: datetime) -> None:
    """The terms are such as SES would take and the identity allows; `Invalid` names every flaw."""
    flaws = tuple(
        Flaw(f"/terms{flaw.pointer}", flaw.detail) for flaw in check(terms, identity_arn=identity_arn, now=now)
    )
    if flaws:
        raise Invalid("The terms are not valid: " + " ".join(flaw.detail for flaw in flaws), flaws=flaws)


async def lean_on_accounts(session: AsyncSession, grant_id: UUID, offer_id: UUID) -> None:
    """Holds the accounts of an offer before its grant is locked: who unbinds an account locks it before the grants."""
    terms = await session.scalar(select(Offer.terms).where(Offer.id == offer_id, Offer.grant_id == grant_id))
    if terms is not None:
        await lean_on(session, {principal_account(principal) for principal in terms["principals"]})


async def require_proof(session: AsyncSession, grant: Grant, terms: Terms) -> None:
    """Every principal lives in an account that the delegate has proven."""
    accounts = {principal_account(principal) for principal in terms.principals}
    await lean_on(session, accounts)
    rows = await session.execute(
        text("SELECT account_id, tenant_id FROM account_tenants(:accounts)"), {"accounts": sorted(accounts)}
    )
    proven = {row.account_id for row in rows if row.tenant_id == grant.delegate_id}
    missing = sorted(accounts - proven)
    if missing:
        raise Conflict(
            f"The delegate has not proven account {', '.join(missing)}; it connects the account, then try again."
        )


async def require_identity(session: AsyncSession, grant: Grant) -> None:
    """The identity is still connected; it may have gone while the offer was open."""
    row = (
        await session.execute(text("SELECT identity_id FROM find_identity(:arn)"), {"arn": grant.identity_arn})
    ).one_or_none()
    if row is None or row.identity_id != grant.identity_id:
        raise Conflict("The owner's account is not connected any more; connect it and propose anew.")


def refuse(pointer: str, detail: str, *, cause: Exception | None = None) -> NoReturn:
    """Raises `Invalid` for one field."""
    raise Invalid(detail, flaws=(Flaw(pointer, detail),)) from cause
