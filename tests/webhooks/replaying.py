"""What the tests of replays share: steps of a job without waiting, events in bulk, and the sum of all deliveries."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from broker import due
from broker.caller import Caller
from broker.clock import now
from broker.db import Database, Role
from broker.webhooks import counts
from broker.webhooks.deliveries import HELD
from broker.webhooks.replays import service, work
from broker.webhooks.replays.models import State
from broker.webhooks.replays.views import ReplayView, Since, Stretch
from tests.webhooks.conftest import rows

KEPT = timedelta(days=30)


def stretch(*, hours: float = 1, rate: int = 50, until: datetime | None = None) -> Stretch:
    """The last hours, or those before `until`."""
    return Stretch(from_=(until or now()) - timedelta(hours=hours), until=until, rate=rate)


async def replay(db: Database, caller: Caller, endpoint_id: UUID, wanted: Stretch | None = None) -> ReplayView:
    """A job over the last hour, unless told otherwise."""
    return await service.replay(db, caller, endpoint_id, wanted=wanted or stretch(), kept=KEPT)


async def recover(db: Database, caller: Caller, endpoint_id: UUID, *, rate: int = 50) -> ReplayView:
    """A job over what died in the last hour."""
    wanted = Since(since=now() - timedelta(hours=1), rate=rate)
    return await service.recover(db, caller, endpoint_id, wanted=wanted)


async def second_passes(db: Database, caller: Caller, replay_id: UUID) -> None:
    """Makes a job that waits for its next second due, and leaves one that has ended alone."""
    async with db.begin(caller) as session:
        await session.execute(
            text("UPDATE replays SET due_at = now() WHERE id = :id AND due_at IS NOT NULL"), {"id": replay_id}
        )


async def step(db: Database, caller: Caller, replay_id: UUID) -> ReplayView:
    """One step of one job, as if a second had passed; how it stands then."""
    await second_passes(db, caller, replay_id)
    worker = db.as_role(Role.WORKER)
    for claimed in await due.claim(worker, work.KIND, most=1, lease=work.LEASE, only=[replay_id]):
        await work.step(worker, claimed)
    return await service.show(db, caller, replay_id)


async def finish(db: Database, caller: Caller, replay_id: UUID) -> ReplayView:
    """All steps of one job."""
    for _ in range(200):
        shown = await step(db, caller, replay_id)
        if shown.state is not State.RUNNING:
            return shown
    raise TimeoutError("The job does not end.")


async def is_due_in(db: Database, caller: Caller, replay_id: UUID) -> float | None:
    """Seconds until the job is to be looked at again; None: never."""
    (row,) = await rows(
        db, caller, "SELECT extract(epoch FROM due_at - now()) AS wait FROM replays WHERE id = :id", id=replay_id
    )
    return None if row.wait is None else float(row.wait)


async def happened_in_bulk(db: Database, caller: Caller, count: int, *, over: timedelta = timedelta(0)) -> None:
    """Stores events of the caller that nobody is told of, spread evenly from `over` ago until just now."""
    async with db.begin(caller) as session:
        await session.execute(
            text(
                "INSERT INTO events (id, at, type, owner_id, owner_view, source, data)"
                " SELECT gen_random_uuid(), now() - interval '1 second' - CAST(:over AS interval) * n / :count,"
                " 'email.delivered', :me, 'full', 'broker_topic', '{}' FROM generate_series(1, :count) n"
            ),
            {"count": count, "over": over, "me": caller.tenant},
        )


async def delivered(db: Database, caller: Caller, endpoint_id: UUID) -> int:
    """Delivers everything that is pending for an endpoint, as far as the tables know; how many there were."""
    async with db.as_role(Role.PUMP).begin(caller) as session:
        count: int = (
            await session.execute(
                text(
                    "WITH gone AS (DELETE FROM deliveries WHERE endpoint_id = :id RETURNING *), counted AS ("
                    " INSERT INTO delivery_deltas (tenant_id, day, delivered)"
                    " SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*) FROM gone GROUP BY 1, 2"
                    "), logged AS (INSERT INTO attempts (id, at, tenant_id, endpoint_id, event_id, event_at, number,"
                    " status, latency_ms) SELECT gen_random_uuid(), now(), tenant_id, endpoint_id, event_id, event_at,"
                    " 1, 200, 3 FROM gone) SELECT count(*) FROM gone"
                ),
                {"id": endpoint_id},
            )
        ).scalar_one()
        return count


async def died(db: Database, caller: Caller, endpoint_id: UUID, *, ago: timedelta = timedelta(0)) -> int:
    """Gives up everything that is pending for an endpoint, as far as the tables know; how many there were."""
    async with db.as_role(Role.PUMP).begin(caller) as session:
        count: int = (
            await session.execute(
                text(
                    "WITH gone AS (DELETE FROM deliveries WHERE endpoint_id = :id RETURNING *), dead AS ("
                    " INSERT INTO dead_deliveries (endpoint_id, event_id, event_at, tenant_id, attempts, reason,"
                    " died_at, replay_id) SELECT endpoint_id, event_id, event_at, tenant_id, 10, 'No answer.',"
                    " now() - CAST(:ago AS interval), replay_id FROM gone"
                    "), counted AS (INSERT INTO delivery_deltas (tenant_id, day, dead)"
                    " SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*) FROM gone GROUP BY 1, 2)"
                    " SELECT count(*) FROM gone"
                ),
                {"id": endpoint_id, "ago": ago},
            )
        ).scalar_one()
        return count


async def due_now(db: Database, caller: Caller, endpoint_id: UUID) -> list[UUID]:
    """The events of an endpoint's deliveries that are due."""
    query = "SELECT event_id FROM deliveries WHERE endpoint_id = :id AND next_at <= now() ORDER BY event_id"
    return [row.event_id for row in await rows(db, caller, query, id=endpoint_id)]


async def dead(db: Database, caller: Caller, endpoint_id: UUID) -> int:
    """How many of an endpoint's deliveries are dead."""
    query = "SELECT count(*) AS count FROM dead_deliveries WHERE endpoint_id = :id"
    (row,) = await rows(db, caller, query, id=endpoint_id)
    return int(row.count)


async def sums(db: Database, caller: Caller) -> dict[str, int]:
    """The tenant's counters of all days added up; that each day is in balance is checked here."""
    today = now().date()
    async with db.read(caller) as session:
        found = await counts.days(session, caller.tenant, first=today - timedelta(days=60), last=today)
    assert [0] * len(found) == [day.missing for day in found]
    names = ("created", "delivered", "pending", "dead", "cancelled")
    return {name: sum(getattr(day, name) for day in found) for name in names}


async def disabled(db: Database, caller: Caller, endpoint_id: UUID) -> None:
    """Disables an endpoint, as a pump does after five days of failures."""
    async with db.as_role(Role.PUMP).begin(caller) as session:
        await session.execute(
            text(
                "UPDATE endpoints SET state = 'disabled', reason = 'It failed.', disabled_at = now(),"
                " disabled_xact = pg_snapshot_xmin(pg_current_snapshot())::text::bigint WHERE id = :id"
            ),
            {"id": endpoint_id},
        )


async def the_catch_up(db: Database, caller: Caller, endpoint_id: UUID) -> ReplayView:
    """The newest job of this endpoint."""
    newest, *_ = await service.list_some(db, caller, endpoint_id=endpoint_id)
    return newest


async def put_off(db: Database, caller: Caller, endpoint_id: UUID) -> int:
    """How many of an endpoint's deliveries wait for their turn."""
    query = "SELECT count(*) AS count FROM deliveries WHERE endpoint_id = :id AND next_at = :held"
    (row,) = await rows(db, caller, query, id=endpoint_id, held=HELD)
    return int(row.count)
