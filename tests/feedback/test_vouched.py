"""The same feedback by a topic of the broker's and one of the delegate's own: the second can only make it stricter."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update

from broker.crypto import Keyring
from broker.db import Database, Role
from broker.direct import Direct
from broker.feedback import recipients, store
from broker.feedback.breaker import Counts, Figure, State, Window, judge
from broker.feedback.envelope import Envelope
from broker.feedback.ingest import Ingest, Tally
from broker.feedback.usage import folding, service
from broker.feedback.usage.views import GrantUsage
from broker.grants.models import Grant
from broker.policies.terms import FeedbackKind, FeedbackTerms, Limits
from broker.webhooks.digests.work import IDS
from broker.webhooks.feed import feed
from tests.feedback.conftest import arrived, make_world
from tests.feedback.examples import bounce, complaint, delivery, mail
from tests.feedback.reckoning import Counting, Remembering, stamp, terms_with
from tests.feedback.test_erasures import erase
from tests.feedback.test_forged import SET, add_topic
from tests.webhooks.replaying import replay, step

LIMITS: dict[str, Any] = {"minimum_sends": 4, "bounce_rate": 0.3, "complaint_rate": 0.6}


class Said(msgspec.Struct, frozen=True, order=True):
    """One message: what is said of the mail of this number, and by whom.

    `listed`: a bounce of SES's suppression list, which does not count in the rate.
    """

    number: int
    kind: str
    by_broker: bool = True
    listed: bool = False


class TwoWays(Counting):
    """A grant of which a topic of the broker's tells, and one of the delegate's own."""

    own: str = ""
    at: datetime

    async def prepare(self) -> "TwoWays":
        """Adds the delegate's topic, and limits that a few mails reach."""
        self.own = await add_topic(self.world, self.world.delegate, configuration_set=SET)
        self.at = await self.now()
        heard = msgspec.to_builtins(FeedbackTerms(delegate_events=tuple(FeedbackKind)))
        values = {"feedback": heard, "terms": terms_with(**LIMITS)}
        async with self.world.db.begin(self.world.owner) as session:
            await session.execute(update(Grant).where(Grant.id == self.world.grant_id).values(**values))
        return self

    def message(self, said: Said) -> Envelope:
        """As SES or the delegate publishes it."""
        address, at = f"r{said.number}@example.org", stamp(self.at)
        kind = {"bounceType": "Permanent", "bounceSubType": "OnAccountSuppressionList" if said.listed else "General"}
        details = {
            "Delivery": delivery(recipients=[address], timestamp=at),
            "Bounce": bounce(bouncedRecipients=[{"emailAddress": address}], timestamp=at, **kind),
            "Complaint": complaint(complainedRecipients=[{"emailAddress": address}], timestamp=at),
        }[said.kind]
        about = mail(messageId=f"mail-{said.number}", timestamp=at, tags={"ses:configuration-set": [SET]})
        payload = {"eventType": said.kind, said.kind.lower(): details, "mail": about}
        return self.world.envelope(payload, Timestamp=at, **({} if said.by_broker else {"TopicArn": self.own}))

    async def say(self, *said: Said) -> Tally:
        """All in one batch."""
        return await self.ingest.take(arrived(*(self.message(each) for each in said)), now=self.at)

    async def add_up(self, keyring: Keyring) -> None:
        """Until everything is reckoned."""
        await self.set("asleep = false, due_at = now()")
        await self.reckon_all(folding.fold, partial(recipients.fold, keyring=keyring))

    async def usage(self) -> GrantUsage:
        """Of the day of the feedback."""
        day = self.at.date()
        return await service.usage(self.world.db, self.world.owner, self.world.grant_id, first=day, last=day)

    async def bounces(self) -> Figure:
        (found,) = [each for each in (await self.usage()).breaker.figures if each.name == "bounces"]
        return found

    async def read(self, query: str) -> list[Any]:
        """As the owner may read it."""
        async with self.world.db.read(self.world.owner) as session:
            return list(await session.execute(text(query)))


@pytest_asyncio.fixture
async def line(database_url: str) -> AsyncIterator[Direct]:
    one = Direct(database_url, role=Role.INGEST, settings=store.AS_WRITTEN)
    yield one
    await one.close()


async def make(db: Database, line: Direct, keyring: Keyring) -> TwoWays:
    return await TwoWays(await make_world(db), line, keyring).prepare()


@pytest_asyncio.fixture
async def ways(committed_db: Database, line: Direct, keyring: Keyring) -> TwoWays:
    """Really committed: what is under way is not reckoned."""
    return await make(committed_db, line, keyring)


FORGED = Said(0, "Bounce", by_broker=False, listed=True)
TRUE = Said(0, "Bounce")


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_forged_bounce_of_a_suppression_list_does_not_hide_the_true_one(
    ways: TwoWays, keyring: Keyring, *, at_once: bool
) -> None:
    await ways.say(*(Said(number, "Delivery") for number in range(1, 10)))
    for batch in [(FORGED, TRUE)] if at_once else [(FORGED,), (TRUE,)]:
        await ways.say(*batch)
    await ways.add_up(keyring)

    assert (1, 10) == ((await ways.bounces()).count, (await ways.bounces()).of)
    assert 1 == len(await ways.read("SELECT 1 FROM recipients WHERE state = 'permanent_bounce' AND bounces = 1"))
    assert ["hard_bounce"] == [row.reason for row in await ways.read("SELECT reason FROM suppressions")]


async def test_the_brokers_copy_is_a_repetition_to_those_who_hear(ways: TwoWays, keyring: Keyring) -> None:
    """No delivery, not in a feed, a digest or a replay, not counted; and stored once however often it comes."""
    assert Tally(stored=1) == await ways.say(FORGED)
    delivered = await ways.world.deliveries()
    assert Tally(repeated=1) == await ways.say(TRUE)
    assert Tally(repeated=1) == await ways.say(TRUE)
    assert Tally(repeated=1) == await ways.say(FORGED)
    await ways.add_up(keyring)

    db, world = ways.world.db, ways.world
    first, copy = await ways.read("SELECT * FROM events ORDER BY xact, id")
    assert (None, None, None, "broker_topic") == (copy.owner_view, copy.delegate_view, copy.payload, copy.source)
    assert delivered == await world.deliveries()
    assert {"email.bounced": 1, "bounced.suppressed": 1} == (await ways.usage()).days[0].counts
    for party in (world.owner, world.delegate):
        assert [first.id] == [each.id for each in (await feed(db, party, after=None, limit=10)).items]
        async with db.as_role(Role.WORKER).read(party) as session:
            named = {"me": party.tenant, "since": 0, "first": UUID(int=0), "end": UUID(int=2**128 - 1)}
            nothing = dict.fromkeys(("event_types", "grant_ids", "identity_arns"))
            found = (await session.execute(IDS, named | nothing | {"addressed": []})).all()
        assert {1} == {row.number for row in found}
        job = await replay(db, party, world.endpoints[party.tenant])
        await step(db, party, job.id)
    assert delivered == await world.deliveries()


async def test_what_the_broker_said_first_is_not_said_again(ways: TwoWays) -> None:
    await ways.say(TRUE)

    assert Tally(repeated=1) == await ways.say(FORGED)
    assert 1 == len(await ways.read("SELECT 1 FROM events"))


async def test_the_brokers_copy_wakes_the_reckoning(ways: TwoWays) -> None:
    seen = Remembering()
    await ways.say(FORGED)
    await ways.set("asleep = true, due_at = NULL, after_xact = 0")
    await ways.say(TRUE)
    await ways.reckon_all(seen)

    assert [(True, "OnAccountSuppressionList"), (False, "General")] == [
        (each.heard, each.bounce_sub_type) for each in seen.given
    ]


async def test_the_brokers_copy_is_erased_too(ways: TwoWays, keyring: Keyring) -> None:
    await ways.say(FORGED)
    await ways.say(TRUE)
    await erase(ways.world, keyring, ways.world.owner, "r0@example.org")

    stored = await ways.read("SELECT CAST(e AS text) AS whole FROM events e WHERE type = 'email.bounced'")
    assert 2 == len(stored)
    assert not [row for row in stored if "r0@" in row.whole]


async def test_an_honest_grant_with_two_routes_has_its_true_rate(ways: TwoWays, keyring: Keyring) -> None:
    """One in ten bounces. Of every third mail the delegate's own topic tells first, of its bounces always."""
    for number in range(20):
        kind = "Bounce" if number % 10 == 0 else "Delivery"
        copies = [Said(number, kind), Said(number, kind, by_broker=False)]
        for said in reversed(copies) if number % 3 == 0 or kind == "Bounce" else copies:
            await ways.say(said)
    await ways.add_up(keyring)

    found = await ways.bounces()
    assert (2, 20, 0.1) == (found.count, found.of, found.rate)
    assert {"email.bounced": 2, "bounced.hard": 2, "email.delivered": 18} == (await ways.usage()).days[0].counts
    (sums,) = await ways.read("SELECT sum(bounces) AS bounces, sum(deliveries) AS deliveries FROM recipients")
    assert (2, 18) == (sums.bounces, sums.deliveries)


async def test_of_two_routes_at_the_same_time_the_brokers_is_never_missed(
    ways: TwoWays, database_url: str, keyring: Keyring
) -> None:
    """Neither sees the other's key in its snapshot."""
    other = Direct(database_url, role=Role.INGEST, settings=store.AS_WRITTEN)
    second = Ingest(other, keyring)
    numbers = range(30)
    for some in (numbers[:10], numbers[10:20], numbers[20:]):
        by_tenant = arrived(*(ways.message(Said(each, "Bounce", by_broker=False, listed=True)) for each in some))
        by_broker = arrived(*(ways.message(Said(each, "Bounce")) for each in some))
        await asyncio.gather(ways.ingest.take(by_tenant, now=ways.at), second.take(by_broker, now=ways.at))
    await other.close()
    await ways.add_up(keyring)

    (windows,) = await ways.read("SELECT sum(bounced) AS bounced FROM usage_windows WHERE vouched")
    assert 30 == windows.bounced
    assert 60 == len(await ways.world.deliveries())


numbers = st.integers(0, 7)
true_ones = st.dictionaries(numbers, st.sampled_from([("Delivery", False), ("Bounce", False), ("Bounce", True)]))
whatever = st.builds(
    Said, numbers, st.sampled_from(["Delivery", "Bounce", "Complaint"]), by_broker=st.just(False), listed=st.booleans()
)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Said], list[list[Said]]]:
    """What SES says by the broker's topic; and that with whatever a delegate says, in any order, some again."""
    true = [Said(number, kind, listed=listed) for number, (kind, listed) in sorted(draw(true_ones).items())]
    true += [Said(number, "Complaint") for number in sorted(draw(st.sets(numbers, max_size=5)))]
    said = [*true, *draw(st.lists(whatever, max_size=12))]
    everything: list[Said] = draw(st.permutations([*said, *said[: draw(st.integers(0, len(said)))]]))
    cuts = sorted(draw(st.sets(st.integers(0, len(everything)), max_size=4)) | {0, len(everything)})
    return true, [everything[begin:end] for begin, end in pairwise(cuts)]


DEAD = [Said(number, "Bounce") for number in range(3)]
HIDDEN = [Said(number, "Bounce", by_broker=False, listed=True) for number in range(3)]
ALIVE = [Said(number, "Delivery") for number in range(3, 8)]

SEVERITY = [State.UNMEASURED, State.OK, State.WARNED, State.TRIPPED]


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(story=stories())
@example(story=([*DEAD, *ALIVE], [HIDDEN, [*ALIVE, *DEAD]]))
async def test_whatever_a_tenants_own_topic_says_the_verdict_is_as_strict_as_without(
    committed_db: Database, line: Direct, keyring: Keyring, story: tuple[Sequence[Said], Sequence[Sequence[Said]]]
) -> None:
    """And each occurrence is heard once, and counted once, by both."""
    true, batches = story
    ways = await make(committed_db, line, keyring)
    for batch in batches:
        await ways.say(*batch)
    await ways.add_up(keyring)

    alone = Counts(
        delivered=sum(each.kind == "Delivery" for each in true),
        bounced=sum(each.kind == "Bounce" and not each.listed for each in true),
        complained=sum(each.kind == "Complaint" for each in true),
    )
    found = await ways.usage()
    least = judge(Window(alone, alone), Limits(**LIMITS)).state
    assert SEVERITY.index(least) <= SEVERITY.index(found.breaker.state)
    occurrences = {(each.number, each.kind) for batch in batches for each in batch}
    types = {"Delivery": "email.delivered", "Bounce": "email.bounced", "Complaint": "email.complained"}
    expected = Counter(types[kind] for _, kind in occurrences)
    counted = found.days[0].counts if found.days else {}
    assert expected == {name: number for name, number in counted.items() if name in types.values()}
    heard = await feed(ways.world.db, ways.world.delegate, after=None, limit=100)
    assert expected == Counter(each.type for each in heard.items if each.type in types.values())
    (deliveries,) = await ways.read(
        "SELECT count(*) AS number FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.type LIKE 'email.%'"
    )
    assert len(occurrences) == deliveries.number
