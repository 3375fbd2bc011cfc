"""No way out shows a recipient that the terms hide: an address is planted everywhere, and looked for everywhere."""

import io
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
import structlog
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import text, update

from broker import log, queries
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.feedback import recipients
from broker.feedback.ingest import Ingest
from broker.feedback.reckoned import Reckoned
from broker.gateways.http import HttpSender
from broker.grants.models import Grant
from broker.ids import new_id
from broker.policies.terms import FeedbackKind
from broker.settings import LogFormat
from broker.tenants.keys import mint
from broker.webhooks import deliveries
from broker.webhooks.digests import work as digests
from broker.webhooks.engine import Engine
from broker.webhooks.events import Shape
from broker.webhooks.replays import service as replays
from broker.webhooks.replays import work
from broker.webhooks.replays.views import Stretch
from tests.app.conftest import transport_to
from tests.feedback import sns
from tests.feedback.conftest import Savepoint, World, arrived, make_world
from tests.feedback.examples import bounce, complaint, delivery, mail
from tests.webhooks.conftest import make_endpoint
from tests.webhooks.cutting import yesterday
from tests.webhooks.receiver import Reaction, Receiver, receiving

LOCAL = "canary.7f3a"
CANARY = f"{LOCAL}@secret.example"
FORMS = (CANARY, f"Jane <{CANARY}>", LOCAL, CANARY.replace("@", "%40"))
ALL_KINDS = [kind.value for kind in FeedbackKind]

# What decides whose event it is and of which kind; `timestamp` alone may be anything without the event being lost.
_ROUTING = frozenset({"sourceArn", "sendingAccountId", "eventType", "notificationType"})

# By the names of the kinds in event publishing (event-publishing-retrieving-sns-examples), with the details' place.
_DETAILS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Bounce": ("bounce", bounce()),
    "Complaint": ("complaint", complaint(complaintSubType="x")),
    "Delivery": ("delivery", delivery()),
    "Send": ("send", {}),
    "Reject": ("reject", {"reason": "Bad content"}),
    "Open": ("open", {"ipAddress": "192.0.2.1", "timestamp": "2026-01-05T11:59:50Z", "userAgent": "Mozilla/5.0"}),
    "Click": (
        "click",
        {
            "ipAddress": "192.0.2.1",
            "link": "https://example.com/offer",
            "linkTags": {"spot": ["top"]},
            "timestamp": "2026-01-05T11:59:51Z",
            "userAgent": "Mozilla/5.0",
        },
    ),
    "Rendering Failure": ("failure", {"errorMessage": "Attribute is missing", "templateName": "Welcome"}),
    "DeliveryDelay": (
        "deliveryDelay",
        {
            "timestamp": "2026-01-05T11:59:52Z",
            "delayType": "MailboxFull",
            "expirationTime": "2026-01-06T11:59:52Z",
            "reportingMTA": "a8-70.smtp-out.amazonses.com",
            "delayedRecipients": [{"emailAddress": "x", "status": "4.2.2", "diagnosticCode": "smtp; 452 full"}],
        },
    ),
    "Subscription": (
        "subscription",
        {
            "contactList": "news",
            "timestamp": "2026-01-05T11:59:53Z",
            "source": "UnsubscribeHeader",
            "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": [{"topicName": "a"}]},
            "oldTopicPreferences": {"unsubscribeAll": False, "topicSubscriptionStatus": [{"topicName": "a"}]},
        },
    ),
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in a payload a text stands."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name not in _ROUTING:
                yield from places(part, (*path, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from places(part, (*path, number))
    elif isinstance(value, str):
        yield path


def planted(value: Any, path: tuple[str | int, ...], canary: str) -> Any:
    """A copy with the canary at this place, and as a name beside it."""
    if not path:
        return canary
    first, *rest = path
    if isinstance(value, dict):
        return {**value, f"x-{canary}": canary, first: planted(value[str(first)], tuple(rest), canary)}
    return [planted(part, tuple(rest), canary) if number == first else part for number, part in enumerate(value)]


def addressed(value: Any) -> Any:
    """A copy in which every recipient is the canary."""
    if isinstance(value, dict):
        return {name: CANARY if name == "emailAddress" else addressed(part) for name, part in value.items()}
    return [addressed(part) for part in value] if isinstance(value, list) else value


def payloads(world: World) -> Iterator[dict[str, Any]]:
    """Every kind in both shapes, each with a canary at one of its places."""
    for number, (kind, (where, details)) in enumerate(_DETAILS.items()):
        for named in ("eventType", "notificationType"):
            about = mail(
                sourceArn=world.identity_arn,
                destination=[CANARY],
                tags={"campaign": ["spring"], "ses:configuration-set": ["delegation-broker-1"]},
            )
            told = {**addressed(details), **({"recipients": [CANARY]} if kind == "Delivery" else {})}
            for place, path in enumerate(places(whole := {named: kind, where: told, "mail": about})):
                unique = {**whole, "mail": {**about, "messageId": f"{number}-{named}-{place}"}}
                yield planted(unique, path, FORMS[place % len(FORMS)])
                yield planted(unique, path, CANARY) | {"extra": {CANARY: CANARY}}


class Sight(msgspec.Struct, frozen=True):
    """A committed world after all of this has come in, and the ways out of one of its parties."""

    world: World
    caller: Caller
    client: httpx.AsyncClient
    endpoints: tuple[str, ...]
    bodies: list[bytes]
    logged: str


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that is logged from now on, as production would, and more of it."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    log.configure(log_format=LogFormat.JSON, level="debug")
    told = io.StringIO()
    for handler in root.handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(told)
    yield told
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


async def signed_in(app: Litestar, db: Database, caller: Caller, keyring: Keyring) -> httpx.AsyncClient:
    """A client with a new key of this tenant."""
    token = mint().secret
    async with db.begin(caller) as session:
        await session.execute(
            text(
                "INSERT INTO api_keys (id, tenant_id, name, prefix, digest, scopes)"
                " VALUES (:id, :tenant, 'canary', 'sdb_', :digest, '{read,write,decide,admin}')"
            ),
            {"id": new_id(), "tenant": caller.tenant, "digest": keyring.digest(token)},
        )
    headers = {"authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=transport_to(app), base_url="http://broker", headers=headers)


async def fold(world: World, keyring: Keyring) -> None:
    """As the reckoning does."""
    told = [
        Reckoned(
            event_id=row.id,
            kind=FeedbackKind(row.data["kind"]),
            owner_id=row.owner_id,
            delegate_id=row.delegate_id,
            grant_id=row.grant_id,
            identity_arn=world.identity_arn,
            source=row.source,
            message_id=row.data["message_id"],
            sent_at=row.at,
            occurred_at=row.at,
            recipient=row.data["recipient"],
            recipient_hash=row.recipient_hash,
            recipients=1,
            final=row.data["final"],
            bounce_type=None,
            bounce_sub_type=None,
            feedback_type=None,
            opted_out=row.data["kind"] == "subscription" or None,
        )
        for row in await world.events(world.owner)
    ]
    async with world.db.as_role(Role.WORKER).begin(world.owner) as session:
        await recipients.fold(session, told, now=sns.NOW, keyring=keyring)


async def everything_read(app: Litestar, sight: Sight) -> dict[str, str]:
    """The answer of every route that reads, with ids of this world wherever an id belongs, and all pages of it."""
    world, (endpoint, *_) = sight.world, sight.endpoints
    event = (await world.events(sight.caller))[0]
    ids = {
        "grant_id": str(world.grant_id),
        "endpoint_id": endpoint,
        "delivery_id": f"{endpoint}.{event.id}",
        "identity_id": str(world.identity_id),
        "day": str(yesterday()),
    }
    found: dict[str, str] = {}
    for route in app.routes:
        if not isinstance(route, HTTPRoute) or route.path.startswith("/schema") or "GET" not in route.methods:
            continue
        path = "/".join(
            ids.get(part.strip("{}"), str(new_id())) if part.startswith("{") else part
            for part in route.path_format.split("/")
        )
        taken = queries.taken(route.route_handler_map["GET"][0]).query
        for more in ({}, {"state": "dead"}, {"format": "csv"}):
            query = {name: value for name, value in {"page_size": "100", **more}.items() if name in taken}
            await read_all(sight.client, path, query, found)
    return found


async def read_all(client: httpx.AsyncClient, path: str, query: dict[str, str], found: dict[str, str]) -> None:
    for _ in range(50):
        answer = await client.get(path, params=query)
        found[f"{path} {query}"] = str(answer.headers) + answer.text
        if answer.status_code != 200 or not answer.headers["content-type"].startswith("application/json"):
            return
        told = answer.json()
        following = told.get("next_page_token") if isinstance(told, dict) else None
        if following:
            query = {**query, "page_token": following}
        elif isinstance(told, dict) and told.get("more"):
            query = {**query, "after": told["cursor"]}
        else:
            return


async def lived(
    app: Litestar,
    db: Database,
    keyring: Keyring,
    database_url: str,
    receiver: Receiver,
    party: str,
    owner_view: str,
    logged: io.StringIO,
) -> Sight:
    """Everything comes in, is delivered in both shapes, fails, is replayed, digested and added up."""
    world = await make_world(db)
    feedback = {"owner_events": ALL_KINDS, "delegate_events": ALL_KINDS, "owner_view": owner_view}
    async with db.begin(world.owner) as session:
        await session.execute(update(Grant).where(Grant.id == world.grant_id).values(feedback=feedback))
    caller: Caller = getattr(world, party)
    made = [await make_endpoint(db, caller, keyring, receiver.url, shape=shape) for shape in Shape]
    # A receiver that answers with what it got would be shown its own words; it was given them under the same terms.
    receiver.react = lambda request: Reaction(500, {}, request.body) if len(receiver.delivered) % 7 == 0 else Reaction()
    envelopes = [world.envelope(each, MessageId=f"m{new_id()}") for each in payloads(world)]
    for start in range(0, len(envelopes), 200):
        await Ingest(Savepoint(db), keyring).take(arrived(*envelopes[start : start + 200]), now=sns.NOW)
    ids = [endpoint.id for endpoint in made]
    sender = HttpSender(allow_loopback=True)
    engine = Engine(database_url, db.as_role(Role.PUMP), sender, keyring, timeout=timedelta(minutes=1))
    await engine.burst(ids)
    event = (await world.events(caller))[0]
    await deliveries.replay(db, caller, deliveries.DeliveryId(ids[0], event.id))
    stretch = Stretch(from_=event.at - timedelta(minutes=1), until=event.at + timedelta(minutes=1), rate=500)
    await replays.replay(db, caller, ids[0], wanted=stretch, kept=timedelta(days=9999))
    await work.run(db.as_role(Role.WORKER))
    await engine.burst(ids)
    await fold(world, keyring)
    async with db.as_role(Role.WORKER).begin(caller) as session:
        await session.execute(text("UPDATE digests SET day = :day, due_at = now()"), {"day": yesterday()})
    await digests.run(db.as_role(Role.WORKER), retention=timedelta(days=30), only=ids)
    await engine.burst(ids)
    await engine.close()
    await sender.close()
    client = await signed_in(app, db, caller, keyring)
    bodies = [str(each.headers).encode() + each.body for each in receiver.delivered]
    return Sight(world, caller, client, tuple(str(each) for each in ids), bodies, logged.getvalue())


def holds(told: str) -> bool:
    return LOCAL in told.lower()


@pytest.mark.parametrize("view", ["hashed", "none"])
async def test_no_way_out_shows_what_the_terms_hide(
    app: Litestar,
    committed_db: Database,
    keyring: Keyring,
    database_url: str,
    receiver: Receiver,
    logged: io.StringIO,
    view: str,
) -> None:
    """Webhooks, feed, deliveries, attempts, replay, digests, suppressions, exports, audit, logs; every field."""
    sight = await lived(app, committed_db, keyring, database_url, receiver, "owner", view, logged)

    read = await everything_read(app, sight)
    events = await sight.world.events(sight.caller)
    assert [] == [where for where, told in read.items() if holds(told)]
    assert [] == [body for body in sight.bodies if holds(body.decode())]
    assert not holds(sight.logged)
    assert {row.type for row in events} >= {"email.bounced", "email.clicked", "email.delayed", "email.rendering_failed"}
    assert len(sight.bodies) > 2 * len(events) > 200
    assert "feedback stored" in sight.logged
    answered = {where.split(" ")[0] for where, told in read.items() if "recipient" in told}
    assert {"/v1/events", "/v1/suppressions"} <= answered


async def test_the_same_search_finds_it_where_it_may_be_seen(
    app: Litestar,
    committed_db: Database,
    keyring: Keyring,
    database_url: str,
    receiver: Receiver,
    logged: io.StringIO,
) -> None:
    """Else the test above could not fail. Logs never hold it."""
    sight = await lived(app, committed_db, keyring, database_url, receiver, "delegate", "none", logged)

    seen = {where.split(" ")[0] for where, told in (await everything_read(app, sight)).items() if holds(told)}

    grant = sight.world.grant_id
    assert {"/v1/events", "/v1/suppressions", f"/v1/grants/{grant}/suppressions/export"} <= seen
    assert any(holds(body.decode()) for body in sight.bodies)
    assert not holds(sight.logged)
