"""What somebody else did to our policies: noted and told as soon as it is read, before anything of it is put back.

In a transaction of its own, since the run may end before it settles, and what it has put back by then no later read
can tell from what was never touched.
"""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.db import Database
from broker.due import Superseded
from broker.grants.act import Drift
from broker.grants.denies import claim
from broker.grants.lifecycle import Effect, Paper
from broker.grants.models import Grant
from broker.grants.telling import tell
from broker.grants.wanted import Wanted, Work
from broker.grants.written import written
from broker.identities.models import Identity
from broker.policies.deny import UNSEEN, ProtectedBy, Protection
from broker.policies.normal import parts
from broker.policies.plan import is_ours


async def notice(db: Database, work: Work, drift: Drift) -> None:
    """Writes down and tells both parties what the first read of a run showed; `Superseded` where it is not ours."""
    known = {each.id: each for each in work.grants}
    async with db.begin(work.caller) as session:
        grants, identity = await _lock(session, work, drift)
        touched = await _touched(session, work, drift)
        for grant in grants:
            if grant.id in drift.unshut:
                if grant.protected_by == ProtectedBy.deny:
                    await claim(session, identity, grant, Protection(ProtectedBy.reads, UNSEEN))
            elif _is_agreed_still(known[grant.id], grant) and grant.id in drift.removed | touched:
                await _mark(session, work, grant, removed=grant.id in drift.removed)


async def _lock(session: AsyncSession, work: Work, drift: Drift) -> tuple[list[Grant], Identity]:
    """Grants, identity, and then lanes: as whoever decides on a grant."""
    concerned = drift.removed | drift.altered | drift.unshut
    query = select(Grant).where(Grant.id.in_(concerned)).order_by(Grant.id).with_for_update(key_share=True)
    grants = list(await session.scalars(query))
    identity = await session.get_one(Identity, work.claim.id, with_for_update={"key_share": True})
    if identity.fence != work.claim.fence:
        raise Superseded(f"{work.claim.kind} {work.claim.id} was claimed by another worker.")
    return grants, identity


async def _touched(session: AsyncSession, work: Work, drift: Drift) -> frozenset[UUID]:
    """Those of the altered whose policy is not as we wrote it. One that is, is only not what we would write now."""
    if not drift.altered:
        return frozenset()
    ours = {name: text for name, text in drift.observed.items() if is_ours(name)}
    wrote = await written(session, work.claim.id, names=ours)
    untouched = {
        grant
        for name, text in ours.items()
        for grant, form in parts(text).items()
        if name in wrote and parts(wrote[name]).get(grant) == form
    }
    return drift.altered - untouched


def _is_agreed_still(known: Wanted, grant: Grant) -> bool:
    """Whether it is still meant to send. One that was resumed meanwhile was taken away by ourselves."""
    return grant.paper is Paper.AGREED and grant.resumed_at == known.resumed_at and not grant.drifted


async def _mark(session: AsyncSession, work: Work, grant: Grant, *, removed: bool) -> None:
    """What takes access away is for the owner to undo. Anything else we put back, and until that was read say so."""
    if removed:
        grant.drifted = True
    elif grant.effect is Effect.APPLIED:
        grant.effect = Effect.APPLYING
    await tell(session, work, grant, "grant.drifted")
