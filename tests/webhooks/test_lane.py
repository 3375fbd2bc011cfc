"""What a lane reads and in which order it sends, without a database: nothing twice, nothing left behind."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.ids import new_id
from broker.webhooks.attempt import Addressee
from broker.webhooks.events import Shape
from broker.webhooks.holding import Held, Target
from broker.webhooks.lane import LARGEST_BATCH, LEAST_SHARE, SMALLEST_BATCH, Lane
from broker.webhooks.pacing import PATIENCE, Pace
from broker.webhooks.pending import BEGINNING, PRIORITIES, Parcel, Wish

STAMP = 7


class Table:
    """The due deliveries of one lane, as the statement that reads them shows them."""

    def __init__(self, lane: Lane) -> None:
        self.rows: dict[UUID, Parcel] = {}
        self._lane = lane

    def add(self, at: float, *, priority: int = 0, stamp: int = STAMP) -> UUID:
        """One more, due since `at` (in seconds of some day)."""
        event_id = new_id()
        self.rows[event_id] = Parcel(
            lane_id=self._lane.held.id,
            priority=priority,
            next_at=moment(at),
            event_id=event_id,
            number=1,
            stamp=stamp,
            waited=timedelta(0),
            tried_for=None,
            read_at=0.0,
            event=None,
        )
        return event_id

    def read(self, wishes: list[Wish]) -> list[Parcel]:
        """What a snapshot taken now shows."""
        found = []
        for wish in wishes:
            mine = [row for row in self.rows.values() if row.priority == wish.priority]
            behind = (wish.after.next_at, wish.after.event_id)
            rest = sorted((row for row in mine if (row.next_at, row.event_id) > behind), key=place)
            found += rest[: wish.room]
        return found


def place(parcel: Parcel) -> tuple[datetime, UUID]:
    return parcel.next_at, parcel.event_id


def moment(at: float) -> datetime:
    return BEGINNING + timedelta(days=1, seconds=at)


@pytest.fixture
def lane() -> Lane:
    return a_lane()


@pytest.fixture
def table(lane: Lane) -> Table:
    return Table(lane)


def a_lane(pace: Pace | None = None) -> Lane:
    made = Lane(Held(new_id(), new_id(), 1), until=1e9, pace=pace or Pace())
    aim(made)
    return made


def aim(lane: Lane, *, now: float = 0.0, **changes: Any) -> None:
    """Says where the lane leads."""
    target = Target(
        id=lane.held.id,
        stamp=STAMP,
        url="https://hooks.example.com",
        shape=Shape.STANDARD,
        rate_limit=None,
        secrets={},
        headers=None,
        failing_for=None,
        ends_in=None,
    )
    target = msgspec.structs.replace(target, **changes)
    lane.aim(target, Addressee(lane.held.tenant_id, target.url, keys={}), now=now)


def read(lane: Lane, table: Table) -> int:
    """Reads until the lane has enough; how many readings that took."""
    for readings in range(100):
        wishes = lane.wishes()
        if not wishes:
            return readings
        lane.receive(wishes, table.read(wishes))
    raise AssertionError("The lane reads for ever.")


def test_what_was_recalled_is_forgotten_and_read_again(lane: Lane, table: Table) -> None:
    """An erasure may have blanked it meanwhile; what is under way goes on, and is not begun twice."""
    for at in range(5):
        table.add(at)
    read(lane, table)
    begun = fly(lane, most=2)
    lane.heed(1, now=10.0)
    forgotten = lane.waiting
    table.rows = {event_id: msgspec.structs.replace(row, read_at=11.0) for event_id, row in table.rows.items()}
    read(lane, table)

    assert (0, 3) == (forgotten, lane.waiting)
    assert not {*fly(lane)} & {*begun}


def test_a_reading_that_began_before_the_recall_is_not_taken(lane: Lane, table: Table) -> None:
    """Its snapshot may be older than what was blanked."""
    table.add(0)
    wishes = lane.wishes()
    late = table.read(wishes)
    lane.heed(1, now=10.0)
    lane.receive(wishes, late)

    assert (0, True) == (lane.waiting, lane.wants)


def test_what_was_not_sent_after_all_is_not_put_back_after_a_recall(lane: Lane, table: Table) -> None:
    table.add(0)
    read(lane, table)
    parcel = lane.pop()
    assert parcel is not None
    lane.heed(1, now=10.0)
    lane.put_back(parcel)

    assert 0 == lane.waiting


def test_a_lease_that_was_prolonged_without_a_recall_changes_nothing(lane: Lane, table: Table) -> None:
    table.add(0)
    read(lane, table)
    lane.heed(0, now=10.0)

    assert 1 == lane.waiting


def fly(lane: Lane, *, most: int = 10_000) -> list[UUID]:
    """Begins what waits."""
    begun: list[UUID] = []
    while lane.waiting and len(begun) < most:
        if parcel := lane.pop():
            lane.flying[parcel.event_id] = 0.0
            begun.append(parcel.event_id)
    return begun


def land(lane: Lane, *event_ids: UUID) -> None:
    """These attempts end; their results are not written yet."""
    for event_id in event_ids:
        del lane.flying[event_id]
        lane.unwritten += 1


def write(lane: Lane, table: Table, *event_ids: UUID) -> None:
    """Their results are written: they were delivered."""
    for event_id in event_ids:
        table.rows.pop(event_id, None)
    lane.written(event_ids)


def test_what_is_most_urgent_goes_first_and_the_oldest_of_it(lane: Lane, table: Table) -> None:
    table.add(1, priority=3)
    second, first = table.add(3, priority=1), table.add(2, priority=1)
    urgent = table.add(4, priority=0)
    read(lane, table)

    assert [urgent, first, second] == fly(lane)[:3]


def test_a_small_share_is_kept_for_the_least_urgent(lane: Lane, table: Table) -> None:
    """A stream of bounces does not stop opens and clicks."""
    urgent = {table.add(number) for number in range(100)}
    least = {table.add(number, priority=3) for number in range(100)}
    begun: list[UUID] = []
    while len(begun) < 5 * LEAST_SHARE:
        read(lane, table)
        begun += fly(lane, most=1)
        land(lane, begun[-1])
        write(lane, table, begun[-1])

    assert 5 == len(least & set(begun))
    assert 5 * LEAST_SHARE - 5 == len(urgent & set(begun))


def test_reading_goes_on_where_it_ended(lane: Lane, table: Table) -> None:
    added = [table.add(number) for number in range(40)]
    first = lane.wishes()
    lane.receive(first, table.read(first))
    begun = fly(lane)
    second = lane.wishes()

    assert [BEGINNING] * PRIORITIES == [wish.after.next_at for wish in first]
    assert [(0, added[SMALLEST_BATCH - 1])] == [(wish.priority, wish.after.event_id) for wish in second]
    assert added[:SMALLEST_BATCH] == begun


def test_an_idle_lane_that_is_rung_for_reads_from_the_beginning(lane: Lane, table: Table) -> None:
    """A transaction that began first and was committed last leaves something behind what was read."""
    early = table.add(10)
    read(lane, table)
    fly(lane)
    land(lane, early)
    write(lane, table, early)
    late = table.add(5)

    lane.look_again()
    read(lane, table)

    assert [late] == fly(lane)


def test_what_was_committed_late_is_found_when_nothing_is_known_any_more(lane: Lane, table: Table) -> None:
    early = [table.add(10 + number) for number in range(SMALLEST_BATCH)]
    wishes = lane.wishes()
    lane.receive(wishes, table.read(wishes))
    begun = fly(lane)
    read(lane, table)
    late = table.add(5)
    land(lane, *begun)
    write(lane, table, *begun)

    read(lane, table)

    assert set(early) == set(begun)
    assert [late] == fly(lane)


def test_a_sweep_finds_what_was_committed_late_in_a_busy_lane(lane: Lane, table: Table) -> None:
    table.add(10)
    read(lane, table)
    fly(lane)
    late = table.add(5)

    lane.rewind()
    read(lane, table)

    assert [late] == fly(lane)


def test_a_ring_during_a_reading_is_not_forgotten(lane: Lane, table: Table) -> None:
    """What it rang for may have been committed after the snapshot of the reading."""
    wishes = lane.wishes()
    snapshot = table.read(wishes)
    event_id = table.add(1)
    lane.look_again()
    lane.receive(wishes, snapshot)

    assert lane.wants
    read(lane, table)
    assert [event_id] == fly(lane)


def test_what_is_under_way_or_unwritten_is_not_taken_again(lane: Lane, table: Table) -> None:
    flying, landed = table.add(1), table.add(2)
    read(lane, table)
    fly(lane)
    land(lane, landed)

    lane.rewind()
    read(lane, table)

    assert {flying, landed} == set(table.rows)
    assert 0 == lane.waiting


def test_what_was_finished_is_not_taken_again_from_an_older_snapshot(lane: Lane, table: Table) -> None:
    """A reading that began before the finish was committed shows it still."""
    event_id = table.add(1)
    read(lane, table)
    fly(lane)
    land(lane, event_id)
    lane.rewind()
    wishes = lane.wishes()
    snapshot = table.read(wishes)
    write(lane, table, event_id)

    lane.receive(wishes, snapshot)

    assert 0 == lane.waiting


def test_what_is_tried_again_later_is_taken_again(lane: Lane, table: Table) -> None:
    event_id = table.add(1)
    read(lane, table)
    fly(lane)
    land(lane, event_id)
    lane.written([event_id])
    table.rows[event_id] = msgspec.structs.replace(table.rows[event_id], next_at=moment(6), number=2)

    lane.look_again()
    read(lane, table)

    assert [event_id] == fly(lane)


def test_memory_is_bounded_by_what_is_not_written(lane: Lane, table: Table) -> None:
    """The database takes no results: then nothing more is read."""
    for number in range(1000):
        table.add(number)
    begun: list[UUID] = []
    while read(lane, table):
        some = fly(lane)
        land(lane, *some)
        begun += some

    assert len(begun) <= 2 * lane.batch + SMALLEST_BATCH


@pytest.mark.parametrize(("window", "batch"), [(1, SMALLEST_BATCH), (16, 64), (64, LARGEST_BATCH)])
def test_a_faster_lane_reads_more_at_once(window: int, batch: int) -> None:
    assert {batch} == {wish.room for wish in a_lane(Pace(window)).wishes()}


def test_a_lane_that_is_stopped_begins_and_reads_nothing(lane: Lane, table: Table) -> None:
    table.add(1)
    read(lane, table)
    lane.stop()
    lane.look_again()

    assert (False, 0, []) == (lane.wants, lane.waiting, lane.wishes())


def test_what_was_not_sent_after_all_is_the_next(lane: Lane, table: Table) -> None:
    first, second = table.add(1), table.add(2)
    read(lane, table)
    parcel = lane.pop()
    assert parcel is not None

    lane.put_back(parcel)

    assert [first, second] == fly(lane)


def test_a_changed_endpoint_is_looked_up_before_anything_is_begun(lane: Lane, table: Table) -> None:
    before = lane.needs_aim(0.0)
    table.add(1, stamp=STAMP + 1)
    read(lane, table)
    changed = lane.needs_aim(0.0)
    aim(lane, stamp=STAMP + 1)

    assert (False, True, False) == (before, changed, lane.needs_aim(0.0))


def test_a_secret_that_ends_is_looked_up_again(lane: Lane) -> None:
    aim(lane, now=100.0, ends_in=timedelta(seconds=5))

    assert (False, True) == (lane.needs_aim(104.9), lane.needs_aim(105.0))


def test_a_bucket_is_kept_while_its_rate_stays(lane: Lane) -> None:
    """Else each change of the endpoint would let a few more through."""
    aim(lane, rate_limit=5)
    first = lane.bucket
    aim(lane, rate_limit=5, stamp=STAMP + 1)
    same = lane.bucket
    aim(lane, rate_limit=6)
    other = lane.bucket
    aim(lane)

    assert first is not None
    assert (True, False, None) == (same is first, other is first, lane.bucket)


def test_a_lane_that_failed_before_begins_apart() -> None:
    """A probe of a failing endpoint takes no room from the others."""
    assert (True, False) == (a_lane(Pace(1, PATIENCE)).apart, a_lane().apart)


STEPS = st.sampled_from(["commit", "commit late", "ring", "look", "come in", "begin", "land", "write"])


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=120), st.randoms(use_true_random=False))
def test_whatever_happens_in_whatever_order_each_is_sent_once(steps: list[str], dice: Any) -> None:
    """Commits, readings with older snapshots, attempts and finishes in any order; a sweep makes it complete."""
    lane = a_lane()
    table = Table(lane)
    made: list[UUID] = []
    begun: list[UUID] = []
    landed: list[UUID] = []
    reading: tuple[list[Wish], list[Parcel]] | None = None
    # However the dice fall, each round at the end sends one that is left.
    rounds = 1 + sum(step.startswith("commit") for step in steps)
    ending = ["sweep", "look", "come in", "begin", "land", "write"] * max(40, rounds)
    for clock, step in enumerate([*steps, "come in", *ending]):
        match step:
            case "commit" | "commit late":
                late = dice.uniform(0, 20) if step == "commit late" else 0
                made.append(table.add(clock - late, priority=dice.randrange(PRIORITIES)))
            case "ring":
                lane.look_again()
            case "sweep":
                lane.rewind()
            case "look" if reading is None and (wishes := lane.wishes()):
                reading = wishes, table.read(wishes)
            case "come in" if reading is not None:
                lane.receive(*reading)
                reading = None
            case "begin":
                begun += fly(lane, most=dice.randrange(1, 8))
            case "land":
                some = list(lane.flying)[: dice.randrange(1, 8)]
                land(lane, *some)
                landed += some
            case "write":
                write(lane, table, *landed)
                landed.clear()

    assert sorted(made) == sorted(begun)
    assert {} == table.rows
