"""Days of events are made ahead and dropped behind, and never one too early."""

import base64
from datetime import date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from broker.caller import NOBODY, Caller
from broker.clock import now
from broker.configuration import load
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.errors import Unavailable
from broker.ids import new_id
from broker.settings import SettingsError
from broker.webhooks import days, endpoints, pauses
from broker.webhooks.days import REPEATS
from broker.webhooks.events import Event
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.receiver import Reaction, Receiver
from tests.webhooks.test_counts import became, kept_as_dead, told

RETENTION = timedelta(days=30)
LATE = timedelta(days=33)
NOWHERE = "http://127.0.0.1:9/"


def old(age: timedelta) -> UUID:
    """An id as it was made so long ago."""
    return UUID(int=int((now() - age).timestamp() * 1000) << 80 | new_id().int & ((1 << 80) - 1))


async def make_day(db: Database, age: timedelta) -> date:
    """Partitions of the day so long ago, as if they had been made then."""
    async with db.as_role(Role.WORKER).begin(NOBODY) as session:
        found: date = (
            await session.execute(text("SELECT current_date - CAST(:days AS integer)"), {"days": age.days})
        ).scalar_one()
        await session.execute(text("SELECT make_days(:day, 1)"), {"day": found})
        return found


async def partitions(db: Database, day: date) -> set[str]:
    """Tables that have a partition of this day."""
    async with db.read(NOBODY) as session:
        named = {"suffix": f"%\\_{day:%Y%m%d}"}
        return set(
            await session.scalars(
                text("SELECT relname FROM pg_class WHERE relname LIKE :suffix AND relkind = 'r'"), named
            )
        )


def of_day(day: date, *tables: str) -> set[str]:
    return {f"{table}_{day:%Y%m%d}" for table in tables}


async def an_old_event(db: Database, tenant: Caller, age: timedelta) -> Event:
    """In a partition of its own day, with its delivery where an endpoint wants it."""
    await make_day(db, age)
    event = an_event(owner=tenant, at=now() - age)
    await happened(db, tenant, event)
    return event


async def is_kept(db: Database, tenant: Caller, event: Event) -> bool:
    return bool(await rows(db, tenant, "SELECT 1 FROM events WHERE id = :id", id=event.id))


async def test_a_day_is_dropped_when_its_time_is_over(committed_db: Database, pump: Database, tenant: Caller) -> None:
    """The youngest event of a day that goes is as old as the retention; keys are kept 25 days longer."""
    last = await make_day(committed_db, RETENTION)
    first_gone = await make_day(committed_db, RETENTION + timedelta(days=1))
    keys_gone = await make_day(committed_db, RETENTION + REPEATS + timedelta(days=1))
    gone, kept = [await an_old_event(committed_db, tenant, RETENTION + timedelta(days=age)) for age in (1, -1)]

    dropped = await days.drop(pump, retention=RETENTION)

    assert of_day(last, "events", "attempts", "event_keys") == await partitions(committed_db, last)
    assert of_day(first_gone, "event_keys") == await partitions(committed_db, first_gone)
    assert set() == await partitions(committed_db, keys_gone)
    assert (False, True) == (await is_kept(committed_db, tenant, gone), await is_kept(committed_db, tenant, kept))
    assert dropped >= 5
    assert 0 == await days.drop(pump, retention=RETENTION)


async def test_a_day_stays_while_an_endpoint_must_still_get_something_of_it(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    """And goes once that is delivered."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    event = await an_old_event(committed_db, tenant, LATE)

    await days.drop(pump, retention=RETENTION)
    waiting = await is_kept(committed_db, tenant, event)
    await run(endpoint.id)
    await days.drop(pump, retention=RETENTION)

    assert (True, [str(event.id)]) == (waiting, receiver.ids())
    assert not await is_kept(committed_db, tenant, event)
    assert became(created=1, delivered=1) == await told(committed_db, tenant)


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_what_an_endpoint_has_not_taken_in_time_is_given_up_and_counted(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller, state: str
) -> None:
    """Else one endpoint that nobody enables would keep everybody's personal data for ever."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, NOWHERE)
    event = await an_old_event(committed_db, tenant, LATE)
    await happened(committed_db, tenant, an_event(owner=tenant))
    await pauses.pause(committed_db, tenant, endpoint.id)
    async with committed_db.begin(tenant) as session:
        await session.execute(
            text("UPDATE endpoints SET state = :state WHERE id = :id"), {"state": state, "id": endpoint.id}
        )

    await days.drop(pump, retention=RETENTION)

    assert not await is_kept(committed_db, tenant, event)
    assert became(created=2, dead=1, pending=1) == await told(committed_db, tenant)


async def test_dead_deliveries_go_with_their_events_and_stay_counted(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller, receiver: Receiver, run: Run
) -> None:
    """They could not be sent again without them."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    event = await an_old_event(committed_db, tenant, LATE)
    async with committed_db.begin(tenant) as session:
        await session.execute(text("UPDATE deliveries SET attempts = 9"))
    receiver.react = lambda _request: Reaction(status=500)
    await run(endpoint.id)
    before = await kept_as_dead(committed_db, tenant)

    await days.drop(pump, retention=RETENTION)

    assert (1, 0) == (before, await kept_as_dead(committed_db, tenant))
    assert not await is_kept(committed_db, tenant, event)
    assert became(created=1, dead=1) == await told(committed_db, tenant)


async def test_what_reaches_a_deleted_endpoint_at_the_last_moment_is_cancelled(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller
) -> None:
    """An event that is stored while its endpoint is being deleted still sees it."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, NOWHERE)
    async with committed_db.begin(tenant) as session:
        await session.execute(text("UPDATE endpoints SET state = 'active' WHERE id = :id"), {"id": endpoint.id})
    await happened(committed_db, tenant, an_event(owner=tenant))
    async with committed_db.begin(tenant) as session:
        await session.execute(text("UPDATE endpoints SET state = 'deleted' WHERE id = :id"), {"id": endpoint.id})

    ended = await days.end(pump, retention=RETENTION)

    assert ended >= 1
    assert became(created=1, cancelled=1) == await told(committed_db, tenant)


@pytest.mark.parametrize("function", ["drop_days('events', {})", "drop_astray('event_keys', {}, 10)"])
@pytest.mark.parametrize("before", ["current_date - 24", "current_date", "current_date + 1000", "NULL"])
async def test_nothing_younger_than_25_days_is_dropped_whoever_asks(
    committed_db: Database, pump: Database, function: str, before: str
) -> None:
    """SNS may bring a message again for 23 days, and it must be known."""
    day = await make_day(committed_db, timedelta(days=24))

    with pytest.raises(DBAPIError, match="younger than 25 days"):
        await ask(pump, function.format(before))

    assert of_day(day, "events", "attempts", "event_keys") == await partitions(committed_db, day)


async def ask(db: Database, function: str) -> None:
    async with db.begin(NOBODY) as session:
        await session.execute(text(f"SELECT {function}"))


async def test_only_days_can_be_dropped_and_only_by_the_pump(committed_db: Database, pump: Database) -> None:
    """Whatever table is named."""
    with pytest.raises(DBAPIError, match="no table of days"):
        await ask(pump, "drop_days('deliveries', current_date - 40)")
    for role in (Role.API, Role.INGEST, Role.WORKER):
        with pytest.raises(ProgrammingError):
            await ask(committed_db.as_role(role), "drop_days('events', current_date - 40)")


async def test_a_day_that_somebody_reads_is_dropped_another_time(
    committed_db: Database, pump: Database, tenant: Caller
) -> None:
    """Who wants a lock on all days keeps everybody waiting who comes after: a fifth of a second at most."""
    event = await an_old_event(committed_db, tenant, LATE)
    async with committed_db.begin(tenant) as reader:
        await reader.execute(text("SELECT count(*) FROM events"))
        with pytest.raises(Unavailable):
            await days.drop(pump, retention=RETENTION)
    kept = await is_kept(committed_db, tenant, event)

    await days.drop(pump, retention=RETENTION)

    assert (True, False) == (kept, await is_kept(committed_db, tenant, event))


async def test_rows_of_no_day_are_counted_and_dropped_by_when_they_came(
    committed_db: Database, pump: Database, tenant: Caller
) -> None:
    """A click on a mail of last year has a key of last year; it may still come twice."""
    ages = (timedelta(days=400), timedelta(days=1))
    ids = [old(age) for age in ages]
    async with pump.read(NOBODY) as session:
        before = await days.astray(session)
    async with committed_db.as_role(Role.INGEST).begin(NOBODY) as session:
        for event_id in ids:
            await session.execute(
                text("INSERT INTO event_keys VALUES (:day, :key, :id)"),
                {"day": date(2025, 1, 1), "key": event_id.bytes, "id": event_id},
            )
    for event_id, age in zip(ids, ages, strict=True):
        await happened(committed_db, tenant, an_event(owner=tenant, id=event_id, at=datetime_of(2025, age)))

    async with pump.read(NOBODY) as session:
        after = await days.astray(session)
    await days.drop(pump, retention=RETENTION)

    async with committed_db.as_role(Role.INGEST).read(NOBODY) as session:
        keys = (
            await session.scalars(text("SELECT event_id FROM event_keys WHERE event_id = ANY (:ids)"), {"ids": ids})
        ).all()
    assert (2, 2, 0) == tuple(after[table] - before[table] for table in ("events", "event_keys", "attempts"))
    assert [ids[1]] == keys
    assert [ids[1]] == [row.id for row in await rows(committed_db, tenant, "SELECT id FROM events")]


def datetime_of(year: int, age: timedelta) -> datetime:
    """A time in that year, another for each age."""
    return datetime.fromisoformat(f"{year}-01-01T00:00:00+00:00") + timedelta(days=age.days % 100)


async def test_a_row_of_no_day_stays_while_it_is_to_be_delivered(
    committed_db: Database, pump: Database, keyring: Keyring, tenant: Caller
) -> None:
    """Like a day."""
    endpoint = await make_endpoint(committed_db, tenant, keyring, NOWHERE)
    event = an_event(owner=tenant, id=old(timedelta(days=400)), at=datetime_of(2025, LATE))
    await happened(committed_db, tenant, event)

    await days.drop(pump, retention=RETENTION)
    waiting = await is_kept(committed_db, tenant, event)
    await endpoints.remove(committed_db, tenant, endpoint.id)
    await days.drop(pump, retention=RETENTION)

    assert (True, False) == (waiting, await is_kept(committed_db, tenant, event))


@pytest.mark.parametrize(("seconds", "is_good"), [(25 * 86_400, True), (25 * 86_400 - 1, False)])
def test_a_retention_of_less_than_25_days_is_refused_at_the_start(seconds: int, is_good: bool) -> None:
    environ = {
        "BROKER_DATABASE_URL": "postgresql+asyncpg://broker@127.0.0.1/broker",
        "BROKER_SECRET_KEYS": base64.urlsafe_b64encode(bytes(32)).decode(),
        "BROKER_API_KEY_PEPPER": "x" * 32,
        "BROKER_REGISTRATION": "open",
        "BROKER_EVENT_RETENTION": str(seconds),
    }

    if is_good:
        assert timedelta(days=25) == load(environ).event_retention
    else:
        with pytest.raises(SettingsError, match="25 days"):
            load(environ)
