"""Every policy on an identity as its owner sees it: explained, linted, and with everybody whom it lets send."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import func, select

from broker.caller import Caller
from broker.db import Database
from broker.errors import NotFound
from broker.identities.facts import is_ours
from broker.identities.models import PolicyDocument
from broker.identities.service import find
from broker.policies.adopt import Adoption, adopt
from broker.policies.compile import grant_of
from broker.policies.document import DocumentError, read
from broker.policies.explain_policies import Explanation, explain_policies
from broker.policies.findings import Finding
from broker.policies.lint import lint
from broker.policies.senders import Sender, senders, together

MOST_VERSIONS = 100


class HeldPolicy(msgspec.Struct, frozen=True):
    """A policy with its JSON text as SES gave it.

    `managed`: the broker made it, for the grants in `grant_ids`. `explanation` is null for what cannot be read.
    `senders` are those whom a policy that is not ours lets send, and `adoption` the terms that a grant in its place
    would have, or the reasons why none means the same. `first_seen_at` is when a policy of this name was first seen.
    """

    name: str
    managed: bool
    grant_ids: Sequence[UUID]
    document: str
    explanation: Explanation | None
    findings: Sequence[Finding]
    senders: Sequence[Sender]
    adoption: Adoption | None
    first_seen_at: datetime | None
    last_seen_at: datetime | None


class HeldPolicies(msgspec.Struct, frozen=True):
    """All of an identity's policies, as SES was last read at `read_at`.

    `foreign_senders`: everybody whom policies that are not ours let send, once each.
    """

    items: Sequence[HeldPolicy]
    foreign_senders: Sequence[Sender]
    read_at: datetime | None


class PolicyVersion(msgspec.Struct, frozen=True):
    """One text that was seen under a policy's name. `held`: it is what SES held when it was last read."""

    document: str
    first_seen_at: datetime
    held: bool


async def versions(db: Database, caller: Caller, identity_id: UUID, name: str) -> Sequence[PolicyVersion]:
    """Texts seen under this name, the latest 100, latest first; NotFound for a name that never was on the identity."""
    async with db.read(caller) as session:
        identity = await find(session, caller, identity_id)
        rows = await session.scalars(
            select(PolicyDocument)
            .where(PolicyDocument.identity_id == identity.id, PolicyDocument.name == name)
            .order_by(PolicyDocument.id.desc())
            .limit(MOST_VERSIONS)
        )
        found = [PolicyVersion(row.document, row.seen_at, identity.policies.get(name) == row.document) for row in rows]
    if not found:
        raise NotFound("The identity never had a policy of this name, as far as SES was read.")
    return found


async def list_policies(db: Database, caller: Caller, identity_id: UUID, *, now: datetime) -> HeldPolicies:
    """What the last read found on the caller's identity, put into words."""
    async with db.read(caller) as session:
        identity = await find(session, caller, identity_id)
        rows = await session.execute(
            select(PolicyDocument.name, func.min(PolicyDocument.seen_at).label("first"))
            .where(PolicyDocument.identity_id == identity.id, PolicyDocument.name.in_(identity.policies))
            .group_by(PolicyDocument.name)
        )
        first_seen = {row.name: row.first for row in rows}
    held = dict(sorted(identity.policies.items()))
    return await asyncio.to_thread(_described, held, identity.arn, first_seen, read_at=identity.read_at, now=now)


def _described(
    held: Mapping[str, str],
    identity_arn: str,
    first_seen: Mapping[str, datetime],
    *,
    read_at: datetime | None,
    now: datetime,
) -> HeldPolicies:
    findings = lint(held, identity_arn=identity_arn, now=now)
    foreign = {name: document for name, document in held.items() if not is_ours(name)}
    sending = senders(foreign, identity_arn=identity_arn, now=now)
    items = [
        HeldPolicy(
            name=name,
            managed=is_ours(name),
            grant_ids=_grants(document) if is_ours(name) else (),
            document=document,
            explanation=_explained(document, identity_arn, now),
            findings=[each for each in findings if each.policy == name],
            senders=[each for each in sending if name in each.policies],
            adoption=None if is_ours(name) else adopt(document, identity_arn=identity_arn, now=now),
            first_seen_at=first_seen.get(name),
            last_seen_at=read_at,
        )
        for name, document in held.items()
    ]
    return HeldPolicies(items, together(sending), read_at)


def _grants(document: str) -> Sequence[UUID]:
    """The grants whose statements these are."""
    try:
        sids = [each.sid for each in read(document).statements]
    except DocumentError:
        return ()
    return tuple(dict.fromkeys(grant for sid in sids if sid and (grant := grant_of(sid)) is not None))


def _explained(document: str, identity_arn: str, now: datetime) -> Explanation | None:
    try:
        return explain_policies([document], identity_arn=identity_arn, now=now)
    except DocumentError:
        return None
