"""What a read-back says of grants whose access was taken back: protected by a Deny or by reads, and at last sealed."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from broker.grants.act import Reading
from broker.grants.denies import Deny, claim
from broker.grants.lifecycle import Effect
from broker.grants.models import Grant
from broker.grants.wanted import Work
from broker.identities.models import Identity
from broker.policies.deny import UNSEEN, ProtectedBy, Protection, protects, touched
from broker.policies.narrow import narrows, with_refusal
from broker.policies.normal import same_meaning
from broker.policies.plan import is_ours, parse_name

AGAIN_AFTER = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5))
"""When it is read once more, counted from the first read without the Allow; the last time is when the Deny goes."""

SOON, LATER = timedelta(seconds=1), timedelta(minutes=1)
"""Until the next look at what SES does not show yet, and at what only time or the owner changes."""


async def protect(session: AsyncSession, work: Work, grant: Grant, identity: Identity, reading: Reading) -> None:
    """Notes what protects a grant now, by what was read under the name that is on paper."""
    found = work.deny.protections.get(grant.id)
    if found is None or grant.id in work.deny.over:
        return
    if found.by is ProtectedBy.reads or not _is_behind(work.deny, grant, identity, reading):
        if reading.deny_refused is not None and _was_tried(work.deny, grant):
            found = with_refusal(found, reading.deny_refused)
        elif found.by is ProtectedBy.deny:
            found = Protection(ProtectedBy.reads, UNSEEN)
    await claim(session, identity, grant, found)


def may_seal(work: Work, grant: Grant, reading: Reading) -> bool:
    """Whether the Deny was kept long enough, is gone, and the last read is clean, as was all of this run."""
    denies = [text for name, text in reading.observed.items() if _is_deny(name)]
    return (
        grant.id in work.deny.over
        and grant.sealed_at is None
        and grant.effect is Effect.REMOVED
        and not reading.unclean
        and all(same_meaning(text, work.deny.document or "") for text in denies)
    )


def next_look(work: Work, grant: Grant, reading: Reading, *, since_gone: timedelta) -> timedelta:
    """How long until a grant that is not sealed has to be read again; `since_gone` from the first clean read."""
    deny = work.deny
    if _foreign(reading.observed) != work.foreign:
        return timedelta(0)  # whom a Deny must not cover may be another now
    if narrows(grant.protection):
        return SOON  # the next Deny is another one
    if grant.id in deny.over:
        return SOON if reading.unclean else LATER
    if deny.name is not None and deny.name not in reading.observed and reading.deny_refused is None:
        return SOON
    dates = [date - since_gone for date in (*AGAIN_AFTER, deny.kept) if since_gone < date <= deny.kept]
    return min(dates, default=timedelta(0))


def _was_tried(deny: Deny, grant: Grant) -> bool:
    """Whether the Deny of this run names any principal of the grant."""
    return touched({deny.name or "": deny.document or ""}, deny.taken[grant.id])


def _is_behind(deny: Deny, grant: Grant, identity: Identity, reading: Reading) -> bool:
    named = identity.deny_name
    ours = {name: text for name, text in reading.observed.items() if name == named}
    return protects(ours, deny.taken[grant.id], identity.arn)


def _foreign(observed: Mapping[str, str]) -> Mapping[str, str]:
    return {name: text for name, text in observed.items() if not is_ours(name)}


def _is_deny(name: str) -> bool:
    parsed = parse_name(name)
    return parsed is not None and parsed.is_deny
