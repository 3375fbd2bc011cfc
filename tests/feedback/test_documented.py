"""The webhooks in the OpenAPI document are what is really sent."""

import ast
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.crypto import Keyring
from broker.feedback import documented
from broker.feedback.breaker import Figure
from broker.feedback.ingest import Ingest
from broker.feedback.usage.folding import why
from broker.grants import suspend
from broker.grants.events import announce
from broker.grants.lifecycle import State
from broker.grants.models import Grant
from broker.grants.views import Reason
from broker.policies.terms import FeedbackKind, FeedbackTerms, View
from broker.webhooks.events import EVENT_TYPES, Event
from broker.webhooks.render import Party, party_of, render
from tests.feedback.conftest import ChangeGrant, Savepoint, World, arrived
from tests.feedback.guide import EXAMPLES
from tests.feedback.reckoning import Counting
from tests.feedback.schema import flaws
from tests.feedback.sns import NOW
from tests.feedback.test_usage import counting, reckon
from tests.grants.conftest import parties
from tests.grants.test_sync import Stage, stage

__all__ = ["counting", "parties", "stage"]  # the fixtures

ROOT = Path(__file__).parent.parent.parent
FIGURE = Figure(name="bounces", count=52, of=1000, rate=0.052, warn_at=0.02, suspend_at=0.05, enough=True)


def check(body: bytes) -> list[str]:
    schemas = documented.schemas()
    sent = msgspec.json.decode(body)
    return flaws(sent, schemas[documented.name_of(sent["type"]) + "Event"], schemas)


def of_row(row: Any) -> Event:
    """A stored event as it is rendered."""
    return Event(**{name: getattr(row, name) for name in Event.__struct_fields__ if name != "payload"})


def told_of(struct: type[msgspec.Struct]) -> set[str]:
    """All names that a Struct documents."""
    return {field.encode_name for field in msgspec.structs.fields(struct)}


async def rendered(world: World) -> list[tuple[str, bytes]]:
    """Type and body of everything that the owner and the delegate can read, each as what it is to the event."""
    found = []
    for caller in (world.owner, world.delegate):
        for row in await world.events(caller):
            event = of_row(row)
            party = party_of(event, caller.tenant)
            if party is not None:
                found.append((event.type, render(event, Party(party))))
    return found


def test_every_type_of_event_is_documented() -> None:
    assert EVENT_TYPES == documented.TYPES.keys()


@pytest.mark.parametrize("view", [View.full, View.hashed, View.none])
async def test_what_is_rendered_of_the_guides_examples_fits(
    world: World, keyring: Keyring, change_grant: ChangeGrant, view: View
) -> None:
    everything = FeedbackTerms(owner_events=tuple(FeedbackKind), delegate_events=tuple(FeedbackKind), owner_view=view)
    await change_grant(feedback=msgspec.to_builtins(everything))
    payloads = [payload for payload, *_ in EXAMPLES.values()]
    payloads.append({"eventType": "Forward", "mail": payloads[0]["mail"], "forward": {}})
    named = [each | {"mail": each["mail"] | {"sourceArn": world.identity_arn}} for each in payloads]
    await Ingest(Savepoint(world.db), keyring).take(arrived(*(world.envelope(each) for each in named)), now=NOW)

    bodies = await rendered(world)
    assert {name for name in EVENT_TYPES if name.startswith("email.")} == {type_ for type_, _ in bodies}
    assert [] == [flaw for _, body in bodies for flaw in check(body)]


async def test_what_is_rendered_of_mail_after_the_end_fits(
    world: World, keyring: Keyring, change_grant: ChangeGrant
) -> None:
    await change_grant(ended_at=NOW.replace(hour=9), verified_at=NOW.replace(hour=9))
    payload = EXAMPLES["N bounce with a DSN"][0]
    named = payload | {"mail": payload["mail"] | {"sourceArn": world.identity_arn}}
    await Ingest(Savepoint(world.db), keyring).take(arrived(world.envelope(named)), now=NOW)

    bodies = await rendered(world)
    assert "grant.sent_after_end" in {type_ for type_, _ in bodies}
    assert [] == [flaw for _, body in bodies for flaw in check(body)]


def test_a_field_that_is_not_documented_is_found() -> None:
    """The tests above can fail."""
    base = {"event_id": "019aabcd-1234-7abc-8def-0123456789ab", "kind": "bounce"}
    for data in (base | {"new": 1}, {"kind": "bounce"}, base | {"final": "yes"}):
        assert check(msgspec.json.encode({"type": "email.bounced", "timestamp": "2026-01-05T12:00:00Z", "data": data}))


def test_no_place_that_makes_an_event_tells_what_is_not_documented() -> None:
    """The names of details at every call that announces an event of a grant."""
    told = {
        field.encode_name
        for type_, struct in documented.TYPES.items()
        if type_.startswith("grant.")
        for field in msgspec.structs.fields(struct)
    }
    makers = {"announce", "_tell", "note", "_note"}
    given = {
        keyword.arg
        for path in (ROOT / "broker" / "grants").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers
        for keyword in node.keywords
        if keyword.arg is not None
    }

    assert {"number", "note"} <= given
    assert set() == given - told


async def test_events_of_a_whole_life_fit(world: World) -> None:
    """What use cases announce, as it is stored."""
    async with world.db.begin(world.owner) as session:
        grant = await session.get_one(Grant, world.grant_id)
        await announce(session, "grant.approved", grant, number=1)
        await announce(session, "grant.activated", grant)
        await announce(session, "grant.revocation_requested", grant, note=None)

    assert [] == [flaw for _, body in await rendered(world) for flaw in check(body)]


async def test_a_warning_of_the_breaker_is_told_as_it_is_documented(counting: Counting) -> None:
    await counting.delivered(970)
    await counting.bounced(30)
    await reckon(counting)

    warnings = [body for type_, body in await rendered(counting.world) if type_ == "grant.limit_warned"]
    assert 2 == len(warnings)
    for body in warnings:
        assert [] == check(body)
        data = msgspec.json.decode(body)["data"]
        assert told_of(documented.WarningTold) == set(data)
        assert told_of(documented.FigureTold) == set(data["figures"][0])


@pytest.mark.parametrize("by", ["owner", "breaker"])
async def test_a_suspension_and_its_end_are_told_as_they_are_documented(stage: Stage, by: str) -> None:
    """By whom, why, and since when SES is without the policy."""
    grant, owner = await stage.agreed(), stage.parties.owner
    await stage.until(grant, State.ACTIVE)
    if by == "owner":
        await suspend.suspend(stage.db, owner, grant.id, Reason(note="Too many bounces"))
    else:
        async with stage.db.begin(Caller.system(owner.tenant, job="breaker")) as session:
            await suspend.trip(session, Caller.system(owner.tenant, job="breaker"), {grant.id: why([FIGURE])})
    await stage.until(grant, State.SUSPENDED)
    await suspend.resume(stage.db, owner, grant.id, Reason(note="The list is clean"))

    async with stage.db.read(stage.parties.delegate) as session:
        rows = await session.execute(text("SELECT * FROM events ORDER BY id"))
        told = {row.type: render(of_row(row), Party.DELEGATE) for row in rows}
    keys = {type_: set(msgspec.json.decode(body)["data"]) for type_, body in told.items()}
    assert [] == [flaw for body in told.values() for flaw in check(body)]
    not_told = {"figures"} if by == "owner" else {"note"}
    assert told_of(documented.SuspensionTold) - not_told == keys["grant.suspended"]
    assert told_of(documented.ResumptionTold) == keys["grant.resumed"]
