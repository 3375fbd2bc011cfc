"""Works on replays: queues the next bounded batch of each, once a second, until everything is queued."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due, log
from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.due import Claim, Superseded
from broker.points import reach
from broker.webhooks import endpoints
from broker.webhooks.models import EndpointRow
from broker.webhooks.replays import batches, held
from broker.webhooks.replays.models import Kind, ReplayRow, State

KIND = "replays"
LEASE = timedelta(seconds=30)
AT_ONCE = 8
EVERY = timedelta(seconds=1)
WAIT = timedelta(seconds=5)
LOOKS = 20
"""So many looks at what the endpoint does not want fit into one step: a transaction stays short."""

GIVEN_UP = "Its catch-up was cancelled."
GIVE_UP_AT_ONCE = 1000

logger = log.get(__name__)


async def run(db: Database, *, only: Sequence[UUID] | None = None) -> int:
    """One step of each job that is due (of those in `only`, if given); returns how many. `db` under broker_worker."""

    async def do(claimed: Claim) -> None:
        await step(db, claimed)

    return await due.work(db, KIND, do, most=AT_ONCE, lease=LEASE, only=only)


async def step(db: Database, claimed: Claim) -> None:
    """One transaction: the rows, the counts, the position and the end of the lease, or none of them.

    `Superseded`, with nothing written, when another worker has claimed the job since.
    """
    caller = Caller.system(claimed.tenant_id, job=KIND)
    async with db.begin(caller) as session:
        again_in = await move(session, caller, claimed)
        reach("replays.queued")
        await due.settle(session, claimed, again_in=again_in)
    reach("replays.stepped")


async def move(session: AsyncSession, caller: Caller, claimed: Claim) -> timedelta | None:
    """Queues the job's next batch and writes down how far it is; when to go on, or None: it has ended."""
    query = select(ReplayRow).where(ReplayRow.id == claimed.id, ReplayRow.fence == claimed.fence).with_for_update()
    job = await session.scalar(query)
    if job is None:
        raise Superseded(f"Replay {claimed.id} was claimed by another worker.")
    again_in = await _move(session, caller, job)
    await session.flush()
    return again_in


async def _move(session: AsyncSession, caller: Caller, job: ReplayRow) -> timedelta | None:
    state = await session.scalar(select(EndpointRow.state).where(EndpointRow.id == job.endpoint_id))
    if job.state is State.CANCELLED:
        return await _give_up(session, job, endpoint_state=state)
    if job.state is State.DONE:
        return None
    if state == "deleted":
        await _end(session, caller, job, to=State.CANCELLED, reason="The endpoint was deleted.")
        return None
    if state != "active":
        job.reason = f"It waits: the endpoint is {state}."
        return WAIT
    if job.kind is not Kind.CATCH_UP and await _catching_up(session, job):
        job.reason = "It waits: the endpoint catches up first."
        return WAIT
    job.reason = None
    return await _queue(session, caller, job)


async def _queue(session: AsyncSession, caller: Caller, job: ReplayRow) -> timedelta | None:
    await batches.pin(session)
    if job.until_xact is None:
        job.until_xact, wanted = await batches.size_up(session, job)
        job.total = None if wanted is None else job.queued + wanted
    room = job.rate
    if job.kind is Kind.CATCH_UP:
        room -= await held.bring_back(session, job, room=room)
    look = None
    for _ in range(LOOKS):
        if room == 0:
            break
        look = await batches.queue(session, job, room=room)
        job.after_xact, job.after_id = look.position
        room -= look.queued
        if look.looked_at < batches.SCAN:
            break
    queued = job.rate - room
    job.queued += queued
    if queued:
        await endpoints.wake(session, caller, job.endpoint_id)
    if room and look and look.settled and look.looked_at < batches.SCAN:
        job.total = job.queued
        await _end(session, caller, job, to=State.DONE)
        return None
    # What was only looked at costs the receiver nothing.
    return EVERY if queued or (look and look.looked_at < batches.SCAN) else timedelta(0)


async def _give_up(session: AsyncSession, job: ReplayRow, *, endpoint_state: str | None) -> timedelta | None:
    """What a cancelled catch-up had not brought back yet is dead: listed, and there to be recovered.

    Not while the endpoint is disabled: somebody may be enabling it, and the next catch-up takes care of them.
    """
    if job.kind is not Kind.CATCH_UP or endpoint_state == "deleted" or await _catching_up(session, job):
        return None
    if endpoint_state == "disabled":
        return WAIT
    gone = await held.give_up(session, job, room=GIVE_UP_AT_ONCE, reason=GIVEN_UP)
    return timedelta(0) if gone == GIVE_UP_AT_ONCE else None


async def _catching_up(session: AsyncSession, job: ReplayRow) -> bool:
    other = exists().where(
        ReplayRow.endpoint_id == job.endpoint_id,
        ReplayRow.tenant_id == job.tenant_id,
        ReplayRow.kind == Kind.CATCH_UP,
        ReplayRow.state == State.RUNNING,
        ReplayRow.id != job.id,
    )
    return bool(await session.scalar(select(other)))


async def _end(session: AsyncSession, caller: Caller, job: ReplayRow, *, to: State, reason: str | None = None) -> None:
    job.state, job.reason = to, reason
    job.ended_at = func.now()
    told: dict[str, Any] = {"reason": reason} if reason else {}
    await record(session, caller, f"replay.{to}", subject=("replay", job.id), endpoint_id=str(job.endpoint_id), **told)
