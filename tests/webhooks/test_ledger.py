"""The latency ledger: what percentiles promise, and that nothing noted is lost but by a crash."""

import asyncio
import math
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from broker.caller import NOBODY, Caller
from broker.clock import now
from broker.db import Database, Role, connect, sessions
from broker.errors import Unavailable
from broker.ids import new_id
from broker.webhooks.ledger import books, notes, service
from broker.webhooks.ledger.ledger import BOUNDS, WIDTH, Count, Ledger, Stage, percentiles, quantile, slots_of
from tests.webhooks.conftest import rows

STAGE = Stage.COMMITTED_TO_ATTEMPTED
TENANT = new_id()


def noted(*seconds: float) -> Ledger:
    ledger = Ledger()
    for each in seconds:
        ledger.record(TENANT, STAGE, each)
    return ledger


def exact(sample: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of the numbers themselves."""
    return sorted(sample)[max(1, math.ceil(share * len(sample))) - 1]


@given(
    st.lists(st.floats(min_value=0, max_value=2_000_000), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]),
)
def test_a_quantile_is_at_most_a_tenth_or_a_millisecond_off(sample: list[float], share: float) -> None:
    """Whatever the numbers, up to 23 days, for which SNS may repeat a message."""
    slots = slots_of(noted(*sample).take().by_tenant[TENANT], STAGE)

    right = exact(sample, share)
    assert abs(quantile(slots, share) - right) <= max(0.1 * right, 0.001)


def test_what_ends_before_it_begins_counts_as_nothing_and_is_told() -> None:
    """Clocks of two parties differ."""
    found = percentiles(noted(-3.0, -0.000_001, 0.0).take().of_all, STAGE)

    assert (3, 2) == (found.count, found.negative)
    assert (0.0, 0.0, 0.0005) == (found.mean, found.p50, found.p99)


def test_each_stage_is_counted_by_itself() -> None:
    ledger = Ledger()
    for number, stage in enumerate(Stage, start=1):
        for _ in range(number):
            ledger.record(TENANT, stage, 10.0**number)

    taken = ledger.take()

    assert [1, 2, 3, 4] == [percentiles(taken.of_all, stage).count for stage in Stage]
    assert taken.of_all == taken.by_tenant[TENANT]


def test_what_is_longer_than_every_bound_is_counted_as_the_last_one() -> None:
    slots = slots_of(noted(1e12, math.inf).take().of_all, STAGE)

    assert ([2], WIDTH) == (slots[-1:], len(slots))
    assert BOUNDS[-1] == quantile(slots, 0.5) > timedelta(days=23).total_seconds()


def test_what_was_given_back_is_taken_again_with_what_came_since() -> None:
    ledger = noted(1.0)
    ledger.count(Count.ATTEMPTS, "2xx", number=2)
    taken = ledger.take()
    ledger.record(TENANT, STAGE, 2.0)
    ledger.count(Count.ATTEMPTS, "2xx")

    ledger.give_back(taken)
    again = ledger.take()

    assert (2, 3.0) == (sum(again.of_all.counts), again.by_tenant[TENANT].seconds[STAGE])
    assert {(Count.ATTEMPTS, "2xx"): 3} == again.tallies
    assert ledger.take().is_empty


async def test_several_processes_add_up_in_one_row(committed_db: Database, pump: Database, tenant: Caller) -> None:
    """One row for a tenant and hour, however many write it, even at the same moment."""
    began = now()
    ledgers = [Ledger() for _ in range(4)]
    for ledger in ledgers:
        for _ in range(25):
            ledger.record(tenant.tenant, STAGE, 0.2)

    await asyncio.gather(*(books.flush(pump, ledger) for ledger in ledgers))

    found = await service.latencies(committed_db, tenant, since=began, until=now())
    assert 100 == found.stages.committed_to_attempted.count
    assert 200.0 == found.stages.committed_to_attempted.mean_ms
    assert len({began.hour, now().hour}) >= len(await rows(committed_db, tenant, "SELECT 1 FROM latencies"))


async def test_many_tenants_are_written_in_several_statements(pump: Database) -> None:
    ledger = Ledger()
    tenants = [new_id() for _ in range(books.MOST_TENANTS + 1)]
    for tenant_id in tenants:
        ledger.record(tenant_id, STAGE, 1.0)

    await books.flush(pump, ledger)

    async with pump.read(NOBODY) as session:
        found = await session.scalar(
            text("SELECT sum(total) FROM latencies WHERE tenant_id = ANY (:ids)"), {"ids": tenants}
        )
    assert len(tenants) == found


async def test_what_cannot_be_written_is_kept_for_the_next_time(
    committed_db: Database, pump: Database, tenant: Caller
) -> None:
    """The database is away for a moment."""
    began = now()
    away = connect("postgresql+asyncpg://nobody@127.0.0.1:1/nothing")
    ledger = Ledger()
    ledger.record(tenant.tenant, STAGE, 1.0)

    with pytest.raises(Unavailable):
        await books.flush(Database(sessions(away), role=Role.PUMP), ledger)
    await books.flush(pump, ledger)

    found = await service.latencies(committed_db, tenant, since=began, until=now())
    assert 1 == found.stages.committed_to_attempted.count


async def test_what_is_left_is_written_at_the_end(committed_db: Database, pump: Database, tenant: Caller) -> None:
    """A process that is stopped writes before it ends."""
    began = now()
    ledger = Ledger()
    async with books.kept(pump, ledger, every=3600):
        ledger.record(tenant.tenant, STAGE, 1.0)

    found = await service.latencies(committed_db, tenant, since=began, until=now())
    assert 1 == found.stages.committed_to_attempted.count


async def test_hours_are_forgotten_after_two_weeks(committed_db: Database, pump: Database, tenant: Caller) -> None:
    """And the sum of all, which only grows, stays."""
    ledger = Ledger()
    ledger.record(tenant.tenant, STAGE, 1.0)
    await books.flush(pump, ledger)
    async with pump.begin(NOBODY) as session:
        copy = (
            "INSERT INTO latencies SELECT tenant_id, hour - :age * interval '1 day', '{}', '{}', '{1}', '{}', '{}', 1"
            " FROM latencies WHERE tenant_id = :id AND hour > now() - interval '1 day'"
        )
        for age in (13, 15):
            await session.execute(text(copy), {"age": age, "id": tenant.tenant})
        before = await session.scalar(text("SELECT counts FROM latency_totals"))

    await books.forget(pump)

    kept = await rows(committed_db, tenant, "SELECT date_part('day', now() - hour) AS age FROM latencies ORDER BY age")
    async with pump.read(NOBODY) as session:
        after = await session.scalar(text("SELECT counts FROM latency_totals"))
    assert [0, 13] == [row.age for row in kept]
    assert before == after


async def test_short_and_long_latencies_add_up(committed_db: Database, pump: Database, tenant: Caller) -> None:
    """A histogram is written without the zeros at its end, so two of them may differ in length, either way."""
    began = now()
    for seconds in (0.01, 1000.0, 0.01):
        ledger = Ledger()
        ledger.record(tenant.tenant, Stage.ATTEMPTED_TO_ACCEPTED, seconds)
        ledger.record(tenant.tenant, Stage.SES_TO_RECEIVED, 0.1)
        await books.flush(pump, ledger)

    found = await service.latencies(committed_db, tenant, since=began, until=now())

    assert (3, 3) == (found.stages.ses_to_received.count, found.stages.attempted_to_accepted.count)
    assert 1_000_000 == pytest.approx(found.stages.attempted_to_accepted.p99_ms, rel=0.1)
    assert 10 == pytest.approx(found.stages.attempted_to_accepted.p50_ms, rel=0.1)


def test_an_event_is_noted_for_each_party_that_hears_of_it() -> None:
    """By its time in SES, and by the time that storing it took."""
    ledger = Ledger()
    owner, delegate = new_id(), new_id()

    came = now()
    notes.stored(ledger, (owner, None), said=came - timedelta(seconds=2), came=came, spent=0.01)
    notes.stored(ledger, (owner, delegate), said=came + timedelta(seconds=2), came=came, spent=0.01)

    taken = ledger.take()
    assert {owner, delegate} == set(taken.by_tenant)
    first, second = (percentiles(taken.by_tenant[owner], stage) for stage in (Stage(0), Stage(1)))
    assert (2, 1, 1.0) == (first.count, first.negative, first.mean)
    assert (2, 0, 0.01) == (second.count, second.negative, second.mean)


@pytest.mark.parametrize(
    ("number", "status", "tried_for", "waits", "accepted", "label"),
    [
        (1, 204, None, [0.5], [0.1], "2xx"),
        (1, 500, None, [0.5], [], "5xx"),
        (1, None, None, [0.5], [], "none"),
        (3, 200, 300.0, [], [300.0], "2xx"),
        (3, 200, None, [], [], "2xx"),
        (3, 410, 300.0, [], [], "4xx"),
        (1, 777, None, [0.5], [], "none"),
    ],
)
def test_an_attempt_is_noted_by_its_outcome(
    number: int, status: int | None, tried_for: float | None, waits: list[float], accepted: list[float], label: str
) -> None:
    """The wait of the first one; what it took to be accepted, from the first one on."""
    ledger = Ledger()

    notes.attempted(ledger, TENANT, number=number, status=status, waited=0.5, spent=0.1, tried_for=tried_for)

    taken = ledger.take()
    assert {(Count.ATTEMPTS, label): 1} == taken.tallies
    for stage, expected in ((Stage.COMMITTED_TO_ATTEMPTED, waits), (Stage.ATTEMPTED_TO_ACCEPTED, accepted)):
        found = percentiles(taken.of_all, stage)
        assert (len(expected), sum(expected)) == (found.count, found.mean or 0)
