"""Results on their way into the database: kept until they are written, and written once, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from broker.caller import NOBODY, Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role, sessions
from broker.direct import Direct
from broker.errors import Unavailable
from broker.ids import new_id
from broker.webhooks import endpoints, health, holding
from broker.webhooks.health import judge
from broker.webhooks.holding import Held, Lines
from broker.webhooks.lane import Lane
from broker.webhooks.leases import LEASE
from broker.webhooks.outbox import MOST_AT_ONCE, Outbox
from broker.webhooks.pacing import Pace
from broker.webhooks.pending import Result
from broker.webhooks.retries import Next, Verdict, decide
from tests.operating import end, operating
from tests.webhooks.conftest import an_event, happened, make_endpoint, rows
from tests.webhooks.test_counts import became, told
from tests.webhooks.waiting import until_told

DELIVERED = decide(1, 200, retry_after=None, chance=0.5)
FAILED = decide(1, 500, retry_after=None, chance=0.5)
SLOW_DOWN = decide(1, 429, retry_after=timedelta(minutes=1), chance=0.5)


class Troubled:
    """A line that fails at the times that a test says: before a statement, or after it was committed."""

    def __init__(self, line: Direct) -> None:
        self.line = line
        self.before = 0
        self.after = 0
        self.sizes: list[int] = []

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        self.sizes.append(len(arguments[3]))
        if self.before:
            self.before -= 1
            raise Unavailable("The database is away.")
        found = await self.line.fetch(statement, *arguments)
        if self.after:
            self.after -= 1
            raise Unavailable("The connection was lost before it could say so.")
        return found


class Case:
    """A lane that a pump holds, with an outbox for what it sends."""

    def __init__(self, lines: Lines, line: Troubled, db: Database) -> None:
        self.line = line
        self.told: list[tuple[Lane, int, bool]] = []
        self.outbox = Outbox(line, db, pump=lines.number, written=self._written)
        self._lines = lines

    async def hold(self, endpoint_id: UUID) -> Lane:
        (held,) = await holding.claim(self._lines.leases, [endpoint_id], pump=self._lines.number, lease=LEASE)
        return Lane(held, until=1e9, pace=Pace())

    def put(self, lane: Lane, event_id: UUID, step: Next = DELIVERED, *, number: int = 1, **changes: Any) -> None:
        """One attempt has ended."""
        fields: dict[str, Any] = {
            "lane_id": lane.held.id,
            "event_id": event_id,
            "number": number,
            "at": now(),
            "verdict": step.verdict,
            "again_in": step.again_in,
            "latency_ms": 5,
            "status": 200 if step.verdict is Verdict.DELIVERED else 500,
        }
        lane.unwritten += 1
        self.outbox.put(lane, Result(**{**fields, **changes}), step)

    def _written(self, lane: Lane, results: Sequence[Result], *, ours: bool) -> None:
        lane.written([result.event_id for result in results])
        self.told.append((lane, len(results), ours))


@pytest.fixture
def case(lines: Lines, pump: Database) -> Case:
    return Case(lines, Troubled(lines.writing), pump)


@pytest_asyncio.fixture
async def endpoint_id(committed_db: Database, keyring: Keyring, tenant: Caller) -> UUID:
    return (await make_endpoint(committed_db, tenant, keyring, "https://hooks.example.com")).id


async def publish(db: Database, tenant: Caller, number: int = 1) -> list[UUID]:
    """The ids of so many new events."""
    events = [an_event(owner=tenant) for _ in range(number)]
    await happened(db, tenant, *events)
    return [event.id for event in events]


async def tries(db: Database, tenant: Caller) -> list[int]:
    """The numbers of the attempts that are logged."""
    return [row.number for row in await rows(db, tenant, "SELECT number FROM attempts ORDER BY number")]


async def test_what_cannot_be_written_now_is_written_later_and_once(
    committed_db: Database, tenant: Caller, endpoint_id: UUID, case: Case
) -> None:
    event_ids = await publish(committed_db, tenant, 3)
    lane = await case.hold(endpoint_id)
    case.line.before = 2
    for event_id in event_ids:
        case.put(lane, event_id)

    for _ in range(2):
        with pytest.raises(Unavailable):
            await case.outbox.flush()
    kept = (lane.unwritten, await tries(committed_db, tenant))
    await case.outbox.flush()
    await case.outbox.flush()

    assert (3, []) == kept
    assert [(lane, 3, True)] == case.told
    assert [1, 1, 1] == await tries(committed_db, tenant)
    assert became(created=3, delivered=3) == await told(committed_db, tenant)


@pytest.mark.parametrize("step", [DELIVERED, FAILED, decide(10, 500, retry_after=None, chance=0.5)])
async def test_what_was_written_before_the_connection_was_lost_is_not_counted_again(
    committed_db: Database, tenant: Caller, endpoint_id: UUID, case: Case, step: Next
) -> None:
    """Nobody knows whether it was committed: so it is written again, and that changes nothing."""
    (event_id,) = await publish(committed_db, tenant)
    lane = await case.hold(endpoint_id)
    case.line.after = 1
    case.put(lane, event_id, step)

    with pytest.raises(Unavailable):
        await case.outbox.flush()
    before = await rows(committed_db, tenant, "SELECT next_at, attempts FROM deliveries")
    await case.outbox.flush()

    assert [1] == await tries(committed_db, tenant)
    assert before == await rows(committed_db, tenant, "SELECT next_at, attempts FROM deliveries")
    assert 0 == (await told(committed_db, tenant)).missing


async def test_results_survive_a_session_that_is_ended_while_it_writes(
    committed_db: Database,
    tenant: Caller,
    endpoint_id: UUID,
    case: Case,
    lines: Lines,
    database_url: str,
) -> None:
    """The statement waits for a lock, its session is ended, and the next one writes everything."""
    event_ids = await publish(committed_db, tenant, 5)
    lane = await case.hold(endpoint_id)
    for event_id in event_ids:
        case.put(lane, event_id)
    (session,) = await lines.writing.fetch("SELECT pg_backend_pid() AS pid")

    async with committed_db.begin(tenant) as user:
        await endpoints.find(user, tenant, endpoint_id, locked=True)
        writing = asyncio.create_task(case.outbox.flush())
        await blocked(database_url)
        await end(database_url, session["pid"])
        with pytest.raises(Unavailable):
            await writing
    await case.outbox.flush()

    assert [(lane, 5, True)] == case.told
    assert became(created=5, delivered=5) == await told(committed_db, tenant)
    assert [1] * 5 == await tries(committed_db, tenant)


async def test_under_an_old_fence_nothing_is_written(
    committed_db: Database, tenant: Caller, endpoint_id: UUID, case: Case
) -> None:
    (event_id,) = await publish(committed_db, tenant)
    lane = await case.hold(endpoint_id)
    await case.hold(endpoint_id)
    case.put(lane, event_id)

    await case.outbox.flush()

    assert [(lane, 1, False)] == case.told
    assert became(created=1, pending=1) == await told(committed_db, tenant)
    assert [] == await tries(committed_db, tenant)


async def test_a_lane_that_is_taken_over_while_a_finish_waits_for_it_is_not_written(
    committed_db: Database, pump: Database, tenant: Caller, endpoint_id: UUID, case: Case, database_url: str
) -> None:
    """What the statement saw of the lane when it began is not what holds when it goes on."""
    (event_id,) = await publish(committed_db, tenant)
    lane = await case.hold(endpoint_id)
    case.put(lane, event_id)

    async with pump.begin(NOBODY) as heir:
        named = {"id": endpoint_id}
        await heir.execute(text("UPDATE lanes SET owner = 1, fence = fence + 1 WHERE id = :id"), named)
        writing = asyncio.create_task(case.outbox.flush())
        await blocked(database_url)
    await writing

    assert [(lane, 1, False)] == case.told
    assert became(created=1, pending=1) == await told(committed_db, tenant)


async def test_of_two_lanes_only_the_one_that_is_held_is_written(
    committed_db: Database, tenant: Caller, keyring: Keyring, endpoint_id: UUID, case: Case
) -> None:
    other = await make_endpoint(committed_db, tenant, keyring, "https://other.example.com")
    (event_id,) = await publish(committed_db, tenant)
    ours, lost = await case.hold(endpoint_id), await case.hold(other.id)
    await case.hold(other.id)
    case.put(ours, event_id)
    case.put(lost, event_id)

    await case.outbox.flush()

    left = await rows(committed_db, tenant, "SELECT endpoint_id FROM deliveries")
    assert {(ours, 1, True), (lost, 1, False)} == set(case.told)
    assert [other.id] == [row.endpoint_id for row in left]


async def test_what_gathered_for_long_is_written_in_parts(
    committed_db: Database, tenant: Caller, endpoint_id: UUID, case: Case
) -> None:
    """However much there is, a statement ends in time."""
    lanes = [Lane(Held(new_id(), tenant.tenant, 1), until=1e9, pace=Pace()) for _ in range(30)]
    for lane in lanes:
        for _ in range(500):
            case.put(lane, new_id())

    await case.outbox.flush()

    assert [MOST_AT_ONCE] * 3 == case.line.sizes
    assert set(lanes) == {lane for lane, _, _ in case.told}


async def test_a_result_that_the_database_cannot_take_does_not_hold_up_the_others(
    committed_db: Database, tenant: Caller, keyring: Keyring, endpoint_id: UUID, case: Case
) -> None:
    other = await make_endpoint(committed_db, tenant, keyring, "https://other.example.com")
    (event_id,) = await publish(committed_db, tenant)
    good, bad = await case.hold(endpoint_id), await case.hold(other.id)
    case.put(bad, event_id, error="what no text holds: \0")
    case.put(good, event_id)

    await case.outbox.flush()

    assert {(good, 1, True), (bad, 1, False)} == set(case.told)
    assert became(created=2, delivered=1, pending=1) == await told(committed_db, tenant)


async def test_an_endpoints_health_that_cannot_be_noted_is_noted_later(
    committed_db: Database, engine: AsyncEngine, tenant: Caller, endpoint_id: UUID, lines: Lines
) -> None:
    """Else, five days after a success, it might be disabled for nothing but failures."""
    away = Away(sessions(engine), role=Role.PUMP)
    case = Case(lines, Troubled(lines.writing), away)
    (event_id,) = await publish(committed_db, tenant)
    lane = await case.hold(endpoint_id)
    case.put(lane, event_id, FAILED)

    await case.outbox.flush()
    before = await endpoints.show(committed_db, tenant, endpoint_id)
    away.down = False
    await case.outbox.flush()

    after = await endpoints.show(committed_db, tenant, endpoint_id)
    assert [(lane, 1, True)] == case.told
    assert (True, False) == (before.failing_since is None, after.failing_since is None)


async def test_noting_health_locks_the_lane_before_the_endpoint(
    committed_db: Database, pump: Database, tenant: Caller, endpoint_id: UUID, database_url: str
) -> None:
    """As use cases do: the other way round, each of the two could wait for the other."""
    health_found = judge([SLOW_DOWN], failing_for=None)
    system = Caller.system(tenant.tenant, job="deliveries")

    async with committed_db.begin(tenant) as user:
        await user.execute(text("SELECT FROM lanes WHERE id = :id FOR UPDATE"), {"id": endpoint_id})
        noting = asyncio.create_task(health.note(pump, system, Held(endpoint_id, tenant.tenant, 1), health_found))
        await blocked(database_url)
        await user.execute(text("SELECT FROM endpoints WHERE id = :id FOR UPDATE NOWAIT"), {"id": endpoint_id})
    await noting

    assert (await endpoints.show(committed_db, tenant, endpoint_id)).failing_since is not None


class Away(Database):
    """A database that cannot be reached while it is `down`."""

    down = True

    @asynccontextmanager
    async def begin(self, caller: Caller) -> AsyncIterator[AsyncSession]:
        if self.down:
            raise Unavailable("The database is away.")
        async with super().begin(caller) as session:
            yield session


async def blocked(url: str) -> None:
    """Waits until a session of ours waits for a row that another has locked."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"
    )
    async with operating(url) as connection:
        await until_told(lambda: connection.fetchval(query))
