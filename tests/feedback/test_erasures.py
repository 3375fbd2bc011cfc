"""Erasing one recipient from everything that a tenant is a party to."""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller, IdempotencyRequest
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.errors import NotFound
from broker.feedback import recipients, reckoning
from broker.feedback.erasures import service, work
from broker.feedback.erasures.in_flight import GRACE
from broker.feedback.erasures.models import State
from broker.feedback.erasures.traces import Traces
from broker.feedback.erasures.views import ErasureView, Recipient
from broker.feedback.ingest import Ingest
from broker.feedback.reckoned import Reckoned
from broker.idempotency import remember
from broker.ids import new_id
from broker.webhooks import counts
from tests.conftest import new_tenant
from tests.feedback import sns
from tests.feedback.conftest import Savepoint, World, arrived, make_world
from tests.feedback.examples import bounce, complaint, notified
from tests.feedback.recipients import JANE, fold, reckoned

MARY = "mary@example.org"


@pytest_asyncio.fixture
async def world(committed_db: Database) -> World:
    """One that really commits: an erasure waits for transactions that are under way."""
    return await make_world(committed_db)


async def arrive(world: World, keyring: Keyring, *payloads: dict[str, Any]) -> None:
    envelopes = [world.envelope(each, MessageId=f"m{new_id()}") for each in payloads]
    await Ingest(Savepoint(world.db), keyring).take(arrived(*envelopes), now=sns.NOW)


def of(*addresses: str, **changes: Any) -> dict[str, Any]:
    """A bounce of these addresses, which its report names as well."""
    entries = [
        {"emailAddress": each, "status": "5.1.1", "diagnosticCode": f"smtp; 550 <{each}> unknown"} for each in addresses
    ]
    return notified(
        "Bounce",
        bounce(bouncedRecipients=entries),
        **{
            "messageId": f"{new_id()}",
            "destination": list(addresses),
            "commonHeaders": {"from": ["news@example.com"], "subject": f"Dear {addresses[0]}"},
            **changes,
        },
    )


async def erase(world: World, keyring: Keyring, caller: Caller, address: str = JANE) -> ErasureView:
    """Asks for it, and lets a worker do it to the end."""
    asked = await service.erase(world.db, caller, Recipient(address), keyring=keyring)
    return await finish(world, keyring, caller, asked.id)


async def finish(world: World, keyring: Keyring, caller: Caller, erasure_id: UUID) -> ErasureView:
    """Lets workers reckon and erase until it is done."""
    async with asyncio.timeout(30):
        while (shown := await service.show(world.db, caller, erasure_id)).state is not State.DONE:
            await reckon(world, keyring)
            await look(world, keyring, caller, erasure_id)
    return shown


async def reckon(world: World, keyring: Keyring) -> None:
    """As the workers do, before anything is blanked."""
    worker = world.db.as_role(Role.WORKER)
    async with worker.begin(world.owner) as session:
        await session.execute(text("UPDATE reckonings SET due_at = now() WHERE claimed_until IS NULL"))
    await reckoning.run(worker, [partial(recipients.fold, keyring=keyring)], only=[world.owner.tenant])


async def look(world: World, keyring: Keyring, caller: Caller, erasure_id: UUID) -> None:
    """One, as if the time for it had come."""
    worker = world.db.as_role(Role.WORKER)
    async with worker.begin(caller) as session:
        due = "UPDATE erasures SET due_at = now(), recalled_at = recalled_at - CAST(:grace AS interval)"
        waiting = " WHERE state = 'running' AND claimed_until IS NULL"
        await session.execute(text(due + waiting), {"grace": GRACE})
    await work.run(worker, keyring, only=[erasure_id])


async def rows(world: World, caller: Caller, query: str, **named: Any) -> list[Any]:
    async with world.db.read(caller) as session:
        return list(await session.execute(text(query), named))


async def everything(world: World, caller: Caller) -> str:
    """All that is stored of what a tenant may see, as text."""
    tables = ("events", "deliveries", "dead_deliveries", "attempts", "quarantine", "idempotency_keys", "audit")
    told = [
        row.told for table in tables for row in await rows(world, caller, f"SELECT CAST(t AS text) told FROM {table} t")
    ]
    told += [bytes(row.body).decode() for row in await rows(world, caller, "SELECT body FROM idempotency_keys")]
    return "\n".join(told).lower()


async def balance(world: World, caller: Caller) -> tuple[int, ...]:
    """created, delivered, pending, dead, cancelled, missing."""
    async with world.db.read(caller) as session:
        days = await counts.days(session, caller.tenant, first=sns.NOW.date() - timedelta(days=9), last=now().date())
    names = ("created", "delivered", "pending", "dead", "cancelled", "missing")
    return tuple(sum(getattr(day, name) for day in days) for name in names)


@pytest.mark.parametrize("party", ["owner", "delegate"])
async def test_either_party_erases_for_both(world: World, keyring: Keyring, party: str) -> None:
    await arrive(world, keyring, of(JANE), of(MARY))

    done = await erase(world, keyring, getattr(world, party), " JANE@example.org ")

    for caller in (world.owner, world.delegate):
        told = await everything(world, caller)
        assert "jane" not in told
        assert MARY in told
        assert (2, 0, 1, 0, 1, 0) == await balance(world, caller)
    assert (1, 0, 2) == (done.erased.events, done.erased.mentions, done.erased.deliveries)


async def test_what_stays_of_an_event_is_its_place_in_the_books(world: World, keyring: Keyring) -> None:
    await arrive(world, keyring, of(JANE))
    (before,) = await world.events(world.delegate)

    await erase(world, keyring, world.owner)

    (after,) = await world.events(world.delegate)
    same = ("id", "at", "type", "xact", "owner_id", "delegate_id", "grant_id", "owner_view", "delegate_view")
    assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
    assert (None, None) == (after.payload, after.recipient_hash)
    assert (None, None, "5.1.1", True) == tuple(
        after.data[name] for name in ("recipient", "recipient_hash", "status", "erased")
    )
    kept = ("message_id", "sent_at", "occurred_at", "kind", "identity")
    assert [before.data[name] for name in kept] == [after.data[name] for name in kept]


async def test_the_events_of_others_lose_the_address_alone(world: World, keyring: Keyring) -> None:
    """Mary's event names Jane in its subject, and its payload tells of all recipients."""
    await arrive(world, keyring, of(MARY, commonHeaders={"subject": f"For {JANE}", "from": ["n@example.com"]}))
    await arrive(world, keyring, of(MARY, JANE))

    done = await erase(world, keyring, world.owner)

    assert "jane" not in await everything(world, world.delegate)
    recipients = [event.data["recipient"] for event in await world.events(world.delegate)]
    assert [MARY, MARY, None] == recipients
    assert (1, 2) == (done.erased.events, done.erased.mentions)
    assert 2 == (await balance(world, world.delegate))[2]


async def test_an_address_behind_escapes_in_a_payload_is_found(world: World, keyring: Keyring) -> None:
    await arrive(world, keyring, of(MARY))
    async with world.db.as_role(Role.WORKER).begin(world.owner) as session:
        await session.execute(
            text("UPDATE events SET payload = :told"), {"told": r'{"to": "j\u0061ne@ex\u0061mple.org"}'}
        )

    done = await erase(world, keyring, world.owner)

    assert (None, 1) == ((await world.events(world.owner))[0].payload, done.erased.mentions)


async def test_answers_of_receivers_are_blanked_for_both(world: World, keyring: Keyring) -> None:
    """Those to the recipient's events whole; those to anything else where they hold the address."""
    await arrive(world, keyring, of(JANE), of(MARY))
    jane, mary = await world.events(world.owner)
    async with world.db.as_role(Role.PUMP).begin(world.owner) as session:
        for caller, event, answer in (
            (world.owner, jane, "no such mailbox: jane"),
            (world.delegate, jane, "no such mailbox: jane"),
            (world.owner, mary, f"expected {JANE}"),
            (world.owner, mary, "fine"),
            (world.owner, mary, r'{"to":"jane\u0040example.org","why":"' + "cut off " * 9),
            (world.owner, mary, r'{"trace":"at line 3\njane@example.org"}'),
        ):
            await session.execute(
                text(
                    "INSERT INTO attempts"
                    " (id, at, tenant_id, endpoint_id, event_id, event_at, number, latency_ms, error, answer)"
                    " VALUES (:id, now(), :tenant, :endpoint, :event, :at, 1, 5, 'HTTP 500', :answer)"
                ),
                {
                    "id": new_id(),
                    "tenant": caller.tenant,
                    "endpoint": world.endpoints[caller.tenant],
                    "event": event.id,
                    "at": event.at,
                    "answer": answer,
                },
            )

    done = await erase(world, keyring, world.owner)

    left = [
        row.answer
        for caller in (world.owner, world.delegate)
        for row in await rows(world, caller, "SELECT answer FROM attempts ORDER BY answer")
    ]
    assert ["fine", None, None, None, None, None] == left
    assert 5 == done.erased.answers


async def test_dead_deliveries_go_and_stay_counted(world: World, keyring: Keyring) -> None:
    await arrive(world, keyring, of(JANE))
    async with world.db.as_role(Role.WORKER).begin(world.owner) as session:
        await session.execute(
            text(
                "WITH gone AS (DELETE FROM deliveries RETURNING *), counted AS (INSERT INTO delivery_deltas"
                " (tenant_id, day, dead) SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, 1 FROM gone)"
                " INSERT INTO dead_deliveries (endpoint_id, event_id, event_at, tenant_id, attempts, reason)"
                " SELECT endpoint_id, event_id, event_at, tenant_id, 10, 'x' FROM gone"
            )
        )

    await erase(world, keyring, world.delegate)

    assert [] == await rows(world, world.owner, "SELECT 1 FROM dead_deliveries")
    assert (1, 0, 0, 1, 0, 0) == await balance(world, world.owner)
    assert (1, 0, 0, 0, 1, 0) == await balance(world, world.delegate)


async def test_a_delivery_that_is_just_being_finished_is_waited_for(world: World, keyring: Keyring) -> None:
    """A pump holds the row: nothing is blanked until it is free, and the books balance all the time."""
    await arrive(world, keyring, of(JANE))
    await reckon(world, keyring)
    asked = await service.erase(world.db, world.owner, Recipient(JANE), keyring=keyring)
    worker = world.db.as_role(Role.WORKER)
    async with world.db.as_role(Role.PUMP).begin(world.owner) as session:
        own = {"id": world.endpoints[world.owner.tenant]}
        await session.execute(text("SELECT 1 FROM deliveries WHERE endpoint_id = :id FOR UPDATE"), own)
        await work.run(worker, keyring, only=[asked.id])
        (event,) = await world.events(world.owner)
        assert (JANE, 0) == (event.data["recipient"], (await balance(world, world.owner))[5])

    async with worker.begin(world.owner) as session:
        await session.execute(text("UPDATE erasures SET due_at = now() WHERE id = :id"), {"id": asked.id})
    done = await erase(world, keyring, world.owner)

    assert "jane" not in await everything(world, world.owner)
    assert (1, 0, 0, 0, 1, 0) == await balance(world, world.owner)
    assert 2 == done.erased.deliveries  # that of the delegate's, which was free, as well


async def test_messages_in_quarantine_are_blanked(world: World, keyring: Keyring) -> None:
    forged = of(JANE, sourceArn="arn:aws:ses:eu-west-1:444444444444:identity/evil.example")
    await arrive(world, keyring, forged, forged | {"mail": {**forged["mail"], "messageId": "other"}})

    done = await erase(world, keyring, world.owner)

    assert ["", ""] == [row.payload for row in await rows(world, world.owner, "SELECT payload FROM quarantine")]
    assert 2 == done.erased.quarantined


async def test_stored_answers_keep_their_form(world: World, keyring: Keyring) -> None:
    """A repeated request is still answered, and not carried out again."""

    class Answer(msgspec.Struct):
        id: str
        recipients: list[str]

    for sealed in (False, True):
        wanted = IdempotencyRequest(str(world.owner.key_id), f"{sealed}", b"f", 201)
        asking = msgspec.structs.replace(world.owner, idempotency=wanted)
        async with world.db.begin(asking) as session:
            await remember(session, asking, Answer("1", [JANE, MARY]), keyring=keyring if sealed else None)

    done = await erase(world, keyring, world.owner)

    kept = await rows(world, world.owner, "SELECT body, sealed FROM idempotency_keys ORDER BY key")
    bodies = [msgspec.json.decode(keyring.open(row.body) if row.sealed else row.body) for row in kept]
    assert [{"id": "1", "recipients": [MARY]}] * 2 == bodies
    assert 2 == done.erased.stored_answers


async def test_a_suppression_stays_as_a_hash_with_its_reason(world: World, keyring: Keyring) -> None:
    await fold(world, keyring, [reckoned(world, keyring), reckoned(world, keyring, recipient=MARY)])

    await erase(world, keyring, world.delegate)

    query = "SELECT reason, address IS NULL AS erased, grant_hash FROM suppressions ORDER BY address IS NULL"
    mary, jane = await rows(world, world.owner, query)
    assert ("hard_bounce", False) == (mary.reason, mary.erased)
    assert ("hard_bounce", True) == (jane.reason, jane.erased)
    assert jane.grant_hash is not None


async def test_what_was_not_reckoned_yet_is_reckoned_first(world: World, keyring: Keyring) -> None:
    """Else nothing would keep the recipient from being mailed again. The delegate asks, the owner's is read."""
    await arrive(world, keyring, notified("Complaint", complaint()))
    asked = await service.erase(world.db, world.delegate, Recipient(JANE), keyring=keyring)

    for _ in range(8):
        await look(world, keyring, world.delegate, asked.id)
    (waiting,) = await world.events(world.delegate)
    await finish(world, keyring, world.delegate, asked.id)

    (kept,) = await rows(world, world.delegate, "SELECT reason, address FROM suppressions")
    (event,) = await world.events(world.delegate)
    assert (JANE, None) == (waiting.data["recipient"], event.data["recipient"])
    assert ("complaint", None) == tuple(kept)


async def test_a_reckoning_that_is_under_way_does_not_bring_the_address_back(world: World, keyring: Keyring) -> None:
    """It has read the event, and writes what it says after the erasure was asked for."""
    await arrive(world, keyring, of(JANE))
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow(session: AsyncSession, events: Sequence[Reckoned], *, now: datetime) -> None:
        reading.set()
        await go_on.wait()
        await recipients.fold(session, events, now=now, keyring=keyring)

    worker = world.db.as_role(Role.WORKER)
    under_way = asyncio.create_task(reckoning.run(worker, [slow], only=[world.owner.tenant]))
    await asyncio.wait_for(reading.wait(), 10)
    asked = await service.erase(world.db, world.owner, Recipient(JANE), keyring=keyring)
    for _ in range(8):
        await look(world, keyring, world.owner, asked.id)
    go_on.set()
    await under_way
    await finish(world, keyring, world.owner, asked.id)

    (kept,) = await rows(world, world.owner, "SELECT reason, address FROM suppressions")
    assert ("hard_bounce", None) == tuple(kept)


async def test_a_repeated_request_joins_the_running_one_and_a_later_one_finds_nothing(
    world: World, keyring: Keyring
) -> None:
    await arrive(world, keyring, of(JANE))

    asked = [await service.erase(world.db, world.owner, Recipient(JANE), keyring=keyring) for _ in range(2)]
    first = await erase(world, keyring, world.owner)
    again = await erase(world, keyring, world.owner)

    assert {asked[0].id} == {asked[1].id, first.id}
    assert (1, 0) == (first.erased.events, again.erased.events)
    assert first.id != again.id
    assert 2 == len(await service.list_some(world.db, world.owner))


async def test_the_address_is_sealed_while_it_runs_and_gone_afterwards(world: World, keyring: Keyring) -> None:
    await service.erase(world.db, world.owner, Recipient(JANE), keyring=keyring)
    (running,) = await rows(world, world.owner, "SELECT CAST(e AS text) AS told, address FROM erasures e")
    await erase(world, keyring, world.owner)

    (done,) = await rows(world, world.owner, "SELECT address, stage FROM erasures")
    assert JANE not in running.told
    assert JANE == keyring.open(running.address).decode()
    assert (None, None) == (done.address, done.stage)


async def test_it_goes_on_where_it_was_cut_off(world: World, keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """In looks of two events; a worker that dies before its commit changes nothing."""
    monkeypatch.setattr("broker.feedback.erasures.stages.EVENTS_AT_ONCE", 2)
    await arrive(world, keyring, *(of(JANE) for _ in range(5)))

    done = await erase(world, keyring, world.owner)

    assert (5, 10) == (done.erased.events, done.erased.deliveries)
    assert (5, 0, 0, 0, 5, 0) == await balance(world, world.delegate)


async def test_strangers_neither_erase_nor_see_it(world: World, keyring: Keyring, committed_db: Database) -> None:
    await arrive(world, keyring, of(JANE))
    stranger = await new_tenant(committed_db)

    done = await erase(world, keyring, stranger)

    assert 0 == done.erased.events
    assert JANE in await everything(world, world.owner)
    with pytest.raises(NotFound):
        await service.show(world.db, world.owner, done.id)


async def test_what_arrives_later_is_new(world: World, keyring: Keyring) -> None:
    await erase(world, keyring, world.owner)
    await arrive(world, keyring, notified("Complaint", complaint()))

    assert JANE in await everything(world, world.owner)


async def test_both_parties_find_it_in_their_audit_trail_without_the_address(world: World, keyring: Keyring) -> None:
    await arrive(world, keyring, of(JANE))

    done = await erase(world, keyring, world.owner)

    query = "SELECT action FROM audit WHERE subject_id = :id ORDER BY id"
    owners, delegates = [
        [row.action for row in await rows(world, caller, query, id=done.id)] for caller in (world.owner, world.delegate)
    ]
    assert ["erasure.requested", "recipient.erased", "erasure.done"] == owners
    assert ["recipient.erased"] == delegates


@pytest.mark.parametrize(
    "told",
    [
        "jane.doe@example.org",
        "<Jane.Doe@EXAMPLE.org>",
        "mailto:jane.doe@example.org?subject=x",
        "https://x.example/?u=jane.doe%40example.org&v=1",
        "bounces+jane.doe=example.org@lists.example.com",
        "to jane.doe@example.org.",
        "'jane.doe@example.org'",
        "`jane.doe@example.org`",
        "{jane.doe@example.org}",
        "|jane.doe@example.org|",
        "https://x.example/unsubscribe/jane.doe@example.org",
        "?email=jane.doe@example.org",
        "%253Cjane.doe%2540example.org%253E",
        "https://x.example/?u=jane.doe%25252540example.org",
        "jane.doe&#64;example.org",
        "jane.doe&#x40;example.org",
        "&lt;jane.doe&commat;example.org&gt;",
        r'{"to":"jane.doe\u0040example.org","cut o',
        r"\njane.doe@example.org",
        r'"{\\"to\\": \\"x\\njane.doe\\u0040example.org"',
    ],
)
def test_an_address_is_found_in_every_form(told: str) -> None:
    assert Traces("jane.doe@example.org").in_text(told)


@pytest.mark.parametrize(
    "told",
    [
        "mary.jane.doe@example.org",
        "jane.doe@example.org.uk",
        "jane.doe@example.orgs",
        "jane-doe@example.org",
        "mary-jane.doe@example.org",
        "x+jane.doe@example.org",
        "1jane.doe@example.org",
        "_jane.doe@example.org",
    ],
)
def test_another_address_is_left_alone(told: str) -> None:
    assert not Traces("jane.doe@example.org").in_text(told)


@pytest.mark.parametrize("seed", range(3))
async def test_the_books_balance_while_pumps_and_erasures_race(world: World, keyring: Keyring, seed: int) -> None:
    """Invariant I1: both take the same deliveries at once, in any order; each is counted once."""
    await arrive(world, keyring, *(of(JANE) for _ in range(30)))
    await reckon(world, keyring)
    asked = await service.erase(world.db, world.owner, Recipient(JANE), keyring=keyring)
    dice = random.Random(seed)  # noqa: S311 - the same race for the same seed

    async def finish() -> None:
        take = text(
            "WITH gone AS (DELETE FROM deliveries WHERE ctid = ANY (ARRAY(SELECT ctid FROM deliveries"
            " WHERE endpoint_id = :id ORDER BY random() LIMIT 3)) RETURNING tenant_id, event_at)"
            " INSERT INTO delivery_deltas (tenant_id, day, delivered)"
            " SELECT tenant_id, (event_at AT TIME ZONE 'UTC')::date, count(*) FROM gone GROUP BY 1, 2"
        )
        for _ in range(8):
            caller = dice.choice([world.owner, world.delegate])
            async with world.db.as_role(Role.WORKER).begin(caller) as session:
                await session.execute(take, {"id": world.endpoints[caller.tenant]})
                await asyncio.sleep(0)
            assert 0 == (await balance(world, caller))[5]

    await asyncio.gather(finish(), work.run(world.db.as_role(Role.WORKER), keyring, only=[asked.id]), finish())
    async with world.db.as_role(Role.WORKER).begin(world.owner) as session:
        await session.execute(text("UPDATE erasures SET due_at = now() WHERE state = 'running'"))
    await erase(world, keyring, world.owner)

    for caller in (world.owner, world.delegate):
        created, delivered, pending, dead, cancelled, missing = await balance(world, caller)
        assert (30, 0, 0, 0) == (created, pending, dead, missing)
        assert 30 == delivered + cancelled
    assert "jane" not in await everything(world, world.delegate)
