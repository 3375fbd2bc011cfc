"""Sync: makes the policies on an identity equal to its live grants. The due row is the identity.

Claim, read the paper, act on SES with no transaction open, and settle what the read-back showed, unless the paper
changed meanwhile: then the row is due again, and a late apply cannot bring back what was revoked.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, select, text, true

from broker import due, log
from broker.db import Database
from broker.due import Claim
from broker.errors import BrokerError, Refused
from broker.grants import ahead
from broker.grants.act import Acting, Drift, Reading
from broker.grants.adopting.swap import replace_policies
from broker.grants.ahead import Sent
from broker.grants.byhand import wait_for_owner
from broker.grants.calls import CALL_MARGIN, IdentityPolicies
from broker.grants.denies import DENY_KEPT, rename
from broker.grants.drift import notice
from broker.grants.hooks import Hooks
from broker.grants.outcome import settle_failure, settle_reading
from broker.grants.wanted import Work, load
from broker.identities.models import PolicyDocument
from broker.ids import new_id
from broker.points import reach
from broker.policies.normal import same_meaning
from broker.policies.plan import DENY, parse_name, policy_name

KIND = "identities"
LEASE = timedelta(seconds=30)
AT_ONCE = 10  # identities worked on side by side
FIRST_RETRY, LONGEST_RETRY = timedelta(milliseconds=200), timedelta(seconds=60)

logger = log.get(__name__)


class Pace(msgspec.Struct, frozen=True):
    """How far apart the two reads of a removal are, and how often an identity is looked at without reason.

    `deny_kept`: for how long a Deny stays after the first read without the Allow.
    """

    readback_gap: timedelta
    check_every: timedelta
    deny_kept: timedelta = DENY_KEPT


async def run(
    db: Database,
    ses: IdentityPolicies,
    pace: Pace,
    *,
    hooks: Hooks,
    only: Sequence[UUID] | None = None,
) -> int:
    """Works on the identities that are due (of those in `only`, if given); returns how many."""

    async def make_equal(claim: Claim) -> None:
        await _sync(db, ses, pace, hooks, claim)

    return await due.work(db, KIND, make_equal, most=AT_ONCE, lease=LEASE, only=only)


async def _sync(db: Database, ses: IdentityPolicies, pace: Pace, hooks: Hooks, claim: Claim) -> None:
    sending = asyncio.ensure_future(ahead.send(ses, claim, lease=LEASE))
    await asyncio.sleep(0)  # it is on its way before the paper is asked for
    try:
        await _make_equal(db, ses, pace, hooks, claim, sending)
    finally:
        sending.cancel()  # over by now, but where nobody waited for it
        await asyncio.gather(sending, return_exceptions=True)


async def _make_equal(
    db: Database, ses: IdentityPolicies, pace: Pace, hooks: Hooks, claim: Claim, sending: Awaitable[Sent | None]
) -> None:
    work = await load(db, claim, deny_kept=pace.deny_kept)
    reach("policies.loaded")
    if work.by_hand:
        await wait_for_owner(db, work, check_every=pace.check_every)
        return
    until = asyncio.get_running_loop().time() + (LEASE - CALL_MARGIN).total_seconds()
    try:
        reading = await _act(db, ses, work, sending)
        reading = await replace_policies(db, ses, work, reading, gap=pace.readback_gap, until=until)
    except BrokerError as error:
        reach("policies.failing")
        again = due.back_off(claim.attempts, first=FIRST_RETRY, most=LONGEST_RETRY)
        await settle_failure(db, work, error, hooks, again_in=again)
    else:
        reach("policies.settling")
        await settle_reading(db, work, reading, pace.readback_gap, pace.check_every, hooks)
        reach("policies.settled")


async def _act(db: Database, ses: IdentityPolicies, work: Work, sending: Awaitable[Sent | None]) -> Reading:
    if work.access is None:
        if not work.grants:
            return Reading({}, {}, frozenset(), {})
        raise Refused("The owner's AWS account is not connected any more.", code="NotConnected")

    async def reserve(slot: int, document: str, observed: Mapping[str, str]) -> str:
        if slot == DENY:
            async with db.begin(work.caller) as session:
                return await rename(session, work.claim.id, document)
        name = await _reserve(db, work, slot, document, observed=observed)
        reach("policies.reserved")
        return name

    async def tell(drift: Drift) -> None:
        await notice(db, work, drift)

    return await Acting(work, ses, access=work.access, lease=LEASE, sending=sending).run(reserve, tell)


async def _reserve(db: Database, work: Work, slot: int, document: str, *, observed: Mapping[str, str]) -> str:
    """The name under which to write: a new version, or the last one where it says the same and is not to be seen.

    One from before the grant was resumed is not used again: what removed it may still be on its way. It is on paper
    before SES hears of it. A name is never written with other content; one that SES shows with other
    content was changed by somebody else, and is left behind.
    """
    async with db.begin(work.caller) as session:
        written = await session.execute(
            select(PolicyDocument.name, PolicyDocument.document).where(
                PolicyDocument.identity_id == work.claim.id,
                PolicyDocument.ours,
                _since_resumed(work, slot),
            )
        )
        versions = {
            parsed.version: (name, text)
            for name, text in written
            if (parsed := parse_name(name)) and parsed.slot == slot
        }
        if versions:
            name, text_before = versions[max(versions)]
            if name not in observed and same_meaning(text_before, document):
                return name
        version: int = (await session.execute(text("SELECT nextval('policy_versions')"))).scalar_one()
        name = policy_name(slot, version)
        session.add(
            PolicyDocument(
                id=new_id(),
                tenant_id=work.claim.tenant_id,
                identity_id=work.claim.id,
                name=name,
                document=document,
                digest=hashlib.sha256(document.encode()).digest(),
                ours=True,
            )
        )
        return name


def _since_resumed(work: Work, slot: int) -> ColumnElement[bool]:
    resumed = [grant.resumed_at for grant in work.grants if grant.slot == slot and grant.resumed_at is not None]
    return PolicyDocument.seen_at > max(resumed) if resumed else true()
