"""From feedback to counts, rates, a warning and a suspension."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text, update

from broker import clock
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.direct import Direct
from broker.errors import BadRequest, NotFound
from broker.feedback import recipients, store
from broker.feedback.breaker import NOTHING_TO_MEASURE_BY, State
from broker.feedback.events import EVENT_TYPES
from broker.feedback.models import Route
from broker.feedback.usage import folding, service
from broker.feedback.usage.views import GrantUsage
from broker.grants import suspend
from broker.grants.lifecycle import Paper
from broker.grants.models import Grant
from broker.grants.views import Reason
from broker.policies.terms import FeedbackKind, FeedbackTerms
from broker.webhooks.feed import feed
from tests.feedback.conftest import add_grant
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.feedback.reckoning import Counting, terms_with


@pytest_asyncio.fixture
async def counting(committed_db: Database, database_url: str, keyring: Keyring) -> AsyncIterator[Counting]:
    """A world of the test's own, really committed."""
    line = Direct(database_url, role=Role.INGEST, settings=store.AS_WRITTEN)
    yield await Counting.make(committed_db, line, keyring)
    await line.close()


async def change(counting: Counting, **values: Any) -> None:
    """Changes the first grant."""
    async with counting.world.db.begin(counting.world.owner) as session:
        await session.execute(update(Grant).where(Grant.id == counting.world.grant_id).values(**values))


async def reckon(counting: Counting) -> None:
    """Until everything is counted."""
    await counting.set("due_at = now()")
    await counting.reckon_all(folding.fold)


async def usage(counting: Counting, caller: Caller | None = None) -> GrantUsage:
    """Of today, and of the day before, on which the test may have begun."""
    today = clock.now().date()
    first = today - timedelta(days=1)
    return await service.usage(
        counting.world.db, caller or counting.world.owner, counting.world.grant_id, first=first, last=today
    )


def counts_of(found: GrantUsage) -> dict[str, int]:
    """By name, of all days together: midnight may have come in between."""
    return dict(sum((Counter(day.counts) for day in found.days), Counter[str]()))


async def paper(counting: Counting) -> Paper:
    """What is agreed of the first grant."""
    async with counting.world.db.read(counting.world.owner) as session:
        return (await session.get_one(Grant, counting.world.grant_id)).paper


async def told(counting: Counting, type_: str) -> list[Any]:
    """The data of the delegate's events of a type."""
    return [each.data for each in await counting.world.events(counting.world.delegate) if each.type == type_]


async def test_a_grants_events_are_counted_by_day_and_type(counting: Counting) -> None:
    await counting.delivered(5)
    await counting.bounced(2)
    await counting.bounced(1, sub_type="OnAccountSuppressionList")
    await counting.complained(3)
    await reckon(counting)

    found = await usage(counting)
    assert {
        "email.delivered": 5,
        "email.bounced": 3,
        "bounced.hard": 2,
        "bounced.suppressed": 1,
        "email.complained": 3,
        "complained.counted": 1,
    } == counts_of(found)
    assert found.days == (await usage(counting, counting.world.delegate)).days


async def test_a_party_sees_counts_of_what_it_hears(counting: Counting) -> None:
    """The rates of the breaker are both parties' business all the same."""
    terms = FeedbackTerms(owner_events=(FeedbackKind.complaint,))
    await change(counting, feedback=msgspec.to_builtins(terms))
    await counting.delivered(5)
    await counting.bounced(2)
    await reckon(counting)

    owners, delegates = await usage(counting), await usage(counting, counting.world.delegate)
    assert [] == owners.days
    assert {"email.delivered": 5, "email.bounced": 2, "bounced.hard": 2} == counts_of(delegates)
    assert owners.breaker.figures == delegates.breaker.figures
    assert 7 == owners.breaker.figures[0].of


@pytest.mark.parametrize("deaf_to", ["complaint", "delivery", "bounce"])
async def test_terms_cannot_blind_the_breaker(counting: Counting, deaf_to: str) -> None:
    """What neither party hears counts as well, and nobody sees more of it than the breaker's rates."""
    kinds = tuple(kind for kind in FeedbackTerms().owner_events if kind != deaf_to)
    terms = FeedbackTerms(owner_events=kinds, delegate_events=kinds)
    await change(counting, feedback=msgspec.to_builtins(terms))
    await counting.delivered(900)
    await counting.bounced(600)
    for _ in range(20):
        await counting.complained(1)
    await reckon(counting)

    assert Paper.PAUSED is await paper(counting)
    figures = {each.name: (each.count, each.of) for each in (await usage(counting)).breaker.figures}
    assert {"bounces": (600, 1500), "complaints": (20, 900)} == figures
    type_ = EVENT_TYPES[FeedbackKind(deaf_to)]
    for caller in (counting.world.owner, counting.world.delegate):
        heard = (await feed(counting.world.db, caller, after=None, limit=5000)).items
        assert heard
        assert type_ not in {event.type for event in heard}
        assert not any(type_ in day.counts for day in (await usage(counting, caller)).days)
        async with counting.world.db.read(caller) as session:
            assert 0 == await session.scalar(
                text(
                    "SELECT count(*) FROM deliveries d JOIN events e ON e.at = d.event_at AND e.id = d.event_id"
                    " WHERE e.type = :type"
                ),
                {"type": type_},
            )


async def test_nothing_is_known_of_a_recipient_of_what_nobody_hears(counting: Counting, keyring: Keyring) -> None:
    """Neither a state nor a reason not to mail it, from which somebody could tell."""
    terms = FeedbackTerms(owner_events=(FeedbackKind.delivery,), delegate_events=(FeedbackKind.delivery,))
    await change(counting, feedback=msgspec.to_builtins(terms))
    await counting.bounced(1)
    await counting.complained(1)
    await counting.reckon_all(folding.fold, partial(recipients.fold, keyring=keyring))

    async with counting.world.db.read(counting.world.owner) as session:
        for table in ("recipients", "suppressions"):
            assert 0 == await session.scalar(text(f"SELECT count(*) FROM {table}"))


async def test_mail_goes_to_the_breaker_of_the_grant_that_let_it_through(counting: Counting) -> None:
    """And not to that of a newer one, which is suspended."""
    world = counting.world
    now = await counting.now()
    async with world.db.begin(world.owner) as session:
        parties = (world.owner.tenant, world.identity_id, world.identity_arn)
        newer = await add_grant(session, parties, world.delegate.tenant, DELEGATE_ACCOUNT)
        await session.execute(
            update(Grant)
            .where(Grant.id == newer)
            .values(
                activated_at=now - timedelta(hours=1),
                paper=Paper.PAUSED,
                suspended_at=now - timedelta(minutes=30),
                suspended_by="owner",
            )
        )
    await counting.delivered(900)
    await counting.bounced(500)
    await reckon(counting)

    assert Paper.PAUSED is await paper(counting)


async def test_a_stranger_sees_nothing_and_too_long_a_time_is_refused(counting: Counting) -> None:
    with pytest.raises(NotFound):
        await usage(counting, counting.world.second)
    today = clock.now().date()
    with pytest.raises(BadRequest):
        await service.usage(
            counting.world.db,
            counting.world.owner,
            counting.world.grant_id,
            first=today - timedelta(days=800),
            last=today,
        )


async def test_a_grant_without_word_of_mail_is_unmeasured(counting: Counting) -> None:
    await counting.complained(6)
    await reckon(counting)

    breaker = (await usage(counting)).breaker
    assert (State.UNMEASURED, ()) == (breaker.state, tuple(breaker.figures))
    assert Paper.AGREED is await paper(counting)


async def deliveries_go_to(counting: Counting, word: str) -> None:
    """What the last look at the identity found of its delivery notifications."""
    world = counting.world
    name = world.identity_arn.rpartition("/")[2]
    async with world.db.begin(world.owner) as session:
        found = {"identities": {name: {"bounce": "ours", "complaint": "ours", "delivery": word}}}
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(found=found))


@pytest.mark.parametrize("word", ["ours", "owners_topic"])
async def test_mail_of_which_nothing_was_delivered_trips(counting: Counting, word: str) -> None:
    """Deliveries would have been heard."""
    await deliveries_go_to(counting, word)
    await counting.bounced(600)
    await reckon(counting)

    assert State.TRIPPED is (await usage(counting)).breaker.state
    assert Paper.PAUSED is await paper(counting)


@pytest.mark.parametrize("word", ["another_topic", "empty"])
async def test_where_deliveries_go_elsewhere_bounces_are_not_taken_of_themselves(counting: Counting, word: str) -> None:
    """Five hundred a day would suspend whoever delivers a million; both can see why nothing is measured."""
    await deliveries_go_to(counting, word)
    await counting.bounced(600)
    await reckon(counting)

    world = counting.world
    for caller in (world.owner, world.delegate):
        breaker = (await usage(counting, caller)).breaker
        assert (State.UNMEASURED, (), NOTHING_TO_MEASURE_BY) == (
            breaker.state, tuple(breaker.figures), breaker.reason
        )  # fmt: skip
    assert Paper.AGREED is await paper(counting)


async def test_deliveries_that_are_heard_all_the_same_are_measured(counting: Counting) -> None:
    """By a setting that was changed since the last look, or on an identity beneath."""
    await deliveries_go_to(counting, "another_topic")
    await counting.delivered(950)
    await counting.bounced(50)
    await reckon(counting)

    breaker = (await usage(counting)).breaker
    assert (State.TRIPPED, None) == (breaker.state, breaker.reason)


async def test_a_warning_is_told_once(counting: Counting) -> None:
    """Not with each batch, and not again while the rate stays near."""
    await counting.delivered(970)
    await counting.bounced(30)
    await reckon(counting)
    await counting.bounced(5)
    await reckon(counting)
    await counting.delivered(20)
    await reckon(counting)

    (warning,) = await told(counting, "grant.limit_warned")
    (figure,) = warning["figures"]
    assert {
        "name": "bounces",
        "count": 30,
        "of": 1000,
        "rate": 0.03,
        "warn_at": 0.02,
        "suspend_at": 0.05,
        "window_hours": 24,
    } == figure
    assert State.WARNED is (await usage(counting)).breaker.state
    assert Paper.AGREED is await paper(counting)


async def test_a_breaker_that_trips_suspends_and_says_why(counting: Counting) -> None:
    await counting.delivered(950)
    await counting.bounced(60)
    await reckon(counting)

    async with counting.world.db.read(counting.world.owner) as session:
        grant = await session.get_one(Grant, counting.world.grant_id)
        due = await session.scalar(text("SELECT due_at <= now() FROM identities"))
        entry = (
            await session.execute(text("SELECT actor, details FROM audit WHERE action = 'grant.suspend_requested'"))
        ).one()
    assert (Paper.PAUSED, "breaker", True) == (grant.paper, grant.suspended_by, due)
    assert grant.suspension is not None
    (figure,) = grant.suspension["figures"]
    assert ("bounces", 60, 1010) == (figure["name"], figure["count"], figure["of"])
    assert ("system:breaker", "breaker") == (entry.actor, entry.details["suspended_by"])
    assert State.TRIPPED is (await usage(counting)).breaker.state
    assert [] == await told(counting, "grant.limit_warned")


async def test_suppressed_bounces_and_guesses_do_not_trip(counting: Counting) -> None:
    """One mail to many that were never tried, and one complaint that SES guesses to be anybody's of five hundred."""
    await counting.delivered(950)
    await counting.bounced(200, sub_type="OnAccountSuppressionList")
    await counting.complained(500)
    await reckon(counting)

    assert Paper.AGREED is await paper(counting)
    assert State.OK is (await usage(counting)).breaker.state


async def test_the_terms_set_other_limits(counting: Counting) -> None:
    await change(counting, terms=terms_with(minimum_sends=10, bounce_rate=0.5))
    await counting.delivered(10)
    await counting.bounced(9)
    await reckon(counting)
    before = await paper(counting)
    await counting.bounced(1)
    await reckon(counting)

    assert (Paper.AGREED, Paper.PAUSED) == (before, await paper(counting))


async def test_a_number_of_sends_trips_as_well(counting: Counting) -> None:
    await change(counting, terms=terms_with(sends_per_day=20))
    await counting.delivered(20)
    await reckon(counting)

    assert Paper.PAUSED is await paper(counting)


async def test_a_resumed_grant_does_not_trip_on_what_was_before(counting: Counting) -> None:
    """Nor on late bounces of old mail; new ones count from nothing."""
    world = counting.world
    await counting.delivered(950)
    await counting.bounced(60)
    await reckon(counting)
    sent_at = await counting.now()
    await suspend.resume(world.db, world.owner, world.grant_id, Reason())

    resumed = await usage(counting)
    await counting.bounced(600, timestamp=sent_at.isoformat().replace("+00:00", "Z"))
    await counting.delivered(990)
    await counting.bounced(10)
    await reckon(counting)

    later = await usage(counting)
    assert (State.UNMEASURED, State.OK) == (resumed.breaker.state, later.breaker.state)
    assert (10, 1000) == (later.breaker.figures[0].count, later.breaker.figures[0].of)
    assert Paper.AGREED is await paper(counting)
    assert 670 == counts_of(later)["bounced.hard"]

    await counting.bounced(60)
    await reckon(counting)
    assert Paper.PAUSED is await paper(counting)


async def test_other_grants_are_not_touched(counting: Counting) -> None:
    await counting.delivered(950)
    await counting.bounced(60)
    await reckon(counting)

    async with counting.world.db.read(counting.world.owner) as session:
        assert Paper.AGREED is (await session.get_one(Grant, counting.world.second_grant_id)).paper


async def test_an_owners_suspension_shows_the_breaker_as_off(counting: Counting) -> None:
    await suspend.suspend(counting.world.db, counting.world.owner, counting.world.grant_id, Reason())

    assert State.OFF is (await usage(counting)).breaker.state
