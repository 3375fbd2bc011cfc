"""The part of a sync that takes a foreign policy away once the grant in its place was read back twice.

Only names with our prefix are ever touched, with this one exception: the owner asked for this policy by name, both
parties agreed, and its text still means what it meant then.
"""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.service import record
from broker.aws_access import RoleAccess
from broker.db import Database
from broker.errors import Refused, Unavailable
from broker.grants.act import Reading
from broker.grants.adopting.replaces import Replaces, Swap, next_state, replaced_by, stored
from broker.grants.calls import IdentityPolicies
from broker.grants.events import announce
from broker.grants.lifecycle import Effect, Paper
from broker.grants.models import Grant
from broker.grants.outcome import Seen, seen
from broker.grants.wanted import Wanted, Work
from broker.identities.models import Identity, PolicyDocument
from broker.identities.service import keep_documents
from broker.points import reach
from broker.policies.plan import is_ours

_WHY = {
    Swap.CHANGED: "It was changed since it was proposed to replace it, so it was left as it is.",
    Swap.GONE: "Somebody else removed it.",
}
_EVENTS = {
    Swap.REMOVED: "grant.policy_replaced",
    Swap.CHANGED: "grant.policy_kept",
    Swap.GONE: "grant.policy_gone",
    Swap.REFUSED: "grant.policy_removal_refused",
}


async def replace_policies(
    db: Database, ses: IdentityPolicies, work: Work, reading: Reading, *, gap: timedelta, until: float
) -> Reading:
    """Deletes the policies whose place active grants have taken; returns the last read.

    Nothing is asked of SES after `until` on the loop's clock. Whatever goes wrong, the grants are as they were.
    """
    waiting = [each for each in work.grants if each.replaces is not None and each.replaces.is_open]
    if not waiting or work.access is None:
        return reading
    doomed = await _decide(db, work, waiting, reading, gap)
    if not doomed:
        return reading
    reach("adoptions.deleting")
    refused, observed = await _delete(ses, work, work.access, doomed, until=until)
    reach("adoptions.settling")
    await _settle(db, work, doomed, refused, observed)
    reach("adoptions.settled")
    return reading if observed is None else msgspec.structs.replace(reading, observed=observed)


async def _delete(
    ses: IdentityPolicies, work: Work, access: RoleAccess, doomed: Mapping[UUID, str], *, until: float
) -> tuple[Mapping[UUID, str], Mapping[str, str] | None]:
    """What SES refused, and what it holds now; None where that is not known, so that the next run has to read it."""
    refused: dict[UUID, str] = {}
    try:
        for grant_id, name in doomed.items():
            _check(until)
            try:
                await ses.delete_policy(access, work.name, name)
            except Refused as error:
                refused[grant_id] = error.detail
            else:
                reach("adoptions.deleted")
        _check(until)
        return refused, await ses.read_policies(access, work.name)
    except (Refused, Unavailable):
        return refused, None


def _check(until: float) -> None:
    if asyncio.get_running_loop().time() >= until:
        raise Unavailable("SES answers too slowly; the rest follows in the next run.")


async def _decide(
    db: Database, work: Work, waiting: Sequence[Wanted], reading: Reading, gap: timedelta
) -> dict[UUID, str]:
    """Grant → name of the policies to delete now, on paper before SES hears of it."""
    doomed: dict[UUID, str] = {}
    async with db.begin(work.caller) as session:
        for wanted, grant, replaces in await _lock(session, waiting):
            now: datetime = (await session.execute(select(func.now()))).scalar_one()
            text = reading.observed.get(replaces.policy)
            state = next_state(
                replaces,
                in_place=_is_in_place(work, wanted, reading, now - gap),
                seen=text,
                proposed=await _proposed(session, work, replaces),
                ours=is_ours(replaces.policy),
            )
            if state is Swap.REMOVING and text is not None:
                doomed[grant.id] = replaces.policy
                identity = await session.get_one(Identity, work.claim.id)
                await keep_documents(session, identity, {replaces.policy: text})
            tried_again = state is Swap.REMOVING and replaces.state is Swap.REFUSED
            if state is not None and state is not replaces.state and not tried_again:
                await _write(session, work, grant, replaces, state=state, detail=_WHY.get(state), at=now)
                reach("adoptions.decided")
    return doomed


async def _lock(session: AsyncSession, waiting: Sequence[Wanted]) -> list[tuple[Wanted, Grant, Replaces]]:
    """Those whose paper has not changed since the plan was made, in the order in which everybody locks them."""
    by_id = {each.id: each for each in waiting}
    rows = await session.scalars(
        select(Grant).where(Grant.id.in_(by_id)).order_by(Grant.id).with_for_update(key_share=True)
    )
    return [
        (by_id[grant.id], grant, replaces)
        for grant in rows
        if grant.version == by_id[grant.id].version and (replaces := replaced_by(grant)) is not None
    ]


def _is_in_place(work: Work, wanted: Wanted, reading: Reading, latest: datetime) -> bool:
    """Whether the grant was active already, and now its policy was read once more, some time later."""
    active = wanted.paper is Paper.AGREED and wanted.effect is Effect.APPLIED
    return (
        active
        and wanted.activated_at is not None
        and wanted.activated_at <= latest
        and seen(wanted, work, reading) is Seen.HELD
    )


async def _proposed(session: AsyncSession, work: Work, replaces: Replaces) -> str | None:
    """The text that was to be replaced when the grant was proposed."""
    return await session.scalar(
        select(PolicyDocument.document).where(
            PolicyDocument.identity_id == work.claim.id,
            PolicyDocument.name == replaces.policy,
            PolicyDocument.digest == bytes.fromhex(replaces.digest),
        )
    )


async def _settle(
    db: Database,
    work: Work,
    doomed: Mapping[UUID, str],
    refused: Mapping[UUID, str],
    observed: Mapping[str, str] | None,
) -> None:
    """Writes down what the read after the deletions showed, and what SES refused."""
    async with db.begin(work.caller) as session:
        query = select(Grant, func.now()).where(Grant.id.in_(doomed)).order_by(Grant.id)
        for grant, now in (await session.execute(query.with_for_update(key_share=True, of=Grant))).all():
            replaces = replaced_by(grant)
            if replaces is None:
                continue
            if grant.id in refused:
                if (replaces.state, replaces.detail) != (Swap.REFUSED, refused[grant.id]):
                    await _write(session, work, grant, replaces, state=Swap.REFUSED, detail=refused[grant.id], at=now)
            elif observed is not None and replaces.policy not in observed:
                await _write(session, work, grant, replaces, state=Swap.REMOVED, detail=None, at=now)


async def _write(
    session: AsyncSession,
    work: Work,
    grant: Grant,
    replaces: Replaces,
    *,
    state: Swap,
    detail: str | None,
    at: datetime,
) -> None:
    """Both read the audit as it is; the owner alone hears what it can do by hand (`webhooks.render`)."""
    grant.replaces = dict(stored(msgspec.structs.replace(replaces, state=state, detail=detail, at=at)))
    told: dict[str, Any] = {"policy": replaces.policy, **({"reason": detail} if detail else {})}
    event = _EVENTS.get(state)
    await record(
        session,
        work.caller,
        event or "grant.policy_removing",
        subject=("grant", grant.id),
        counterpart_id=grant.delegate_id,
        digest=replaces.digest,
        **told,
    )
    if event is not None:
        commands = {"commands": [_command(work, replaces.policy)]} if state is Swap.REFUSED else {}
        await announce(session, event, grant, **told, **commands)


def _command(work: Work, name: str) -> str:
    """What the owner types to remove it."""
    region = work.arn.split(":")[3]
    command = ("aws", "sesv2", "delete-email-identity-policy", "--region", region)
    return shlex.join((*command, "--email-identity", work.name, "--policy-name", name))
