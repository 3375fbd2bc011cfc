"""What an identity should hold right now, read from the paper: the first transaction of a sync."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Function, Interval, func, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections.models import Connection, Kind, State
from broker.db import Database
from broker.due import Claim
from broker.grants.denies import NO_DENY, Deny, prepare
from broker.grants.events import announce
from broker.grants.lifecycle import BEHIND_DENY, ENDED, LIVE, NEGOTIABLE, TAKEN_BACK, Effect, Outcome, Paper
from broker.grants.models import Grant, Offer
from broker.grants.moves import wake_routes
from broker.grants.present import terms_of
from broker.grants.written import lately, written
from broker.identities.models import Identity
from broker.identities.room import ground
from broker.identities.service import access
from broker.policies.compile import Statement, statements
from broker.policies.pack import place
from broker.policies.plan import is_ours
from broker.policies.shares import Tenancy, going, is_alone, shows
from broker.policies.terms import Terms


class Wanted(msgspec.Struct, frozen=True):
    """One grant as a sync sees it. `statements` None: nothing of it may be on the identity.

    `unguarded` are the statements without the `Null` guard, for where SES does not take that operator; None where the
    terms need no guard.
    """

    id: UUID
    version: int
    paper: Paper
    effect: Effect
    slot: int
    statements: tuple[Statement, ...] | None
    unguarded: tuple[Statement, ...] | None
    terms: Terms
    ended_at: datetime | None
    removed_at: datetime | None
    resumed_at: datetime | None = None


class Work(msgspec.Struct, frozen=True):
    """All that a sync needs to know before it talks to SES. `access` None: there is no role to act with.

    `written` are documents by name as we wrote them, of grants that may have to do without the guard. `doomed` are
    names that hold nothing but ended or suspended grants, and that SES holds, by the last read, or may hold although no
    read has shown them yet; `tainted` are such as hold others, too, and go when those have another place. `held` are
    the grants that the last read showed: one of them that is gone now was taken away by somebody else. `foreign` are
    the policies that are not ours, by the last read. `by_hand`: the owner applies and removes them, and says so.
    """

    claim: Claim
    name: str
    arn: str
    access: RoleAccess | None
    grants: tuple[Wanted, ...]
    written: Mapping[str, str]
    doomed: tuple[str, ...]
    tainted: Mapping[str, frozenset[UUID]]
    held: frozenset[UUID]
    foreign: Mapping[str, str] = MappingProxyType({})
    deny: Deny = NO_DENY
    by_hand: bool = False

    @property
    def caller(self) -> Caller:
        """The broker, working for the owner."""
        return Caller.system(self.claim.tenant_id, job="sync")


async def load(db: Database, claim: Claim, *, deny_kept: timedelta) -> Work:
    """Brings the paper up to the clock, gives new grants their slots, and says what the identity should hold."""
    caller = Caller.system(claim.tenant_id, job="sync")
    async with db.begin(caller) as session:
        identity, connection, now, written_lately = await _identity(session, claim.id)
        grants = await _lock(session, identity.id)
        if any(grant.paper in NEGOTIABLE for grant in grants):
            await _lapse(session, caller, identity.id, now)
        grants = [grant for grant in grants if grant.paper in LIVE | ENDED]
        for grant in grants:
            if grant.paper in LIVE and grant.expires_at is not None and grant.expires_at <= now:
                await expire(session, caller, grant)
        by_hand = connection.kind == Kind.MANUAL and connection.state != State.REMOVED
        if not by_hand:  # a slot is a place for a policy of ours
            await _house(session, identity, grants)
        wanted = tuple(_wanted(grant, now) for grant in grants)
        housed = tenancies(wanted)
        doomed, tainted = going(identity.policies, written_lately, housed)
        role = access(identity, connection)
        living = [principal for each in wanted if each.statements for principal in each.terms.principals]
        return Work(
            claim=claim,
            name=identity.name,
            arn=identity.arn,
            access=role,
            grants=wanted,
            written=await _known(session, identity, wanted, written_lately),
            doomed=doomed,
            tainted=tainted,
            held=frozenset(
                each.id
                for each in housed
                if shows(identity.policies, each.id, each.slot, alone=is_alone(housed, each.id, each.slot))
            ),
            foreign={name: text for name, text in identity.policies.items() if not is_ours(name)},
            deny=await prepare(session, identity, grants, living, kept=deny_kept) if role else NO_DENY,
            by_hand=by_hand,
        )


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


async def _identity(
    session: AsyncSession, identity_id: UUID
) -> tuple[Identity, Connection, datetime, Mapping[str, str]]:
    """The identity, the connection that it came by, the database's clock, and what we wrote there of late."""
    query = (
        select(Identity, Connection, func.now(), lately())
        .join(Connection, Connection.id == Identity.connection_id)
        .where(Identity.id == identity_id)
    )
    identity, connection, now, names = (await session.execute(query)).one()
    return identity, connection, now, names or {}


async def _lock(session: AsyncSession, identity_id: UUID) -> list[Grant]:
    """All grants that this transaction may change, in one order and before anybody is told of the first.

    They are in negotiation, live, ended and not yet proven to be gone, or taken back and not yet sealed.
    """
    rows = await session.scalars(
        select(Grant)
        .where(Grant.identity_id == identity_id)
        .where(Grant.paper.in_(NEGOTIABLE) | (Grant.paper.in_(ENDED) & (Grant.effect != Effect.REMOVED)) | _unsealed())
        .order_by(Grant.id)
        .with_for_update(key_share=True)
    )
    return list(rows)


def _unsealed() -> ColumnElement[bool]:
    """As `denies.is_unsealed` has it."""
    return Grant.paper.in_(BEHIND_DENY) & Grant.protected_by.is_not(None) & Grant.sealed_at.is_(None)


async def _lapse(session: AsyncSession, caller: Caller, identity_id: UUID, now: datetime) -> None:
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


async def _house(session: AsyncSession, identity: Identity, grants: Sequence[Grant]) -> None:
    """A slot for live grants that have none; they were agreed while their owner applied policies by hand."""
    homeless = {grant.id: grant for grant in grants if grant.slot is None and grant.paper in LIVE}
    if not homeless:
        return
    await session.flush()
    found = await ground(session, identity.id, arn=identity.arn)
    if found is None:
        return
    for grant_id, slot in place(found).items():
        if grant_id in homeless:
            # Where there is no room SES says so, and both parties are told.
            homeless[grant_id].slot = slot or 1 + max(found.highest, *(each.slot or 0 for each in homeless.values()))


async def _known(
    session: AsyncSession, identity: Identity, grants: Sequence[Wanted], written_lately: Mapping[str, str]
) -> Mapping[str, str]:
    """What we wrote under the names that SES may hold, where it matters that nobody changed it since."""
    names = {name for name in identity.policies if is_ours(name)} | set(written_lately)
    if not names or not any(grant.unguarded for grant in grants):
        return {}
    return await written(session, identity.id, names=names)


def tenancies(grants: Sequence[Wanted]) -> list[Tenancy]:
    """The grants as the rules about shared policies need them."""
    return [Tenancy(grant.id, grant.slot, grant.paper not in TAKEN_BACK, grant.removed_at is None) for grant in grants]


def _wanted(grant: Grant, now: datetime) -> Wanted:
    terms = terms_of(grant.terms or {})
    begun = grant.not_before is None or grant.not_before <= now
    held = grant.paper is Paper.AGREED and begun and not grant.drifted
    return Wanted(
        id=grant.id,
        version=grant.version,
        paper=grant.paper,
        effect=grant.effect,
        slot=grant.slot or 0,
        statements=_compiled(grant, terms, null_guard=True) if held else None,
        unguarded=_compiled(grant, terms, null_guard=False) if held and terms.recipients else None,
        terms=terms,
        ended_at=grant.ended_at,
        removed_at=grant.removed_at,
        resumed_at=grant.resumed_at,
    )


def _compiled(grant: Grant, terms: Terms, *, null_guard: bool) -> tuple[Statement, ...]:
    return tuple(statements(terms, grant_id=grant.id, identity_arn=grant.identity_arn, null_guard=null_guard))


async def _note(session: AsyncSession, caller: Caller, what: str, grant: Grant) -> None:
    await record(session, caller, what, subject=("grant", grant.id), counterpart_id=grant.delegate_id)
    await announce(session, what, grant)
