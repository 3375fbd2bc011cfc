"""What an identity should hold right now, read from the paper: the first transaction of a sync."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections.models import Connection, Kind, State
from broker.db import Database
from broker.due import Claim
from broker.grants.adopting.replaces import Replaces, replaced_by
from broker.grants.agreed import Agreed, agreed, history_of
from broker.grants.dates import expire, lapse
from broker.grants.denies import NO_DENY, Deny, is_unsealed_row, prepare, wants_policy
from broker.grants.lifecycle import ENDED, LIVE, NEGOTIABLE, TAKEN_BACK, Effect, Paper
from broker.grants.models import Grant
from broker.grants.present import terms_of
from broker.grants.written import lately, written
from broker.identities.models import Identity
from broker.identities.room import ground
from broker.identities.service import access
from broker.policies.compile import Statement, statements
from broker.policies.pack import place, size_of
from broker.policies.plan import MAX_POLICIES, is_ours, parse_name
from broker.policies.shares import Tenancy, going, is_alone, shows
from broker.policies.terms import Terms


class Wanted(msgspec.Struct, frozen=True):
    """One grant as a sync sees it. `statements` None: nothing of it may be on the identity.

    `unguarded` are the statements without the `Null` guard, for where SES does not take that operator; None where the
    terms need no guard. `replaces` is the foreign policy that goes once this one is seen to be there.
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
    activated_at: datetime | None = None
    replaces: Replaces | None = None


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
        found = await _lock(session, identity.id)
        if any(grant.paper in NEGOTIABLE for grant in found):
            await lapse(session, caller, identity.id, now)
        grants = [grant for grant in found if grant.paper in LIVE | ENDED]
        for grant in grants:
            if grant.paper in LIVE and grant.expires_at is not None and grant.expires_at <= now:
                await expire(session, caller, grant)
            if grant.size is None:
                grant.size = size_of(terms_of(grant.terms or {}), identity_arn=grant.identity_arn)
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
            deny=await prepare(session, identity, found, living=living, kept=deny_kept, now=now) if role else NO_DENY,
            by_hand=by_hand,
        )


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


async def _lock(session: AsyncSession, identity_id: UUID) -> Mapping[Grant, Agreed]:
    """All grants that this transaction may change, in one order and before anybody is told of the first.

    They are in negotiation, live, ended and not yet proven to be gone, or taken back and not yet sealed.
    """
    unproven = Grant.paper.in_(ENDED) & (Grant.effect != Effect.REMOVED)
    rows = await session.execute(
        select(Grant, agreed())
        .where(Grant.identity_id == identity_id)
        .where(Grant.paper.in_(NEGOTIABLE) | unproven | is_unsealed_row())
        .order_by(Grant.id)
        .with_for_update(key_share=True, of=Grant)
    )
    return {grant: history_of(history) for grant, history in rows}


async def _house(session: AsyncSession, identity: Identity, grants: Sequence[Grant]) -> None:
    """A slot for live grants that have none, since their owner applied policies by hand when they were agreed.

    And another one for those that SES had no place for, where now only a policy of others has room.
    """
    homeless = {grant.id: grant for grant in grants if grant.paper in LIVE and grant.slot is None}
    homeless |= {grant.id: grant for grant in _crowded_out(identity, grants)}
    if not homeless:
        return
    for grant in homeless.values():
        grant.slot = None
    await session.flush()
    found = await ground(session, identity.id)
    if found is None:
        return
    for grant_id, slot in place(found).items():
        if slot is not None and grant_id in homeless:
            grant = homeless[grant_id]
            grant.slot = slot
            grant.effect = Effect.APPLYING if grant.effect is Effect.FAILED else grant.effect
    last = max(found.highest, *(grant.slot or 0 for grant in homeless.values()))
    for number, grant in enumerate([each for each in homeless.values() if each.slot is None], last + 1):
        grant.slot = number  # where there is no room SES says so, and both parties are told


def _crowded_out(identity: Identity, grants: Sequence[Grant]) -> list[Grant]:
    """Those that SES refused while it held all that it takes: foreign policies came after the agreement."""
    if len(identity.policies) < MAX_POLICIES:
        return []
    held = {parsed.slot for name in identity.policies if (parsed := parse_name(name))}
    return [
        grant for grant in grants if grant.paper in LIVE and grant.effect is Effect.FAILED and grant.slot not in held
    ]


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
    held = wants_policy(grant, now)
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
        activated_at=grant.activated_at,
        replaces=replaced_by(grant),
    )


def _compiled(grant: Grant, terms: Terms, *, null_guard: bool) -> tuple[Statement, ...]:
    return tuple(statements(terms, grant_id=grant.id, identity_arn=grant.identity_arn, null_guard=null_guard))
