"""Reading grants, their offers, history, receipt and policy."""

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.audit.service import Entry, entries
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict, NotFound
from broker.grants.lifecycle import Effect, Paper, State, state_of
from broker.grants.models import Grant, Offer
from broker.grants.present import grant_view, names_of, offer_views, standing_of, terms_of, visible_to
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


async def list_offers(db: Database, caller: Caller, grant_id: UUID) -> Sequence[OfferView]:
    """Every offer of a grant, oldest first, explained and compared with the one before."""
    async with db.read(caller) as session:
        grant, _ = await find(session, caller, grant_id)
        offers = (await session.scalars(select(Offer).where(Offer.grant_id == grant.id).order_by(Offer.number))).all()
    return offer_views(grant, offers, caller)


async def history(db: Database, caller: Caller, grant_id: UUID, *, after: UUID | None, limit: int) -> Sequence[Entry]:
    """What was done to a grant, by whom, oldest first."""
    async with db.read(caller) as session:
        await find(session, caller, grant_id)
    return await entries(db, caller, subject_id=grant_id, after=after, limit=limit)


async def receipt(db: Database, caller: Caller, grant_id: UUID) -> Receipt:
    """What is known about the removal of an ended or suspended grant; `Conflict` while it is neither."""
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
    asked_at = grant.suspended_at if grant.paper is Paper.PAUSED else grant.ended_at
    if asked_at is None:
        raise Conflict("This grant has not ended: there is nothing to give a receipt for.")
    state = state_of(standing_of(grant, offer), clock.now())
    asked_by = {State.REVOKING: "owner", State.REVOKED: "owner", State.ENDING: "clock", State.EXPIRED: "clock"}
    return Receipt(
        grant_id=grant.id,
        state=state,
        asked_at=asked_at,
        asked_by=(grant.suspended_by or "") if grant.paper is Paper.PAUSED else asked_by.get(state, "delegate"),
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


def _by_hand(grant: Grant) -> bool:
    """Whether the removal is the owner's word, which nobody has verified."""
    return grant.effect is Effect.REMOVED and grant.verified_at is None


def _statement(grant: Grant) -> str:
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
