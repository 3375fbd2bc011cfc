"""From stored rows to what a party sees."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, or_, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.grants.adopting import replaces
from broker.grants.lifecycle import Effect, Paper, Party, Standing, flags_of, offer_is_open, state_of
from broker.grants.models import Grant, Offer
from broker.grants.views import GrantView, OfferView, PartyView
from broker.policies.changes import verdict
from broker.policies.diff import diff
from broker.policies.explain import explain
from broker.policies.export import export, removal
from broker.policies.terms import Terms


def visible_to(caller: Caller) -> ColumnElement[bool]:
    """The grants that a caller may see: those it is a party to."""
    return or_(Grant.owner_id == caller.tenant, Grant.delegate_id == caller.tenant)


def party_of(grant: Grant, tenant_id: UUID) -> Party:
    """Which side a tenant is on."""
    return Party.OWNER if grant.owner_id == tenant_id else Party.DELEGATE


def standing_of(grant: Grant, offer: Offer) -> Standing:
    """A grant and its latest offer as the rules need them."""
    return Standing(
        paper=grant.paper,
        effect=grant.effect,
        not_before=grant.not_before,
        expires_at=grant.expires_at,
        offer_open=offer.outcome is None,
        offer_by=Party(offer.made_by),
        offer_lapses_at=offer.lapses_at,
        ended_at=grant.ended_at,
        stuck_at=grant.stuck_at,
        drifted=grant.drifted,
        by_hand=grant.by_hand,
    )


def is_verified(grant: Grant) -> bool:
    """Whether SES was read: for a policy of ours, which has a slot, or twice without one."""
    if grant.effect is Effect.REMOVED:
        return grant.verified_at is not None
    return grant.effect is Effect.APPLIED and grant.slot is not None


def terms_of(stored: Mapping[str, object]) -> Terms:
    """Stored terms, typed again."""
    return msgspec.convert(stored, Terms)


def etag(offer_id: UUID) -> str:
    """The entity tag of a grant or an offer: its latest offer's id."""
    return f'"{offer_id}"'


async def names_of(session: AsyncSession, ids: set[UUID]) -> dict[UUID, str]:
    """Names of tenants, of the other party too; one round trip."""
    rows = await session.execute(text("SELECT id, name FROM tenant_names(:ids)"), {"ids": list(ids)})
    return {row.id: row.name for row in rows}


def grant_view(
    grant: Grant,
    offer: Offer,
    caller: Caller,
    *,
    names: Mapping[UUID, str],
    now: datetime,
    hash_key: bytes | None = None,
) -> GrantView:
    """One grant for one of its parties."""
    standing = standing_of(grant, offer)
    is_open = offer_is_open(standing, now)
    flags = flags_of(standing, now)
    return GrantView(
        id=grant.id,
        state=state_of(standing, now),
        verified=is_verified(grant),
        awaiting=standing.offer_by.other if is_open else None,
        flags=flags,
        you_are=party_of(grant, caller.tenant),
        owner=PartyView(grant.owner_id, names.get(grant.owner_id, "")),
        delegate=PartyView(grant.delegate_id, names.get(grant.delegate_id, "")),
        identity_id=grant.identity_id,
        identity_arn=grant.identity_arn,
        terms=terms_of(grant.terms) if grant.terms else None,
        open_offer=offer.id if is_open else None,
        latest_offer=grant.latest_offer_id,
        etag=etag(grant.latest_offer_id),
        error=grant.error,
        commands=_commands(grant, flags) if party_of(grant, caller.tenant) is Party.OWNER else (),
        recipient_hash_key=hash_key.hex() if hash_key and grant.paper is not Paper.OPEN else None,
        created_at=grant.created_at,
        agreed_at=grant.agreed_at,
        activated_at=grant.activated_at,
        expires_at=grant.expires_at,
        ended_at=grant.ended_at,
        suspended_at=grant.suspended_at if grant.paper is Paper.PAUSED else None,
        suspended_by=grant.suspended_by if grant.paper is Paper.PAUSED else None,
        protected_by=grant.protected_by,
        sealed_at=grant.sealed_at,
        replaces=replaces.shown(grant),
    )


def _commands(grant: Grant, flags: Sequence[str]) -> tuple[str, ...]:
    """What an owner that works by hand has to run now, for a removal; what to apply is in the export."""
    if "awaiting_owner" not in flags or grant.effect is not Effect.REMOVING or grant.terms is None:
        return ()
    return (removal(export(terms_of(grant.terms), grant_id=grant.id, identity_arn=grant.identity_arn)),)


def offer_views(grant: Grant, offers: Sequence[Offer], caller: Caller) -> list[OfferView]:
    """All offers of a grant, oldest first, each explained and compared with the one before it."""
    me = party_of(grant, caller.tenant)
    views: list[OfferView] = []
    before: Terms | None = None
    for offer in offers:
        terms = terms_of(offer.terms)
        changes = diff(before, terms) if before is not None else []
        views.append(
            OfferView(
                id=offer.id,
                number=offer.number,
                made_by=Party(offer.made_by),
                by_me=Party(offer.made_by) is me,
                terms=terms,
                note=offer.note,
                outcome=offer.outcome,
                explanation=[*explain(terms, identity_arn=grant.identity_arn), *replaces.sentences(grant)],
                changes=changes,
                effect=verdict(changes),
                created_at=offer.created_at,
                lapses_at=offer.lapses_at,
                decided_at=offer.decided_at,
                etag=etag(offer.id),
                replaces=replaces.shown(grant),
            )
        )
        before = terms
    return views
