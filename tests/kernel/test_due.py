"""Due rows: leases, fences, waking while claimed, and claims that race."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from broker import due
from broker.caller import Caller
from broker.db import Database, Role, sessions
from broker.due import Claim, Superseded
from broker.feedback.models import Topic
from broker.ids import new_id
from tests.conftest import new_tenant

LEASE = timedelta(seconds=30)


async def topic(db: Database, caller: Caller) -> UUID:
    """A due row of the simplest kind, due now."""
    row = new_id()
    async with db.begin(caller) as session:
        await session.execute(
            text(
                "INSERT INTO topics (id, tenant_id, region, source, state, due_at)"
                " VALUES (:id, :tenant, :region, 'broker_topic', 'pending', now() - interval '1 s')"
            ),
            {"id": row, "tenant": caller.tenant, "region": f"region-{row}"},
        )
    return row


async def claim_one(db: Database, row: UUID, *, lease: timedelta = LEASE) -> Claim | None:
    """Claims this row if it can be claimed."""
    claims = await due.claim(db.as_role(Role.WORKER), "topics", most=5, lease=lease, only=[row])
    return claims[0] if claims else None


async def settle(db: Database, claim: Claim, again_in: timedelta | None, *, failed: bool = False) -> bool:
    """Settles in a transaction of its own, as a worker does."""
    caller = Caller.system(claim.tenant_id, job="test")
    async with db.as_role(Role.WORKER).begin(caller) as session:
        return await due.settle(session, claim, again_in=again_in, failed=failed)


async def wake(db: Database, caller: Caller, row: UUID) -> None:
    """Wakes the row as a use case does."""
    async with db.begin(caller) as session:
        due.wake(session, await session.get_one(Topic, row))


async def wake_and_fail(db: Database, caller: Caller, row: UUID) -> None:
    """Wakes the row in a transaction that is rolled back."""
    async with db.begin(caller) as session:
        due.wake(session, await session.get_one(Topic, row))
        raise ZeroDivisionError


async def test_a_due_row_is_claimed_once(committed_db: Database) -> None:
    """Twenty workers at once: one gets it, and nobody waits."""
    caller = await new_tenant(committed_db)
    row = await topic(committed_db, caller)

    claims = await asyncio.gather(*(claim_one(committed_db, row) for _ in range(20)))

    assert 1 == len([claim for claim in claims if claim])


async def test_many_rows_are_shared_without_overlap(committed_db: Database) -> None:
    """What two workers claim at the same time is disjoint and, together, everything."""
    caller = await new_tenant(committed_db)
    rows = [await topic(committed_db, caller) for _ in range(12)]
    worker = committed_db.as_role(Role.WORKER)

    batches = await asyncio.gather(*(due.claim(worker, "topics", most=3, lease=LEASE, only=rows) for _ in range(6)))

    claimed = [claim.id for batch in batches for claim in batch]
    assert sorted(rows) == sorted(claimed)


async def test_a_claimed_row_comes_back_when_its_lease_is_over(committed_db: Database) -> None:
    """A worker that died is followed by another, under a higher fence."""
    caller = await new_tenant(committed_db)
    row = await topic(committed_db, caller)
    first = await claim_one(committed_db, row, lease=timedelta(0))

    second = await claim_one(committed_db, row)

    assert first is not None
    assert second is not None
    assert (first.fence + 1, 2) == (second.fence, second.attempts)


async def test_a_superseded_worker_writes_nothing(committed_db: Database) -> None:
    """The old fence rolls its whole transaction back."""
    caller = await new_tenant(committed_db)
    row = await topic(committed_db, caller)
    zombie = await claim_one(committed_db, row, lease=timedelta(0))
    heir = await claim_one(committed_db, row)
    assert zombie is not None
    assert heir is not None

    with pytest.raises(Superseded):
        await settle(committed_db, zombie, None)

    await settle(committed_db, heir, None)


async def test_a_row_woken_while_claimed_is_due_again_at_once(committed_db: Database) -> None:
    """A change that comes while the work is under way is not lost, whatever the worker settles."""
    caller = await new_tenant(committed_db)
    row = await topic(committed_db, caller)
    claim = await claim_one(committed_db, row)
    assert claim is not None
    await wake(committed_db, caller, row)

    due_now = await settle(committed_db, claim, None)

    assert due_now
    assert await claim_one(committed_db, row) is not None


async def test_a_settled_row_rests_until_its_date(committed_db: Database) -> None:
    """Nothing is due before the date that the work asked for."""
    caller = await new_tenant(committed_db)
    row = await topic(committed_db, caller)
    claim = await claim_one(committed_db, row)
    assert claim is not None

    due_now = await settle(committed_db, claim, timedelta(hours=1))

    assert not due_now
    assert await claim_one(committed_db, row) is None


async def test_attempts_count_failures_in_a_row(committed_db: Database) -> None:
    """Back-off grows while it fails and begins anew after a success."""
    caller = await new_tenant(committed_db)
    row = await topic(committed_db, caller)
    counted = []

    for failed in (True, True, False, True):
        claim = await claim_one(committed_db, row)
        assert claim is not None
        counted.append(claim.attempts)
        await settle(committed_db, claim, timedelta(0), failed=failed)

    assert [1, 2, 3, 1] == counted


async def test_a_lease_that_is_given_back_does_not_have_to_run_out(committed_db: Database) -> None:
    """What failed unforeseen is due again in a second; giving back a lease that was lost does nothing."""
    caller = await new_tenant(committed_db)
    row = await topic(committed_db, caller)
    worker = committed_db.as_role(Role.WORKER)
    first = await claim_one(committed_db, row)
    assert first is not None

    await due.give_back(worker, first)

    async with committed_db.read(caller) as session:
        wait = text("SELECT due_at - now() <= interval '1 s', claimed_until IS NULL FROM topics WHERE id = :id")
        assert (True, True) == tuple((await session.execute(wait, {"id": row})).one())
    await wake(committed_db, caller, row)
    second = await claim_one(committed_db, row)
    await due.give_back(worker, first)
    assert second is not None
    assert await claim_one(committed_db, row) is None


async def test_the_bell_rings_after_the_commit_for_what_was_woken(engine: AsyncEngine) -> None:
    """And not at all for what was rolled back."""
    rung: list[tuple[str, list[UUID]]] = []

    class Listening:
        async def ring(self, kind: str, ids: object) -> None:
            assert isinstance(ids, set)
            rung.append((kind, sorted(ids)))

    db = Database(sessions(engine), role=Role.API, bell=Listening())
    caller = await new_tenant(db)
    row = await topic(db, caller)

    await wake(db, caller, row)
    with pytest.raises(ZeroDivisionError):
        await wake_and_fail(db, caller, row)

    assert [("topics", [row])] == rung


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (7, 60), (500, 60)])
def test_back_off_doubles_up_to_its_limit(attempts: int, seconds: int) -> None:
    """1 s, 2 s, 4 s … 60 s."""
    assert timedelta(seconds=seconds) == due.back_off(attempts, first=timedelta(seconds=1), most=timedelta(minutes=1))
