"""What an identity should hold right now, read from the paper: the first transaction of a sync."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
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
from broker.grants.adopting.replaces import Replaces, replaced_by
from broker.grants.events import announce
from broker.grants.lifecycle import ENDED, LIVE, NEGOTIABLE, TAKEN_BACK, Effect, Outcome, Paper
from broker.grants.models import Grant, Offer
from broker.grants.present import terms_of
from broker.grants.written import lately, written
from broker.identities.models import Identity
from broker.identities.service import access
from broker.policies.compile import document, statements
from broker.policies.plan import parse_name
from broker.policies.terms import Terms


class Wanted(msgspec.Struct, frozen=True):
    """One grant as a sync sees it. `document` None: nothing of it may be on the identity.

    `unguarded` is the document without the `Null` guard, for where SES does not take that operator; None where the
    terms need no guard. `replaces` is the foreign policy that goes once this one is seen to be there.
    """

    id: UUID
    version: int
    paper: Paper
    effect: Effect
    slot: int
    document: str | None
    unguarded: str | None
    terms: Terms
    ended_at: datetime | None
    removed_at: datetime | None
    resumed_at: datetime | None = None
    activated_at: datetime | None = None
    replaces: Replaces | None = None


class Work(msgspec.Struct, frozen=True):
    """All that a sync needs to know before it talks to SES. `access` None: there is no role to act with.

    `written` are documents by name as we wrote them, of grants that may have to do without the guard. `doomed` are
    names of ended or suspended grants that SES holds, by the last read, or may hold although no read has shown them
    yet. `held` are the slots that the last read showed: one of them that is gone now was taken away by somebody else.
    `by_hand`: the owner applies and removes the policies, and says so.
    """

    claim: Claim
    name: str
    arn: str
    access: RoleAccess | None
    grants: tuple[Wanted, ...]
    written: Mapping[str, str]
    doomed: tuple[str, ...]
    held: frozenset[int]
    by_hand: bool = False

    @property
    def caller(self) -> Caller:
        """The broker, working for the owner."""
        return Caller.system(self.claim.tenant_id, job="sync")


async def load(db: Database, claim: Claim) -> Work:
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
            await _assign_slots(session, identity.id, grants)
        wanted = tuple(_wanted(grant, now) for grant in grants)
        return Work(
            claim=claim,
            name=identity.name,
            arn=identity.arn,
            access=access(identity, connection),
            grants=wanted,
            written=await _written(session, identity, wanted),
            doomed=_doomed(identity.policies, written_lately, wanted),
            held=frozenset(name.slot for each in identity.policies if (name := parse_name(each))),
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


async def _identity(session: AsyncSession, identity_id: UUID) -> tuple[Identity, Connection, datetime, Sequence[str]]:
    """The identity, the connection that it came by, the database's clock, and names that we wrote there of late."""
    query = (
        select(Identity, Connection, func.now(), lately())
        .join(Connection, Connection.id == Identity.connection_id)
        .where(Identity.id == identity_id)
    )
    identity, connection, now, names = (await session.execute(query)).one()
    return identity, connection, now, names or ()


async def _lock(session: AsyncSession, identity_id: UUID) -> list[Grant]:
    """All grants that this transaction may change, in one order and before anybody is told of the first.

    They are in negotiation, live, or ended and not yet proven to be gone.
    """
    rows = await session.scalars(
        select(Grant)
        .where(Grant.identity_id == identity_id)
        .where(Grant.paper.in_(NEGOTIABLE) | (Grant.paper.in_(ENDED) & (Grant.effect != Effect.REMOVED)))
        .order_by(Grant.id)
        .with_for_update(key_share=True)
    )
    return list(rows)


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
    grant.version += 1
    await session.execute(
        update(Offer)
        .where(Offer.grant_id == grant.id, Offer.outcome.is_(None))
        .values(outcome=Outcome.VOIDED, decided_at=func.now())
    )
    await record(session, caller, "grant.ended_by_date", subject=("grant", grant.id), counterpart_id=grant.delegate_id)


async def _assign_slots(session: AsyncSession, identity_id: UUID, grants: Sequence[Grant]) -> None:
    """A slot belongs to one grant for ever, so that an old name can never stand for another grant."""
    homeless = [grant for grant in grants if grant.slot is None]
    if not homeless:
        return
    highest = select(func.max(Grant.slot)).where(Grant.identity_id == identity_id)
    slot = (await session.execute(highest)).scalar_one() or 0
    for number, grant in enumerate(homeless, slot + 1):
        grant.slot = number


async def _written(session: AsyncSession, identity: Identity, grants: Sequence[Wanted]) -> Mapping[str, str]:
    slots = frozenset(grant.slot for grant in grants if grant.unguarded)
    return await written(session, identity.id, slots=slots) if slots else {}


def _doomed(shown: Collection[str], lately: Collection[str], grants: Sequence[Wanted]) -> tuple[str, ...]:
    """What the last read showed; and what we wrote of late, until the first read without anything.

    A grant may end or be suspended before SES shows its policy: two reads without it would then prove nothing.
    """
    ended = {grant.slot: grant.removed_at is None for grant in grants if grant.paper in TAKEN_BACK}
    slots = {name: parsed.slot for name in {*shown, *lately} if (parsed := parse_name(name)) and parsed.slot in ended}
    return tuple(sorted(name for name, slot in slots.items() if name in shown or ended[slot]))


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
        document=_compiled(grant, terms, null_guard=True) if held else None,
        unguarded=_compiled(grant, terms, null_guard=False) if held and terms.recipients else None,
        terms=terms,
        ended_at=grant.ended_at,
        removed_at=grant.removed_at,
        resumed_at=grant.resumed_at,
        activated_at=grant.activated_at,
        replaces=replaced_by(grant),
    )


def _compiled(grant: Grant, terms: Terms, *, null_guard: bool) -> str:
    return document(statements(terms, grant_id=grant.id, identity_arn=grant.identity_arn, null_guard=null_guard))


async def _note(session: AsyncSession, caller: Caller, what: str, grant: Grant) -> None:
    await record(session, caller, what, subject=("grant", grant.id), counterpart_id=grant.delegate_id)
    await announce(session, what, grant)
