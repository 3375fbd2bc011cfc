"""The identities on which grants are to end: what SES holds there, who is to go on sending, and what has to go."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.connections.models import Connection, Kind
from broker.grants.eta import Calls, calls_for
from broker.grants.lifecycle import LIVE
from broker.grants.models import Grant
from broker.grants.present import terms_of
from broker.grants.written import SHOWN_WITHIN
from broker.identities.models import Identity, PolicyDocument
from broker.policies.arns import parse_identity_arn
from broker.policies.deny import spared
from broker.policies.export import policy_name
from broker.policies.residual import still_allowed
from broker.policies.revoke_script import Target
from broker.policies.terms import Action
from broker.policies.withdraw import Withdrawal, withdrawal

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Affected(msgspec.Struct, frozen=True):
    """One identity and the grants that end on it, the one that was used last first.

    `observed` is what the last read showed, and what we wrote too late for it to show. `living` are principals of the
    other live grants. `by_hand`: the owner applies and removes policies itself.
    """

    identity: Identity
    by_hand: bool
    grants: tuple[Grant, ...]
    observed: Mapping[str, str]
    living: tuple[str, ...]
    now: datetime

    @property
    def principals(self) -> tuple[str, ...]:
        """Everybody whom the grants that end let send."""
        return tuple(dict.fromkeys(each for grant in self.grants for each in terms_of(grant.terms or {}).principals))

    @property
    def going(self) -> Withdrawal:
        """Which of our documents go, and which lose some of their statements."""
        return withdrawal(self.observed, {grant.id for grant in self.grants})

    @property
    def denied(self) -> tuple[str, ...]:
        """Those who can be shut out by a Deny. Nobody where no one has read what else is on the identity."""
        if self.by_hand:
            return ()
        left_out = spared(
            self.principals,
            living=self.living,
            observed=self.observed,
            identity_arn=self.identity.arn,
            now=self.now,
        )
        return tuple(each for each in self.principals if each not in left_out)


async def affected(
    session: AsyncSession, grants: Sequence[Grant], used: Mapping[UUID, datetime], *, now: datetime
) -> Sequence[Affected]:
    """The identities of these grants: the one whose grants were used last first, those never heard of at the end."""
    ordered = sorted(grants, key=lambda grant: (used.get(grant.id, _NEVER), -grant.id.int), reverse=True)
    place = {identity_id: n for n, identity_id in enumerate(dict.fromkeys(grant.identity_id for grant in ordered))}
    ids = set(place)
    written, living = await _written(session, ids), await _living(session, ids, {grant.id for grant in grants})
    query = (
        select(Identity, Connection.kind)
        .join(Connection, Connection.id == Identity.connection_id)
        .where(Identity.id.in_(ids))
    )
    found = [
        Affected(
            identity=identity,
            by_hand=kind == Kind.MANUAL,
            grants=tuple(each for each in ordered if each.identity_id == identity.id),
            observed={**written.get(identity.id, {}), **identity.policies},
            living=tuple(living.get(identity.id, ())),
            now=now,
        )
        for identity, kind in await session.execute(query)
    ]
    return sorted(found, key=lambda each: place[each.identity.id])


def calls_of(each: Affected) -> Calls:
    """What taking these grants away needs of SES."""
    going = each.going
    return calls_for(deletes=len(going.delete), reduced=len(going.reduce), deny=1 if each.denied else 0)


def target_of(each: Affected) -> Target:
    """What the owner's own script does there."""
    residual = still_allowed(
        each.observed,
        principals=each.principals,
        actions=tuple(Action),
        identity_arn=each.identity.arn,
        now=each.now,
    )
    return Target(
        identity=parse_identity_arn(each.identity.arn),
        grants=tuple(grant.id for grant in each.grants),
        going=each.going,
        denied=each.denied,
        residual=tuple(residual),
        by_hand=tuple(policy_name(grant.id) for grant in each.grants) if each.by_hand else (),
    )


async def _written(session: AsyncSession, ids: set[UUID]) -> Mapping[UUID, Mapping[str, str]]:
    """What we wrote of late, by identity: SES may hold it although no read has shown it."""
    query = (
        select(PolicyDocument.identity_id, PolicyDocument.name, PolicyDocument.document)
        .where(PolicyDocument.identity_id.in_(ids), PolicyDocument.ours)
        .where(PolicyDocument.seen_at > func.now() - SHOWN_WITHIN)
        .order_by(PolicyDocument.id)
    )
    found: dict[UUID, dict[str, str]] = {}
    for identity_id, name, document in await session.execute(query):
        found.setdefault(identity_id, {}).setdefault(name, document)
    return found


async def _living(session: AsyncSession, ids: set[UUID], ending: set[UUID]) -> Mapping[UUID, Sequence[str]]:
    """Principals of the live grants that stay, by identity."""
    query = select(Grant.identity_id, Grant.terms).where(
        Grant.identity_id.in_(ids), Grant.paper.in_(LIVE), Grant.id.not_in(ending)
    )
    found: dict[UUID, list[str]] = {}
    for identity_id, terms in await session.execute(query):
        found.setdefault(identity_id, []).extend(terms_of(terms).principals)
    return found
