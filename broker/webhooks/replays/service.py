"""Replays: sending a stretch of events, or everything that failed, again; as a job with progress."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.audit.service import record
from broker.caller import Caller
from broker.clock import now
from broker.db import Database
from broker.errors import Conflict, Flaw, Invalid, NotFound
from broker.idempotency import remember
from broker.ids import new_id
from broker.webhooks.endpoints import find
from broker.webhooks.models import DeadDeliveryRow, DeliveryRow, EndpointRow
from broker.webhooks.replays.models import Kind, ReplayRow, State
from broker.webhooks.replays.views import PER_SECOND, ReplayView, Since, Stretch


async def replay(db: Database, caller: Caller, endpoint_id: UUID, *, wanted: Stretch, kept: timedelta) -> ReplayView:
    """Sends every event of a stretch of time that the endpoint's filters give it, delivered before or not.

    `kept`: for how long events are.

    `Invalid` with the field; `Conflict` when the endpoint is disabled, or another replay of it is running.
    """
    at = now()
    until = wanted.until or at
    flaws = []
    if until > at:
        flaws.append(Flaw("/until", "Must not be in the future."))
    if wanted.from_ >= until:
        flaws.append(Flaw("/from", "Must be before the end, and in the past."))
    if wanted.from_ < at - kept:
        flaws.append(Flaw("/from", f"Events are kept for {kept.days} days."))
    _refuse(flaws)
    return await _start(db, caller, endpoint_id, Kind.RANGE, (wanted.from_, until), rate=wanted.rate)


async def recover(db: Database, caller: Caller, endpoint_id: UUID, *, wanted: Since) -> ReplayView:
    """Sends everything that was given up since a time again; errors as in `replay`."""
    at = now()
    _refuse([Flaw("/since", "Must be in the past.")] if wanted.since >= at else [])
    return await _start(db, caller, endpoint_id, Kind.FAILED, (wanted.since, at), rate=wanted.rate)


async def catch_up(session: AsyncSession, caller: Caller, endpoint: EndpointRow) -> None:
    """Queues what was put off and what a disabled endpoint missed, in the transaction that enables it.

    A catch-up that an earlier disabling has interrupted goes on from where it was, up to now.
    """
    query = select(ReplayRow).where(*_running(caller, endpoint.id), ReplayRow.kind == Kind.CATCH_UP).with_for_update()
    job = await session.scalar(query)
    if job is None:
        job = ReplayRow(
            id=new_id(),
            tenant_id=caller.tenant,
            endpoint_id=endpoint.id,
            kind=Kind.CATCH_UP,
            state=State.RUNNING,
            rate=PER_SECOND,
            from_at=endpoint.disabled_at or now(),
            until_at=now(),
            after_xact=endpoint.disabled_xact or 0,
            key_id=caller.key_id,
        )
        session.add(job)
    job.until_at, job.until_xact, job.total = now(), None, None
    due.wake(session, job)


async def list_some(
    db: Database,
    caller: Caller,
    *,
    endpoint_id: UUID | None = None,
    state: State | None = None,
    after: UUID | None = None,
    limit: int = 50,
) -> Sequence[ReplayView]:
    """One's jobs, newest first, up to `limit` before the id `after`."""
    query = select(ReplayRow).where(ReplayRow.tenant_id == caller.tenant).order_by(ReplayRow.id.desc()).limit(limit)
    if state is not None:
        query = query.where(ReplayRow.state == state)
    if after is not None:
        query = query.where(ReplayRow.id < after)
    async with db.read(caller) as session:
        if endpoint_id is not None:
            await find(session, caller, endpoint_id)
            query = query.where(ReplayRow.endpoint_id == endpoint_id)
        return [_view(row) for row in await session.scalars(query)]


async def show(db: Database, caller: Caller, replay_id: UUID) -> ReplayView:
    """One job with its progress; `NotFound`."""
    async with db.read(caller) as session:
        return await _progress(session, await _find(session, caller, replay_id))


async def cancel(db: Database, caller: Caller, replay_id: UUID) -> ReplayView:
    """Queues nothing more; what is queued is still sent. `Conflict` when the job is done.

    What a catch-up has not brought back yet is given up: it is listed as dead, and can be recovered.
    """
    async with db.begin(caller) as session:
        job = await _find(session, caller, replay_id, locked=True)
        if job.state is State.DONE:
            raise Conflict("The replay is done already.")
        if job.state is State.RUNNING:
            job.state, job.reason = State.CANCELLED, None
            job.ended_at = func.now()
            due.wake(session, job)
            await session.flush()
            await session.refresh(job)
            await record(
                session, caller, "replay.cancelled", subject=("replay", job.id), endpoint_id=str(job.endpoint_id)
            )
        return await remember(session, caller, await _progress(session, job))


async def _start(
    db: Database, caller: Caller, endpoint_id: UUID, kind: Kind, stretch: tuple[datetime, datetime], *, rate: int
) -> ReplayView:
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, endpoint_id)
        if endpoint.state == "disabled":
            raise Conflict("The endpoint is disabled; enable it first.")
        await _refuse_second(session, caller, endpoint_id)
        job = await session.scalar(
            insert(ReplayRow)
            .values(
                id=new_id(),
                tenant_id=caller.tenant,
                endpoint_id=endpoint_id,
                kind=kind,
                state=State.RUNNING,
                rate=rate,
                from_at=stretch[0],
                until_at=stretch[1],
                key_id=caller.key_id,
            )
            .on_conflict_do_nothing()
            .returning(ReplayRow)
        )
        if job is None:  # another request was faster by a moment
            await _refuse_second(session, caller, endpoint_id)
            raise Conflict("Another replay of this endpoint was running; try again.")
        due.wake(session, job)
        await record(
            session,
            caller,
            "replay.started",
            subject=("replay", job.id),
            kind=kind,
            endpoint_id=str(endpoint_id),
            rate=rate,
        )
        return await remember(session, caller, _view(job))


async def _refuse_second(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> None:
    running = await session.scalar(select(ReplayRow.id).where(*_running(caller, endpoint_id)).limit(1))
    if running is not None:
        raise Conflict(f"The replay {running} of this endpoint is running; wait for its end, or cancel it.")


def _running(caller: Caller, endpoint_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return (
        ReplayRow.tenant_id == caller.tenant,
        ReplayRow.endpoint_id == endpoint_id,
        ReplayRow.state == State.RUNNING,
    )


async def _find(session: AsyncSession, caller: Caller, replay_id: UUID, *, locked: bool = False) -> ReplayRow:
    query = select(ReplayRow).where(ReplayRow.id == replay_id, ReplayRow.tenant_id == caller.tenant)
    job = await session.scalar(query.with_for_update() if locked else query)
    if job is None:
        raise NotFound("There is no replay with this id.")
    return job


def _refuse(flaws: list[Flaw]) -> None:
    if flaws:
        raise Invalid(" ".join(flaw.detail for flaw in flaws), flaws=tuple(flaws))


async def _progress(session: AsyncSession, job: ReplayRow) -> ReplayView:
    pending = await _of(session, DeliveryRow, job)
    dead = await _of(session, DeadDeliveryRow, job)
    return _view(job, pending=pending, dead=dead)


async def _of(session: AsyncSession, row: type[DeliveryRow] | type[DeadDeliveryRow], job: ReplayRow) -> int:
    query = select(func.count()).select_from(row).where(row.replay_id == job.id, row.tenant_id == job.tenant_id)
    return (await session.execute(query)).scalar_one()


def _view(job: ReplayRow, *, pending: int | None = None, dead: int | None = None) -> ReplayView:
    return ReplayView(
        id=job.id,
        endpoint_id=job.endpoint_id,
        kind=job.kind,
        state=job.state,
        reason=job.reason,
        from_=job.from_at,
        until=job.until_at,
        rate=job.rate,
        total=job.total,
        queued=job.queued,
        pending=pending,
        dead=dead,
        delivered=None if pending is None or dead is None else max(job.queued - pending - dead, 0),
        key_id=job.key_id,
        created_at=job.created_at,
        ended_at=job.ended_at,
    )
