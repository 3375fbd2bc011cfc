"""From verified SNS messages to events and deliveries, on a real Postgres under the role of ingest."""

import asyncio
import hashlib
import hmac
import random
from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, text, update
from sqlalchemy.exc import DBAPIError

from broker.caller import NOBODY
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.direct import Direct
from broker.errors import Unavailable
from broker.feedback import store
from broker.feedback.envelope import Envelope
from broker.feedback.ingest import Ingest, Tally
from broker.feedback.keys import key_of
from broker.feedback.models import EventKey, Route, Topic
from broker.feedback.payloads import Feedback, parse
from broker.feedback.sort import Sorted
from broker.grants.models import Grant
from broker.identities.models import Identity
from broker.ids import new_id
from broker.policies.terms import FeedbackKind, FeedbackTerms, View
from tests.feedback.conftest import (
    SECOND_ACCOUNT,
    ChangeGrant,
    Savepoint,
    World,
    add_grant,
    arrived,
    as_envelope,
    ingest_role,
    make_world,
    route_of,
)
from tests.feedback.examples import (
    DELEGATE_ACCOUNT,
    MESSAGE_ID,
    OWNER_ACCOUNT,
    bounce,
    complaint,
    delivery,
    notified,
    published,
)
from tests.feedback.nasty import malformed
from tests.feedback.sns import NOW, notification


class Bell:
    """Remembers for what it was rung."""

    def __init__(self) -> None:
        self.rung: dict[str, set[UUID]] = {}

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None:
        self.rung.setdefault(kind, set()).update(ids)


async def take(world: World, keyring: Keyring, *batch: Envelope) -> Tally:
    return await Ingest(Savepoint(world.db), keyring).take(arrived(*batch), now=NOW)


async def test_a_bounce_becomes_an_event_for_both_parties(world: World, keyring: Keyring) -> None:
    tally = await take(world, keyring, world.envelope(notified("Bounce", bounce())))

    (event,) = await world.events(world.delegate)
    key = keyring.derive("recipient-hash", str(world.grant_id))
    hashed = hmac.new(key, b"jane@example.org", hashlib.sha256).hexdigest()
    assert Tally(stored=1) == tally
    assert ("email.bounced", NOW, world.owner.tenant, world.delegate.tenant, world.grant_id) == (
        event.type,
        event.at,
        event.owner_id,
        event.delegate_id,
        event.grant_id,
    )
    assert ("broker_topic", "hashed", "full", hashed) == (
        event.source,
        event.owner_view,
        event.delegate_view,
        event.recipient_hash,
    )
    assert sorted([world.owner.tenant, world.delegate.tenant]) == await world.deliveries()


async def test_the_data_holds_every_field(world: World, keyring: Keyring) -> None:
    await take(world, keyring, world.envelope(published("Bounce", "bounce", bounce())))

    (event,) = await world.events(world.delegate)
    assert {
        "event_id": str(event.id),
        "grant_id": str(world.grant_id),
        "identity": world.identity_arn,
        "message_id": "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000",
        "sending_account": "222222222222",
        "sent_at": "2026-01-05T11:59:00Z",
        "occurred_at": "2026-01-05T11:59:30.500000Z",
        "source": "broker_topic",
        "recipient": "jane@example.org",
        "recipient_hash": event.recipient_hash,
        "kind": "bounce",
        "recipients": 1,
        "feedback_id": "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa068a-000000",
        "final": True,
        "bounce_type": "Permanent",
        "bounce_sub_type": "General",
        "complaint_sub_type": None,
        "status": "5.1.1",
        "action": "failed",
        "diagnostic_code": "550 5.1.1 <jane@example.org>... User unknown",
        "reporting_mta": "email.example.com",
        "remote_mta": "127.0.2.0",
        "feedback_type": None,
        "user_agent": None,
        "smtp_response": None,
        "processing_ms": None,
        "from": "newsletter@example.com",
        "subject": "Hello",
        "tags": {
            "ses:configuration-set": ["delegation-broker-1"],
            "ses:operation": ["SendEmail"],
            "campaign": ["spring"],
        },
        "configuration_set": "delegation-broker-1",
    } == event.data


async def test_each_recipient_has_an_event_and_the_payload_is_kept_once(world: World, keyring: Keyring) -> None:
    two = [{"emailAddress": "jane@example.org"}, {"emailAddress": "mary@example.org"}]
    envelope = world.envelope(notified("Bounce", bounce(bouncedRecipients=two)))
    await take(world, keyring, envelope)

    events = await world.events(world.delegate)
    assert {"jane@example.org", "mary@example.org"} == {event.data["recipient"] for event in events}
    assert {envelope.message, None} == {event.payload for event in events}


async def test_what_came_before_changes_nothing(world: World, keyring: Keyring) -> None:
    first = world.envelope(notified("Bounce", bounce()))
    by_the_other_route = world.envelope(
        published("Bounce", "bounce", bounce(feedbackId="other", timestamp="2026-01-05T11:59:31.000Z")),
        Timestamp="2026-01-05T12:00:03.000Z",
    )

    assert Tally(stored=1) == await take(world, keyring, first, first)
    assert Tally(repeated=1) == await take(world, keyring, first)
    assert Tally(repeated=1) == await take(world, keyring, by_the_other_route)
    assert 2 == len(await world.deliveries())


async def test_the_second_delegate_hears_nothing_of_the_first(world: World, keyring: Keyring) -> None:
    await take(world, keyring, world.envelope(notified("Bounce", bounce())))

    assert [] == await world.events(world.second)
    assert world.second.tenant not in await world.deliveries()


async def test_one_batch_serves_both_delegates(world: World, keyring: Keyring) -> None:
    await take(
        world,
        keyring,
        world.envelope(notified("Bounce", bounce())),
        world.envelope(notified("Bounce", bounce(), sendingAccountId=SECOND_ACCOUNT)),
    )

    assert [world.grant_id] == [event.grant_id for event in await world.events(world.delegate)]
    assert [world.second_grant_id] == [event.grant_id for event in await world.events(world.second)]
    assert 2 == len(await world.events(world.owner))


async def test_the_owners_own_mail_is_counted_and_not_stored(world: World, keyring: Keyring) -> None:
    own = world.envelope(notified("Bounce", bounce(), sendingAccountId=OWNER_ACCOUNT))

    assert Tally(own=1) == await take(world, keyring, own)
    assert [] == await world.events(world.owner)
    assert [] == await world.quarantined()


async def test_an_identity_of_a_foreign_account_is_quarantined(world: World, keyring: Keyring) -> None:
    forged = world.identity_arn.replace(OWNER_ACCOUNT, "444444444444")

    assert Tally(quarantined=1) == await take(
        world, keyring, world.envelope(notified("Bounce", bounce(), sourceArn=forged))
    )
    assert ["The identity is not in an account that publishes to this topic."] == await world.quarantined()


async def test_one_owners_topic_says_nothing_about_anothers_identity(db: Database, keyring: Keyring) -> None:
    one, other = await make_world(db), await make_world(db)
    forged = one.envelope(notified("Bounce", bounce(), sourceArn=other.identity_arn))

    assert Tally(dropped=1) == await take(one, keyring, forged)
    assert [] == await other.events(other.delegate)


@pytest.mark.parametrize(
    "message", ["not JSON", '{"notificationType": "Astonished"}', '{"eventType": "Bounce", "mail": {}}', "a\0b"]
)
async def test_what_cannot_be_read_is_kept_in_quarantine(world: World, keyring: Keyring, message: str) -> None:
    envelope = as_envelope(notification(message, TopicArn=world.topic_arn))

    assert Tally(quarantined=1) == await take(world, keyring, envelope)
    assert 1 == len(await world.quarantined())


async def test_a_message_from_the_future_is_quarantined(world: World, keyring: Keyring) -> None:
    soon = world.envelope(notified("Bounce", bounce()), Timestamp="2026-01-05T12:15:00.000Z")
    later = world.envelope(notified("Delivery", delivery()), Timestamp="2026-01-05T12:15:00.001Z")

    assert Tally(stored=1, quarantined=1) == await take(world, keyring, soon, later)


async def test_a_topic_of_no_route_is_quarantined(world: World, keyring: Keyring) -> None:
    stranger = world.envelope(notified("Bounce", bounce()), TopicArn="arn:aws:sns:eu-west-1:444444444444:t")

    assert Tally(quarantined=1) == await take(world, keyring, stranger)
    assert [] == await world.quarantined()


async def test_a_test_message_is_ignored(world: World, keyring: Keyring) -> None:
    hello = "Successfully validated SNS topic for Amazon SES event publishing."

    assert Tally(ignored=1) == await take(world, keyring, as_envelope(notification(hello, TopicArn=world.topic_arn)))


async def test_terms_decide_who_hears_what(world: World, keyring: Keyring, change_grant: ChangeGrant) -> None:
    terms = FeedbackTerms(
        owner_events=(FeedbackKind.complaint,), owner_view=View.none, delegate_events=(FeedbackKind.bounce,)
    )
    await change_grant(feedback=msgspec.to_builtins(terms))
    tally = await take(
        world,
        keyring,
        world.envelope(notified("Bounce", bounce())),
        world.envelope(notified("Complaint", complaint())),
        world.envelope(notified("Delivery", delivery())),
    )

    views = {event.type: (event.owner_view, event.delegate_view) for event in await world.events(world.owner)}
    assert Tally(stored=2, unheard=1) == tally
    heard = {"email.bounced": (None, "full"), "email.complained": ("none", None)}
    assert heard | {"email.delivered": (None, None)} == views
    assert sorted([world.owner.tenant, world.delegate.tenant]) == await world.deliveries()


COUNTED = [("Bounce", bounce()), ("Complaint", complaint()), ("Delivery", delivery()), ("Send", {})]


async def test_what_the_breaker_counts_is_stored_though_nobody_hears_it(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    """Without anybody in it, and without a delivery; what it does not count is not stored."""
    await change_grant(feedback=msgspec.to_builtins(FeedbackTerms(owner_events=(), delegate_events=())))
    counted = [world.envelope(published(type_, type_.lower(), details)) for type_, details in COUNTED]
    other = world.envelope(published("Open", "open", {"timestamp": "2026-01-05T12:00:00Z"}))
    tally = await take(world, keyring, *counted, other)

    stored = await world.events(world.owner)
    assert Tally(unheard=6) == tally  # the mail was sent to two
    assert {"email.bounced", "email.complained", "email.delivered", "email.sent"} == {row.type for row in stored}
    assert {(None, None, None, None)} == {
        (row.owner_view, row.delegate_view, row.recipient_hash, row.payload) for row in stored
    }
    assert not any("@" in str(row.data) for row in stored)
    assert [] == await world.deliveries()


async def test_what_nobody_hears_of_a_grant_that_has_ended_is_not_stored(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    deaf = msgspec.to_builtins(FeedbackTerms(owner_events=(), delegate_events=()))
    await change_grant(ended_at=NOW, feedback=deaf)

    assert Tally(unheard=1) == await take(world, keyring, world.envelope(notified("Bounce", bounce())))


async def test_a_hard_bounce_after_an_out_of_office_reply_is_another_event(world: World, keyring: Keyring) -> None:
    """Whichever comes first, and each once."""
    envelopes = [world.envelope(notified("Bounce", bounce(bounceType=each))) for each in ("Transient", "Permanent")]

    assert Tally(stored=2) == await take(world, keyring, *envelopes)
    assert Tally(repeated=2) == await take(world, keyring, *reversed(envelopes))


async def test_a_grant_that_is_suspended_meanwhile_is_read_again(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    """What ingest remembers of it has the suspension in its stamp."""
    async with world.db.begin(world.owner) as session:
        parties = (world.owner.tenant, world.identity_id, world.identity_arn)
        newer = await add_grant(session, parties, world.delegate.tenant, DELEGATE_ACCOUNT)
        query = update(Grant).where(Grant.id == newer)
        await session.execute(query.values(activated_at=NOW - timedelta(hours=12)))
    ingest = Ingest(Savepoint(world.db), keyring)
    for message_id, values in (
        ("1", {}),
        ("2", {"suspended_at": NOW - timedelta(hours=6)}),
        ("3", {"resumed_at": NOW - timedelta(hours=5)}),
    ):
        if values:
            async with world.db.begin(world.owner) as session:
                await session.execute(query.values(**values))
        envelope = world.envelope(notified("Bounce", bounce(), messageId=message_id))
        await ingest.take(arrived(envelope), now=NOW)

    found = {event.data["message_id"]: event.grant_id for event in await world.events(world.owner)}
    assert {"1": newer, "2": world.grant_id, "3": newer} == found


async def test_the_bounce_of_a_grants_last_mail_still_arrives(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    await change_grant(ended_at=NOW - timedelta(seconds=30), verified_at=NOW - timedelta(seconds=29))

    assert Tally(stored=1) == await take(world, keyring, world.envelope(notified("Bounce", bounce())))


async def test_a_grant_that_was_never_active_gets_nothing(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    await change_grant(activated_at=None)

    assert Tally(dropped=1) == await take(world, keyring, world.envelope(notified("Bounce", bounce())))


async def test_the_first_event_is_told_to_the_delegates_route_only(world: World, keyring: Keyring) -> None:
    await take(world, keyring, world.envelope(notified("Bounce", bounce())))

    heard, other = await route_of(world, world.grant_id), await route_of(world, world.second_grant_id)
    assert heard.live_at is not None
    assert heard.due_at is not None
    assert other.live_at is None


@pytest.mark.parametrize(
    ("of_owner", "in_set", "expected"),
    [(True, None, True), (False, None, False), (False, "delegation-broker-x", False), (True, "x", False)],
)
async def test_an_identity_topic_is_heard_by_every_topic_of_its_owner_that_may_hold_a_slot(
    world: World, of_owner: bool, in_set: str | None, expected: bool
) -> None:
    """A delegate's own topic tells nothing of it, nor does one of a configuration set."""
    tenant = world.owner if of_owner else world.delegate
    arn = f"arn:aws:sns:eu-west-1:{OWNER_ACCOUNT}:own-{tenant.tenant.hex}"
    async with world.db.begin(tenant) as session:
        session.add(
            Topic(
                id=new_id(),
                tenant_id=tenant.tenant,
                arn=arn,
                region="eu-west-1",
                source="tenant_topic",
                state="confirmed",
                configuration_set=in_set,
            )
        )

    nothing = Sorted(events=[], asides=[], heard=set(), attributed=[])
    saved = await store.save(Savepoint(world.db), nothing, [(world.grant_id, arn)], topics={}, identities={})

    route = await route_of(world, world.grant_id)
    assert expected == (route.live_at is not None)
    assert ([route.id] if expected else []) == list(saved.routes if saved else [])


async def test_the_bell_rings_for_those_who_hear(world: World, keyring: Keyring) -> None:
    bell = Bell()

    await Ingest(Savepoint(world.db), keyring, bell=bell).take(
        arrived(world.envelope(notified("Bounce", bounce()))), now=NOW
    )

    hearing = {world.endpoints[world.owner.tenant], world.endpoints[world.delegate.tenant]}
    assert hearing == bell.rung["lanes"]
    assert 1 == len(bell.rung["routes"])


async def test_an_empty_batch_is_nothing(world: World, keyring: Keyring) -> None:
    assert Tally() == await take(world, keyring)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM connections",
        "SELECT * FROM api_keys",
        "SELECT secret FROM endpoints",
        "SELECT terms FROM grants",
        "UPDATE topics SET state = 'lost'",
        "UPDATE routes SET state = 'live'",
        "DELETE FROM event_keys",
    ],
)
async def test_ingest_may_do_no_more_than_its_job(world: World, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with ingest_role(world.db).begin(NOBODY) as session:
            await session.execute(text(statement))


async def test_two_batches_at_once_make_one_event(committed_db: Database, keyring: Keyring) -> None:
    world = await make_world(committed_db)
    batch = [
        world.envelope(notified("Bounce", bounce(bouncedRecipients=[{"emailAddress": f"r{number}@example.org"}])))
        for number in range(20)
    ]
    tallies = await asyncio.gather(
        *(take(world, keyring, *(batch if number % 2 else reversed(batch))) for number in range(6))
    )

    assert 20 == sum(tally.stored for tally in tallies)
    assert 100 == sum(tally.repeated for tally in tallies)
    assert 40 == len(await world.deliveries())


PAYLOADS = [
    notified("Bounce", bounce()),
    published("Bounce", "bounce", bounce(feedbackId="other")),
    notified("Complaint", complaint()),
    notified("Delivery", delivery()),
    notified("Delivery", delivery(), messageId="another"),
    notified("Bounce", bounce(), sendingAccountId=SECOND_ACCOUNT),
    notified("Bounce", bounce(), sendingAccountId=OWNER_ACCOUNT),
]


@pytest.mark.parametrize("seed", range(6))
async def test_neither_order_nor_repetition_changes_what_is_delivered(
    world: World, keyring: Keyring, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the order of messages is no secret
    payloads = PAYLOADS + chance.choices(PAYLOADS, k=5)
    chance.shuffle(payloads)
    cut = chance.randrange(len(payloads))
    for part in (payloads[:cut], payloads[cut:]):
        await take(world, keyring, *(world.envelope(payload) for payload in part))

    assert sorted(
        [
            ("email.bounced", world.grant_id, MESSAGE_ID),
            ("email.complained", world.grant_id, MESSAGE_ID),
            ("email.delivered", world.grant_id, MESSAGE_ID),
            ("email.delivered", world.grant_id, "another"),
            ("email.bounced", world.second_grant_id, MESSAGE_ID),
        ]
    ) == sorted((event.type, event.grant_id, event.data["message_id"]) for event in await world.events(world.owner))
    assert 10 == len(await world.deliveries())


async def test_a_connection_that_dies_before_the_commit_leaves_nothing_behind(
    committed_db: Database, keyring: Keyring, database_url: str
) -> None:
    line = Direct(database_url, role=Role.INGEST)
    world = await make_world(committed_db)
    envelope = world.envelope(notified("Bounce", bounce()))
    parsed = parse(envelope.message)
    assert isinstance(parsed, Feedback)
    key = key_of(parsed.mail, parsed.occurrences[0], keyring.derive("event-keys", ""))
    blocking = insert(EventKey).values(day=key.day, key=key.digest, event_id=new_id())
    async with ingest_role(committed_db).read(NOBODY) as never_committed:
        await never_committed.execute(blocking)
        waiting = asyncio.create_task(Ingest(line, keyring).take(arrived(envelope), now=NOW))
        await _terminate_who_waits(committed_db)
        with pytest.raises(Unavailable):
            await waiting

    assert [] == await world.events(world.owner)
    assert Tally(stored=1) == await Ingest(line, keyring).take(arrived(envelope), now=NOW)
    await line.close()


async def _terminate_who_waits(db: Database) -> None:
    """Ends the connection that waits for somebody else's key."""
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE '%WITH stale AS%'"
    )
    async with asyncio.timeout(10):
        while True:
            async with db.as_role(Role.WORKER).read(NOBODY) as session:
                await session.execute(text("RESET ROLE"))
                if (await session.scalars(kill)).all():
                    return


async def own_mail(world: World, *, wanted: bool) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Identity).where(Identity.id == world.identity_id).values(own_mail=wanted))


async def test_own_mail_is_heard_by_its_owner_alone_where_it_is_wanted(world: World, keyring: Keyring) -> None:
    await own_mail(world, wanted=True)
    own = world.envelope(notified("Bounce", bounce(), sendingAccountId=OWNER_ACCOUNT))

    assert Tally(stored=1) == await take(world, keyring, own)
    assert Tally(repeated=1) == await take(world, keyring, own)
    (event,) = await world.events(world.owner)
    assert ("full", None, None, None, None) == (
        event.owner_view,
        event.delegate_id,
        event.delegate_view,
        event.grant_id,
        event.data["grant_id"],
    )
    assert [world.owner.tenant] == await world.deliveries()
    assert [] == await world.events(world.delegate)


async def test_mail_of_a_strange_account_is_nobodys_also_where_own_mail_is_wanted(
    world: World, keyring: Keyring
) -> None:
    await own_mail(world, wanted=True)
    strange = world.envelope(notified("Bounce", bounce(), sendingAccountId="444444444444"))

    assert Tally(dropped=1) == await take(world, keyring, strange)


async def test_own_mail_may_be_switched_at_any_moment(world: World, keyring: Keyring) -> None:
    ingest = Ingest(Savepoint(world.db), keyring)
    tallies = []
    for number, wanted in enumerate((True, False, True)):
        await own_mail(world, wanted=wanted)
        own = notified("Bounce", bounce(), sendingAccountId=OWNER_ACCOUNT, messageId=f"m{number}")
        tallies.append(await ingest.take(arrived(world.envelope(own)), now=NOW))

    assert [Tally(stored=1), Tally(own=1), Tally(stored=1)] == tallies


async def test_mail_sent_after_the_end_is_told_to_both_once(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    """Whatever becomes of the mail, and however often it is said; each message has its own."""
    gone = NOW - timedelta(minutes=10)
    await change_grant(ended_at=gone, verified_at=gone)
    await take(world, keyring, world.envelope(notified("Delivery", delivery())))
    tally = await take(
        world,
        keyring,
        world.envelope(notified("Bounce", bounce())),
        world.envelope(notified("Delivery", delivery())),
        world.envelope(notified("Delivery", delivery(), messageId="another")),
    )

    told = [event for event in await world.events(world.delegate) if event.type == "grant.sent_after_end"]
    assert Tally(stored=3, repeated=2) == tally
    assert [MESSAGE_ID, "another"] == [event.data["message_id"] for event in told]
    assert [("full", "full", "broker_topic", world.grant_id)] * 2 == [
        (event.owner_view, event.delegate_view, event.source, event.grant_id) for event in told
    ]
    assert 10 == len(await world.deliveries())
    async with world.db.read(world.delegate) as session:
        rows = await session.execute(text("SELECT * FROM audit WHERE action = 'grant.sent_after_end' ORDER BY id"))
        assert [(world.owner.tenant, world.grant_id, str(event.id)) for event in told] == [
            (row.tenant_id, row.subject_id, row.details["event_id"]) for row in rows
        ]


async def test_mail_sent_after_the_end_is_told_of_what_nobody_hears(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    gone = NOW - timedelta(minutes=10)
    deaf = msgspec.to_builtins(FeedbackTerms(owner_events=(), delegate_events=()))
    await change_grant(ended_at=gone, verified_at=gone, feedback=deaf)

    assert Tally(stored=1) == await take(world, keyring, world.envelope(notified("Bounce", bounce())))
    assert ["grant.sent_after_end"] == [event.type for event in await world.events(world.owner)]


async def test_of_two_grants_of_a_pair_the_one_whose_from_address_fits_gets_it(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    """Though it is the older one, and has ended."""
    async with world.db.begin(world.owner) as session:
        parties = (world.owner.tenant, world.identity_id, world.identity_arn)
        newer = await add_grant(session, parties, world.delegate.tenant, DELEGATE_ACCOUNT)
        await session.execute(
            update(Grant).where(Grant.id == newer).values(terms={"from_addresses": ["alerts@*"]}, activated_at=NOW)
        )
    await change_grant(terms={"from_addresses": ["News*@example.com"]}, ended_at=NOW, verified_at=NOW)
    await take(world, keyring, world.envelope(notified("Bounce", bounce())))

    assert [world.grant_id] == [event.grant_id for event in await world.events(world.owner)]


async def test_a_type_that_ses_has_and_nobody_knows_is_heard_by_both(world: World, keyring: Keyring) -> None:
    told = published("Forward", "forward", {"timestamp": "2026-01-05T12:00:00Z", "to": "jane@example.org"})
    envelope = world.envelope(told)

    assert Tally(stored=1) == await take(world, keyring, envelope)
    assert Tally(repeated=1) == await take(world, keyring, envelope)
    (event,) = await world.events(world.delegate)
    assert ("email.unknown", "hashed", "full", envelope.message) == (
        event.type,
        event.owner_view,
        event.delegate_view,
        event.payload,
    )
    assert ("unknown", "Forward") == (event.data["kind"], event.data["ses_type"])


async def test_a_route_learns_about_once_a_minute_that_it_was_heard(world: World, keyring: Keyring) -> None:
    """Of several processes, too: each remembers for itself what it has told."""
    await take(world, keyring, world.envelope(notified("Bounce", bounce())))
    first = (await route_of(world, world.grant_id)).heard_at
    await take(world, keyring, world.envelope(notified("Delivery", delivery())))
    second = (await route_of(world, world.grant_id)).heard_at
    async with world.db.begin(world.owner) as session:
        longer_ago = {"heard_at": func.now() - timedelta(minutes=2), "due_at": None}
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(longer_ago))
    await take(world, keyring, world.envelope(notified("Complaint", complaint())))
    third = await route_of(world, world.grant_id)

    assert first is not None
    assert first == second
    assert (first, None) == (third.heard_at, third.due_at)  # all in one transaction, whose time stands still


async def test_a_quiet_route_that_is_heard_again_is_due(world: World, keyring: Keyring) -> None:
    async with world.db.begin(world.owner) as session:
        quiet = {"state": "quiet", "live_at": NOW, "due_at": None}
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(quiet))
    await take(world, keyring, world.envelope(notified("Bounce", bounce())))

    route = await route_of(world, world.grant_id)
    assert (NOW, True) == (route.live_at, route.due_at is not None)


async def test_all_that_is_malformed_is_kept_where_it_belongs(world: World, keyring: Keyring) -> None:
    """In one batch with what is well-formed, which is stored all the same."""
    texts = [text for text in dict(malformed()).values() if len(text) < 100_000]
    batch = [as_envelope(notification(text, TopicArn=world.topic_arn)) for text in texts if "\ud800" not in text]
    tally = await take(world, keyring, *batch, world.envelope(notified("Bounce", bounce())))

    assert 200 < tally.quarantined == len(await world.quarantined())
    assert tally.stored == len(await world.events(world.owner)) == 1


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[int]]:
    """Every one of `TWICE` at least once, in any order, some again, in batches of any size."""
    order = draw(st.permutations(range(len(TWICE))))
    again = draw(st.lists(st.sampled_from(range(len(TWICE))), max_size=6))
    everything = [*order, *again]
    cuts = sorted(draw(st.sets(st.integers(1, len(everything) - 1), max_size=4)))
    return [everything[begin:end] for begin, end in pairwise([0, *cuts, len(everything)])]


# The same mail as two routes tell of it: the second with tags, other ids, another From, and later.
_LATER = {"feedbackId": "other", "timestamp": "2026-01-05T11:59:59.000Z"}
TWICE = [
    *(
        notified(kind, details(), messageId=f"m{kind}")
        for kind, details in (("Bounce", bounce), ("Complaint", complaint))
    ),
    published("Bounce", "bounce", bounce(**_LATER), messageId="mBounce", source="b@example.com"),
    published("Complaint", "complaint", complaint(**_LATER), messageId="mComplaint"),
    published("Open", "open", {"timestamp": "2026-01-05T12:00:00Z"}, destination=["jane@example.org"]),
    published("Open", "open", {"timestamp": "2026-01-05T12:00:01Z"}, destination=["jane@example.org"]),
    published("Forward", "forward", {"timestamp": "2026-01-05T12:00:01Z"}),
    notified("Bounce", bounce(), sendingAccountId=SECOND_ACCOUNT),
]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(batches=arrivals())
async def test_what_is_delivered_depends_on_what_was_said_and_on_nothing_else(
    db: Database, keyring: Keyring, batches: list[list[int]]
) -> None:
    """Not on order, repetition, the borders of batches, or which of two routes came first."""
    world = await make_world(db)
    async with world.db.begin(world.owner) as session:
        everything = msgspec.to_builtins(FeedbackTerms(delegate_events=tuple(FeedbackKind)))
        await session.execute(update(Grant).where(Grant.id == world.grant_id).values(feedback=everything))
    ingest = Ingest(Savepoint(world.db), keyring)
    for batch in batches:
        await ingest.take(arrived(*(world.envelope(TWICE[number]) for number in batch)), now=NOW)

    heard = [(event.type, event.data["message_id"]) for event in await world.events(world.delegate)]
    assert [
        ("email.bounced", "mBounce"),
        ("email.complained", "mComplaint"),
        ("email.opened", MESSAGE_ID),
        ("email.opened", MESSAGE_ID),
        ("email.unknown", MESSAGE_ID),
    ] == sorted(heard)
    assert 10 == len(await world.deliveries())
