"""Due work on role connections: is the role still ours alone, does it suffice, and what identities are there."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections.binding import announce, bind
from broker.connections.displace import displace
from broker.connections.health import Finding, judge
from broker.connections.models import Connection, State
from broker.connections.permissions import Role
from broker.connections.service import Release
from broker.db import Database
from broker.due import Claim
from broker.errors import Refused, Unavailable
from broker.points import reach

logger = log.get(__name__)

Seen = TypeVar("Seen")

LEASE = timedelta(minutes=2)
_DEADLINE = LEASE - timedelta(seconds=10)
_AT_ONCE = 10


class RoleAssumer(Protocol):
    """Assumes a role to see whether it can be."""

    async def assume(self, access: RoleAccess, *, external_id: str | None) -> str:
        """The account that the session is in; Refused with code AccessDenied, or Unavailable."""


class Discovery(Protocol[Seen]):
    """Finds what is in an account; written by the slice that owns identities."""

    async def look(self, access: RoleAccess, *, probe: bool) -> Seen:
        """Everything in one Region; `probe`: try harmlessly whether policies may be written. Refused, Unavailable."""

    async def record(
        self, session: AsyncSession, connection: Connection, seen: Sequence[Seen], *, began: datetime
    ) -> None:
        """Stores it; `began` is the database's time before the look, so that newer reads are not overwritten."""


async def run(
    db: Database,
    sts: RoleAssumer,
    discovery: Discovery[Seen],
    *,
    release: Release,
    only: Sequence[UUID] | None = None,
) -> int:
    """Checks role connections that are due and returns how many; one that cannot be checked never stops the others."""

    async def check(claim: Claim) -> None:
        await _check(db, sts, discovery, claim, release)

    return await due.work(db, Connection.__tablename__, check, most=_AT_ONCE, lease=LEASE, only=only)


async def _check(db: Database, sts: RoleAssumer, discovery: Discovery[Seen], claim: Claim, release: Release) -> None:
    caller = Caller.system(claim.tenant_id, job="verify")
    row, began = await _read(db, caller, claim.id)
    reach("connections.claimed")
    finding, text, seen = await _examine(sts, discovery, row)
    reach("connections.examined")
    if finding is Finding.GOOD:
        await displace(db, row.account_id, claim.tenant_id, release=release)
    await _settle(db, caller, claim, discovery, outcome=(finding, text), seen=seen, began=began)
    reach("connections.settled")


async def _read(db: Database, caller: Caller, connection_id: UUID) -> tuple[Connection, datetime]:
    async with db.read(caller) as session:
        query = select(Connection, func.now()).where(
            Connection.id == connection_id, Connection.tenant_id == caller.tenant
        )
        row, now = (await session.execute(query)).one()
        return row, now


async def _examine(
    sts: RoleAssumer, discovery: Discovery[Seen], row: Connection
) -> tuple[Finding, str, Sequence[Seen]]:
    """No transaction is open here. The text is AWS's."""
    try:
        async with asyncio.timeout(_DEADLINE.total_seconds()):
            finding, text = await _trust(sts, row.access(row.regions[0]), row.account_id)
            if finding is not Finding.GOOD:
                return finding, text, ()
            if Role.OWNER not in row.roles:
                # A delegate's account has no identities that concern us; its routes tell what right they lack.
                return Finding.GOOD, "", ()
            probe = row.state != State.VERIFIED
            return Finding.GOOD, "", [await discovery.look(row.access(region), probe=probe) for region in row.regions]
    except Unavailable as error:
        return Finding.UNREACHABLE, error.detail, ()
    except Refused as error:
        return Finding.LACKS_RIGHTS, error.detail, ()
    except TimeoutError:
        return Finding.UNREACHABLE, "AWS was too slow to check the role.", ()


async def _trust(sts: RoleAssumer, access: RoleAccess, account_id: str) -> tuple[Finding, str]:
    """Can be assumed with our ExternalId, and neither without one nor with another.

    Others are one that has nothing of ours, and two around ours, for a pattern that ours fits (StringLike).
    """
    try:
        found = await sts.assume(access, external_id=access.external_id)
    except Refused as error:
        return Finding.NOT_ASSUMABLE, error.detail
    reach("connections.assumed")
    if found != account_id:
        return Finding.OTHER_ACCOUNT, ""
    if await _opens(sts, access, None):
        return Finding.WITHOUT_EXTERNAL_ID, ""
    extra = secrets.token_hex(1)
    for other in (secrets.token_hex(24), access.external_id + extra, extra + access.external_id):
        if await _opens(sts, access, other):
            return Finding.ANY_EXTERNAL_ID, ""
    return Finding.GOOD, ""


async def _opens(sts: RoleAssumer, access: RoleAccess, external_id: str | None) -> bool:
    try:
        await sts.assume(access, external_id=external_id)
    except Refused as error:
        if error.code != "AccessDenied":
            raise Unavailable(f"STS gave no clear answer: {error.detail}") from error
        return False
    return True


async def _settle(
    db: Database,
    caller: Caller,
    claim: Claim,
    discovery: Discovery[Seen],
    *,
    outcome: tuple[Finding, str],
    seen: Sequence[Seen],
    began: datetime,
) -> None:
    finding, text = outcome
    async with db.begin(caller) as session:
        query = select(Connection).where(Connection.id == claim.id, Connection.tenant_id == caller.tenant)
        # Not FOR UPDATE: whoever writes an identity takes a share of its connection's key, and is waited for below.
        row = (await session.execute(query.with_for_update(key_share=True))).scalar_one()
        if row.state == State.REMOVED:
            await due.settle(session, claim, again_in=None)
            return
        if finding is Finding.GOOD and not await bind(session, row):
            finding = Finding.BOUND_ELSEWHERE
        before = State(row.state)
        was_verified = row.verified_at is not None
        verdict = judge(finding, text, state=before, was_verified=was_verified, attempts=claim.attempts)
        row.state, row.reason = verdict.state, verdict.reason
        if finding is Finding.GOOD:
            row.verified_at = row.verified_at or began
            await discovery.record(session, row, seen, began=began)
        reach("connections.recorded")
        await announce(session, caller, row, before=before)
        await due.settle(session, claim, again_in=verdict.again_in, failed=verdict.failed)
