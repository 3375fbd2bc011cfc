"""The Deny of an identity: what it is to say and under which name, what receipts may claim of it, and when it goes.

A grant whose access was taken back is behind a Deny until every request that could bring it back is dead; then nothing
of it may be left, and it is sealed. A receipt never claims a Deny that is not there: the claim is taken back on paper
before the Deny is.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value

from broker.audit.service import record
from broker.caller import Caller
from broker.grants.agreed import Agreed, agreed, history_of
from broker.grants.lifecycle import BEHIND_DENY, LIVE, Paper
from broker.grants.models import Grant
from broker.grants.present import terms_of
from broker.grants.refusals import refused_before
from broker.grants.written import written
from broker.identities.models import Identity, PolicyDocument
from broker.ids import new_id
from broker.points import reach
from broker.policies.deny import Denial, ProtectedBy, Protection, TakenBack, decide, still_named
from broker.policies.narrow import narrows
from broker.policies.plan import DENY, policy_name
from broker.policies.shares import shows

DENY_KEPT = timedelta(minutes=20)

_BEFORE_VERSION = policy_name(DENY, 0).removesuffix("0")


class Deny(msgspec.Struct, frozen=True):
    """What a run knows of the Deny on its identity.

    `document` is what it says (None: none is wanted), under `name`, which is on paper. `at_once`: the last read did not
    show it; `shown` is how many policies that did show. `taken` are grants whose access was taken
    back and that are not sealed, with those whom they may let in; `protections` what may protect them, `over` those for
    which the Deny was kept long enough.
    """

    document: str | None = None
    name: str | None = None
    at_once: bool = False
    shown: int = 0
    taken: Mapping[UUID, tuple[str, ...]] = MappingProxyType({})
    protections: Mapping[UUID, Protection] = MappingProxyType({})
    over: frozenset[UUID] = frozenset()
    kept: timedelta = timedelta(0)


NO_DENY = Deny()


class _Judged(msgspec.Struct, frozen=True):
    """What is to be denied of what was taken back. `everyone`: as if none of it was over yet."""

    backs: Sequence[TakenBack]
    over: frozenset[UUID]
    everyone: Denial
    wanted: Denial


def is_unsealed(grant: Grant) -> bool:
    """Whether a late request may still bring this grant's access back, as far as anybody looks after it."""
    return grant.paper in BEHIND_DENY and grant.protected_by is not None and grant.sealed_at is None


def is_unsealed_row() -> ColumnElement[bool]:
    """The same, in a query."""
    return Grant.paper.in_(BEHIND_DENY) & Grant.protected_by.is_not(None) & Grant.sealed_at.is_(None)


def wants_policy(grant: Grant, now: datetime) -> bool:
    """Whether the identity is to hold a policy of this grant now."""
    begun = grant.not_before is None or grant.not_before <= now
    return grant.paper is Paper.AGREED and begun and not grant.drifted


async def prepare(
    session: AsyncSession,
    identity: Identity,
    grants: Mapping[Grant, Agreed],
    *,
    living: Collection[str],
    kept: timedelta,
    now: datetime,
) -> Deny:
    """Decides on the Deny in the transaction that reads the paper, so that its name is on paper before it is sent.

    `living` are the principals of grants that want a policy now.
    """
    taken = _taken(grants)
    if not taken and identity.deny_name is None:
        return NO_DENY
    judged = await _judge(session, identity, taken, living=living, kept=kept, now=now)
    for grant in taken:
        # On paper before the Deny goes: between the two nobody may rely on it any more.
        if judged.everyone.protections[grant.id].by is ProtectedBy.reads:
            await claim(session, identity, grant, judged.everyone.protections[grant.id])
    name = await _name(session, identity, judged.wanted.document)
    return Deny(
        document=judged.wanted.document,
        name=name,
        at_once=name is not None and name not in identity.policies,
        shown=len(identity.policies),
        taken={back.grant_id: back.principals for back in judged.backs},
        protections=judged.everyone.protections,
        over=judged.over,
        kept=kept,
    )


async def name_ahead(session: AsyncSession, identity_id: UUID, *, kept: timedelta, now: datetime) -> None:
    """Names the Deny in the transaction that takes access back, so that whoever claims the identity sends it at once.

    The identity is locked already, so that nobody gets or loses a policy there meanwhile. Its grants are not, and none
    of them is changed: what a Deny says of them is for the run to write that has them. So is what SES has refused.
    """
    identity = await session.get_one(Identity, identity_id, populate_existing=True)
    there = Grant.paper.in_(LIVE) | is_unsealed_row()
    found = await session.execute(select(Grant, agreed()).where(Grant.identity_id == identity_id, there))
    grants = {grant: history_of(history) for grant, history in found}
    taken = _taken(grants)
    if taken and not any(narrows(grant.protection) for grant in taken):
        wanting = [grant for grant in grants if wants_policy(grant, now)]
        living = [principal for grant in wanting for principal in terms_of(grant.terms or {}).principals]
        judged = await _judge(session, identity, taken, living=living, kept=kept, now=now)
        await _name(session, identity, judged.wanted.document)


async def claim(session: AsyncSession, identity: Identity, grant: Grant, found: Protection) -> None:
    """Writes down what protects a grant; both parties' audit tells where that changes after they were told."""
    if (grant.protected_by, grant.protection) == (found.by.value, found.reason):
        return
    changed = grant.protected_by != found.by.value
    grant.protected_by, grant.protection = found.by.value, found.reason
    if changed and grant.verified_at is not None:
        caller = Caller.system(identity.tenant_id, job="sync")
        told = {"protected_by": found.by.value, "reason": found.reason}
        subject = ("grant", grant.id)
        await record(
            session, caller, "grant.protection_changed", subject=subject, counterpart_id=grant.delegate_id, **told
        )
    reach("denies.claimed")


async def rename(session: AsyncSession, identity_id: UUID, document: str) -> str:
    """A name that was never used, where SES shows something else under the one on paper."""
    return await _new_name(session, await session.get_one(Identity, identity_id), document)


def _asked_at(grant: Grant) -> datetime:
    asked_at = grant.suspended_at if grant.paper is Paper.PAUSED else grant.ended_at
    return asked_at or grant.created_at


def _is_shown(grant: Grant, observed: Mapping[str, str]) -> bool:
    return shows(observed, grant.id, grant.slot or 0, alone=False)


def _decide(
    taken: Sequence[TakenBack],
    living: Collection[str],
    identity: Identity,
    *,
    now: datetime,
    refused: Mapping[str, str],
) -> Denial:
    held = identity.policies
    return decide(taken, living=living, observed=held, identity_arn=identity.arn, now=now, refused=refused)


def _taken(grants: Mapping[Grant, Agreed]) -> Mapping[Grant, Agreed]:
    """Those whose access was taken back and that are not sealed, the last one first."""
    return {each: grants[each] for each in sorted(filter(is_unsealed, grants), key=_asked_at, reverse=True)}


async def _judge(
    session: AsyncSession,
    identity: Identity,
    taken: Mapping[Grant, Agreed],
    *,
    living: Collection[str],
    kept: timedelta,
    now: datetime,
) -> _Judged:
    over = frozenset(grant.id for grant in taken if grant.removed_at is not None and now - grant.removed_at >= kept)
    stays = {grant.id for grant in taken if grant.id not in over or _is_shown(grant, identity.policies)}
    backs = [_taken_back(grant, history, kept) for grant, history in taken.items()]
    refused = await refused_before(session, identity, list(taken), backs)
    everyone = wanted = _decide(backs, living, identity, now=now, refused=refused)
    if len(stays) < len(backs):
        wanted = _decide([back for back in backs if back.grant_id in stays], living, identity, now=now, refused=refused)
    return _Judged(backs, over, everyone, wanted)


def _taken_back(grant: Grant, history: Agreed, kept: timedelta) -> TakenBack:
    """With the principals of earlier terms, too, that were in force so lately that a request of then may still live."""
    principals, followed_at = set(terms_of(grant.terms or {}).principals), None
    for earlier, agreed_at in history:
        if followed_at is None or followed_at > _asked_at(grant) - kept:
            principals |= set(earlier)
        followed_at = agreed_at
    return TakenBack(grant.id, tuple(sorted(principals)))


async def _name(session: AsyncSession, identity: Identity, document: str | None) -> str | None:
    """The name under which the Deny stands or is to stand: a new one for other content, none where none is wanted."""
    current = identity.deny_name
    if document is not None and current is not None:
        before = (await written(session, identity.id, names=[current])).get(current)
        if still_named(current, before, document):
            return current
    if document is None:
        identity.deny_name = None
        return None
    return await _new_name(session, identity, document)


async def _new_name(session: AsyncSession, identity: Identity, document: str) -> str:
    """One round trip for the document and the identity's name for it: whoever takes access back waits for it."""
    made = (
        insert(PolicyDocument)
        .values(
            id=new_id(),
            tenant_id=identity.tenant_id,
            identity_id=identity.id,
            name=func.concat(_BEFORE_VERSION, func.nextval("policy_versions")),
            document=document,
            digest=hashlib.sha256(document.encode()).digest(),
            ours=True,
        )
        .returning(PolicyDocument.name)
        .cte("made")
    )
    named = (
        update(Identity)
        .where(Identity.id == identity.id)
        .values(deny_name=select(made.c.name).scalar_subquery())
        .returning(Identity.deny_name)
    )
    name = str((await session.execute(named, execution_options={"synchronize_session": False})).scalar_one())
    set_committed_value(identity, "deny_name", name)
    reach("denies.named")
    return name
