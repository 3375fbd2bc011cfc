"""Reading grants, their offers, history, receipt and policy."""

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.audit.service import Entry, Filters, entries
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict, NotFound
from broker.grants.lifecycle import Effect, Paper, State, state_of
from broker.grants.models import Grant, Offer
from broker.grants.present import grant_view, is_verified, names_of, offer_views, standing_of, terms_of, visible_to
from broker.grants.views import GrantView, OfferView, PolicyView, Receipt
from broker.policies.compile import document, statements
from broker.policies.deny import ProtectedBy
from broker.policies.explain import explain
from broker.policies.lint import lint

HASH_KEY = "recipient-hash"  # label of the per-grant key under which recipients are hashed


async def show(db: Database, caller: Caller, grant_id: UUID, *, keyring: Keyring) -> GrantView:
    """One grant, with the key under which its recipients are hashed."""
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
        names = await names_of(session, {grant.owner_id, grant.delegate_id})
    key = keyring.derive(HASH_KEY, str(grant.id))
    return grant_view(grant, offer, caller, names=names, now=clock.now(), hash_key=key)


async def list_grants(
    db: Database, caller: Caller, *, identity_arn: str | None, after: UUID | None, limit: int
) -> Sequence[GrantView]:
    """Grants that the caller is a party to, oldest first."""
    query = (
        select(Grant, Offer)
        .join(Offer, Offer.id == Grant.latest_offer_id)
        .where(visible_to(caller))
        .order_by(Grant.id)
        .limit(limit)
    )
    if identity_arn is not None:
        query = query.where(Grant.identity_arn == identity_arn)
    if after is not None:
        query = query.where(Grant.id > after)
    async with db.read(caller) as session:
        rows = (await session.execute(query)).all()
        names = await names_of(session, {party for grant, _ in rows for party in (grant.owner_id, grant.delegate_id)})
    now = clock.now()
    return [grant_view(grant, offer, caller, names=names, now=now) for grant, offer in rows]


async def list_offers(
    db: Database, caller: Caller, grant_id: UUID, *, after: UUID | None = None, limit: int = 50
) -> Sequence[OfferView]:
    """Offers of a grant, oldest first, up to `limit` behind the offer `after`, each compared with the one before it."""
    query = select(Offer).where(Offer.grant_id == grant_id).order_by(Offer.number)
    if after is not None:
        number = select(Offer.number).where(Offer.grant_id == grant_id, Offer.id == after).scalar_subquery()
        query = query.where(Offer.number >= number)  # that one, too: the first of the page is compared with it
    async with db.read(caller) as session:
        grant, _ = await find(session, caller, grant_id)
        offers = (await session.scalars(query.limit(limit if after is None else limit + 1))).all()
    return offer_views(grant, offers, caller)[0 if after is None else 1 :]


async def history(db: Database, caller: Caller, grant_id: UUID, *, after: UUID | None, limit: int) -> Sequence[Entry]:
    """What was done to a grant, by whom, oldest first."""
    async with db.read(caller) as session:
        await find(session, caller, grant_id)
    return await entries(db, caller, Filters(subject_id=grant_id), after=after, limit=limit)


async def receipt(db: Database, caller: Caller, grant_id: UUID) -> Receipt:
    """What is known about a grant's beginning and its end; `Conflict` as long as nothing was agreed."""
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
    return receipt_of(grant, offer, clock.now())


def receipt_of(grant: Grant, offer: Offer, now: datetime) -> Receipt:
    """As `receipt`, of a grant and its latest offer."""
    if grant.agreed_at is None:
        raise Conflict("Nothing was agreed in this grant: there is nothing to give a receipt for.")
    asked_at = grant.suspended_at if grant.paper is Paper.PAUSED else grant.ended_at
    state = state_of(standing_of(grant, offer), now)
    asked_by = {State.REVOKING: "owner", State.REVOKED: "owner", State.ENDING: "clock", State.EXPIRED: "clock"}
    return Receipt(
        grant_id=grant.id,
        state=state,
        asked_at=asked_at,
        asked_by=_asker(grant, asked_by.get(state, "delegate")) if asked_at else None,
        removed_at=grant.removed_at,
        verified_at=grant.verified_at,
        protected_by="owner" if _by_hand(grant) else grant.protected_by or ProtectedBy.reads.value,
        protection=grant.protection,
        sealed_at=grant.sealed_at,
        residual_policies=grant.residual,
        statement=_statement(grant),
    )


async def policy(db: Database, caller: Caller, grant_id: UUID) -> PolicyView:
    """The policy of the agreed terms, or of the latest offer where nothing is agreed yet."""
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
    terms = terms_of(grant.terms or offer.terms)
    text = document(statements(terms, grant_id=grant.id, identity_arn=grant.identity_arn))
    return PolicyView(
        document=json.loads(text),
        bytes=len(text.encode()),
        explanation=explain(terms, identity_arn=grant.identity_arn),
        findings=lint({"grant": text}, identity_arn=grant.identity_arn, now=clock.now()),
    )


async def find(session: AsyncSession, caller: Caller, grant_id: UUID) -> tuple[Grant, Offer]:
    """A grant that the caller is a party to, with its latest offer; `NotFound` for anybody else."""
    row = (
        await session.execute(
            select(Grant, Offer)
            .join(Offer, Offer.id == Grant.latest_offer_id)
            .where(Grant.id == grant_id, visible_to(caller))
        )
    ).one_or_none()
    if row is None:
        raise NotFound("There is no grant with this id.")
    return row[0], row[1]


def _asker(grant: Grant, ended_by: str) -> str:
    return (grant.suspended_by or "") if grant.paper is Paper.PAUSED else ended_by


def _by_hand(grant: Grant) -> bool:
    """Whether the removal is the owner's word, which nobody has verified."""
    return grant.effect is Effect.REMOVED and grant.verified_at is None


def _in_force(grant: Grant) -> str:
    if is_verified(grant):
        return "SES's control plane held the policy of these terms when it was last read."
    if grant.by_hand:
        return "The owner applies the policy by hand; nobody has read SES to see."
    return "SES was not read to hold the policy of these terms yet."


def _statement(grant: Grant) -> str:
    if grant.ended_at is None and grant.paper is not Paper.PAUSED:
        return _in_force(grant)
    if _by_hand(grant) and grant.removed_at is not None:
        at = _instant(grant.removed_at)
        return f"The owner said at {at} that the policy was removed by hand; nobody has read SES to see."
    if grant.verified_at is None:
        return "SES has not yet been read twice without this access; we go on until it has."
    text = f"SES's control plane no longer holds this access, read at {_instant(grant.verified_at)}."
    if grant.residual:
        text += f" Policies that are not ours still let the delegate send: {', '.join(grant.residual)}."
    if grant.sealed_at is not None:
        text += f" Nothing that was asked for before can bring it back, read at {_instant(grant.sealed_at)}."
    return text + " AWS gives no bound for its sending hosts, and mail already accepted is not recalled."


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
