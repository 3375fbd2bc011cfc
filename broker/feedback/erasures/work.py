"""Carries erasures out: one look at a time, until every stage has ended."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.audit.service import record
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.due import Claim, Superseded
from broker.feedback.erasures import elsewhere, in_flight, stages
from broker.feedback.erasures.models import ErasureRow, Stage, State
from broker.feedback.erasures.stages import Step
from broker.feedback.erasures.traces import Traces
from broker.points import reach

KIND = "erasures"
LEASE = timedelta(seconds=60)
AT_ONCE = 2


async def run(db: Database, keyring: Keyring, *, only: Sequence[UUID] | None = None) -> int:
    """One look of each erasure that is due (of those in `only`, if given); how many. `db` under broker_worker."""

    async def do(claimed: Claim) -> None:
        await step(db, keyring, claimed)

    return await due.work(db, KIND, do, most=AT_ONCE, lease=LEASE, only=only)


async def step(db: Database, keyring: Keyring, claimed: Claim) -> None:
    """One transaction: what is blanked, the counts, the position and the end of the lease, or none of them."""
    caller = Caller.system(claimed.tenant_id, job=KIND)
    async with db.begin(caller) as session:
        query = select(ErasureRow).where(ErasureRow.id == claimed.id, ErasureRow.fence == claimed.fence)
        job = await session.scalar(query.with_for_update())
        if job is None:
            raise Superseded(f"Erasure {claimed.id} was claimed by another worker.")
        again_in = await _advance(session, caller, job, keyring) if job.address else None
        await session.flush()
        reach("erasures.blanked")
        await due.settle(session, claimed, again_in=again_in)
    reach("erasures.stepped")


async def _advance(session: AsyncSession, caller: Caller, job: ErasureRow, keyring: Keyring) -> timedelta | None:
    found = await _look(session, caller, job, keyring)
    job.erased = _added(job.erased, found.erased)
    if found.waits:
        return found.waits
    if not found.ended:
        return timedelta(0)
    following = _after(job.stage)
    stages.begin(job, following)
    if following is not None:
        return timedelta(0)
    job.state, job.address = State.DONE, None
    job.ended_at = func.now()
    await record(session, caller, "erasure.done", subject=("erasure", job.id), erased=job.erased)
    return None


async def _look(session: AsyncSession, caller: Caller, job: ErasureRow, keyring: Keyring) -> Step:
    traces = Traces(keyring.open(job.address or b"").decode())
    match job.stage:
        case Stage.OWNED | Stage.LENT:
            return await stages.events(session, caller, job, traces, keyring)
        case Stage.IN_FLIGHT:
            return await in_flight.wait(session, job)
        case Stage.ATTEMPTS:
            return await elsewhere.attempts(session, caller, job, traces)
        case Stage.QUARANTINE:
            return await elsewhere.quarantine(session, caller, job, traces)
        case Stage.ANSWERS:
            return await elsewhere.answers(session, caller, traces, keyring)
        case _:
            return await elsewhere.recipients(session, caller, traces, keyring)


def _after(stage: Stage | None) -> Stage | None:
    order = list(Stage)
    place = order.index(stage) + 1 if stage else len(order)
    return order[place] if place < len(order) else None


def _added(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: before.get(name, 0) + more.get(name, 0) for name in {*before, *more}}
