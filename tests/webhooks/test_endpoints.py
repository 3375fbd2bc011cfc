"""Endpoints: made, changed, tested, deleted, and seen by nobody else."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from cryptography.fernet import Fernet
from sqlalchemy.exc import IntegrityError

from broker.caller import Caller, IdempotencyRequest
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict, Invalid, NotFound
from broker.idempotency import Replayed
from broker.ids import new_id
from broker.webhooks import deliveries, enabling, endpoints, pauses, rotation
from broker.webhooks.deliveries import DeliveryId
from broker.webhooks.models import DeliveryRow
from broker.webhooks.urls import flaw_of
from broker.webhooks.views import DeliveryState, EndpointChange, EndpointMade, NewEndpoint
from tests.conftest import MakeTenant
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.receiver import Receiver

URL = "https://hooks.example.com/ses"

KEYRING = Keyring((Fernet.generate_key().decode(),), pepper="pepper")

ASKS: dict[str, Callable[[Database, Caller, EndpointMade], Awaitable[object]]] = {
    "show": lambda db, caller, made: endpoints.show(db, caller, made.id),
    "change": lambda db, caller, made: endpoints.change(
        db, caller, made.id, wanted=EndpointChange(), keyring=KEYRING, allow_loopback=True
    ),
    "remove": lambda db, caller, made: endpoints.remove(db, caller, made.id),
    "enable": lambda db, caller, made: enabling.enable(db, caller, made.id),
    "pause": lambda db, caller, made: pauses.pause(db, caller, made.id),
    "resume": lambda db, caller, made: pauses.resume(db, caller, made.id),
    "rotate": lambda db, caller, made: rotation.rotate(db, caller, made.id, overlap_hours=24, keyring=KEYRING),
    "test": lambda db, caller, made: endpoints.send_test(db, caller, made.id),
    "deliveries": lambda db, caller, made: deliveries.list_some(
        db, caller, state=DeliveryState.PENDING, endpoint_id=made.id
    ),
    "attempts": lambda db, caller, made: deliveries.attempts(db, caller, DeliveryId(made.id, made.id)),
    "replay": lambda db, caller, made: deliveries.replay(db, caller, DeliveryId(made.id, made.id)),
}


async def create(db: Database, caller: Caller, keyring: Keyring, **wanted: object) -> EndpointMade:
    body = msgspec.convert({"url": URL, **wanted}, NewEndpoint)
    return await endpoints.create(db, caller, body, keyring=keyring, allow_loopback=False)


async def test_the_secret_is_shown_once_and_stored_sealed(
    db: Database, make_tenant: MakeTenant, keyring: Keyring
) -> None:
    caller = await make_tenant("owner")

    made = await create(db, caller, keyring, description="Production", event_types=["email.*"])

    shown = await endpoints.show(db, caller, made.id)
    (stored,) = await rows(db, caller, "SELECT sealed FROM endpoint_secrets")
    assert made.secret.startswith("whsec_")
    assert not hasattr(shown, "secret")
    assert (made.id, URL, "Production", ["email.*"], "active") == (
        shown.id,
        shown.url,
        shown.description,
        shown.event_types,
        shown.state,
    )
    assert made.secret.encode() not in bytes(stored.sealed)


@pytest.mark.parametrize("ask", ASKS)
async def test_a_stranger_finds_nothing(db: Database, make_tenant: MakeTenant, keyring: Keyring, ask: str) -> None:
    made = await create(db, await make_tenant(), keyring)
    stranger = await make_tenant()

    with pytest.raises(NotFound):
        await ASKS[ask](db, stranger, made)


@pytest.mark.parametrize("ask", ASKS)
async def test_a_deleted_endpoint_is_gone(db: Database, make_tenant: MakeTenant, keyring: Keyring, ask: str) -> None:
    caller = await make_tenant()
    made = await create(db, caller, keyring)
    await endpoints.remove(db, caller, made.id)

    with pytest.raises(NotFound):
        await ASKS[ask](db, caller, made)
    assert await endpoints.list_all(db, caller) == []


async def test_deleting_cancels_what_was_pending_and_forgets_the_secret(
    db: Database, make_tenant: MakeTenant, keyring: Keyring
) -> None:
    caller = await make_tenant()
    made = await create(db, caller, keyring, headers={"x-token": "t"})
    await happened(db, caller, an_event(owner=caller))

    await endpoints.remove(db, caller, made.id)

    counts = "SELECT (SELECT count(*) FROM deliveries) AS pending, (SELECT count(*) FROM endpoint_secrets) AS secrets"
    (left,) = await rows(db, caller, f"{counts}, headers FROM endpoints")
    assert (0, 0, None) == (left.pending, left.secrets, left.headers)


async def test_the_list_has_ones_own_endpoints_in_pages(
    db: Database, make_tenant: MakeTenant, keyring: Keyring
) -> None:
    caller, stranger = await make_tenant(), await make_tenant()
    made = [(await create(db, caller, keyring)).id for _ in range(3)]
    await create(db, stranger, keyring)

    first = await endpoints.list_all(db, caller, limit=2)
    rest = await endpoints.list_all(db, caller, after=first[-1].id, limit=2)

    assert made == [endpoint.id for endpoint in (*first, *rest)]


async def test_a_change_changes_what_is_given_and_no_more(
    db: Database, make_tenant: MakeTenant, keyring: Keyring
) -> None:
    caller = await make_tenant()
    made = await create(db, caller, keyring, description="old", event_types=["email.*"])
    wanted = msgspec.convert({"description": None, "url": "https://new.example.com/"}, EndpointChange)

    changed = await endpoints.change(db, caller, made.id, wanted=wanted, keyring=keyring, allow_loopback=False)

    assert ("https://new.example.com/", None, ["email.*"]) == (changed.url, changed.description, changed.event_types)


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"url": "http://hooks.example.com/"}, "/url"),
        ({"url": "https://hooks.example.com:22/"}, "/url"),
        ({"event_types": ["email.bounced", "email.exploded"]}, "/event_types"),
        ({"event_types": ["*"]}, "/event_types"),
    ],
)
async def test_a_bad_endpoint_is_refused_with_its_field(
    db: Database, make_tenant: MakeTenant, keyring: Keyring, wanted: dict[str, object], pointer: str
) -> None:
    caller = await make_tenant()

    with pytest.raises(Invalid) as refusal:
        await create(db, caller, keyring, **wanted)

    assert [pointer] == [flaw.pointer for flaw in refusal.value.flaws]
    assert await endpoints.list_all(db, caller) == []


@pytest.mark.parametrize(
    "url",
    ["https://user@example.com/", "https://example.com/#x", "https://localhost/", "https://10.0.0.1/", "https://[::1]/",
     "https://printer.local/", "https:///x", "hooks.example.com", "https://exa mple.com/", "https://[::1/",
     "https://example.com:99999/", "https://intranet/", "https://[2606:4700::1111%25eth0]/"],
)  # fmt: skip
def test_a_url_that_leads_nowhere_public_has_a_flaw(url: str) -> None:
    assert flaw_of(url, allow_loopback=False) is not None


@pytest.mark.parametrize("url", [URL, "https://hooks.example.com:8443/x?y=z", "https://8.8.8.8/"])
def test_a_public_url_has_no_flaw(url: str) -> None:
    assert flaw_of(url, allow_loopback=False) is None


async def test_a_tenant_has_twenty_endpoints_at_most(db: Database, make_tenant: MakeTenant, keyring: Keyring) -> None:
    caller = await make_tenant()
    for _ in range(20):
        await create(db, caller, keyring)

    with pytest.raises(Conflict, match="20 endpoints"):
        await create(db, caller, keyring)


async def test_two_requests_at_once_cannot_both_take_the_last_place(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    for _ in range(19):
        await create(committed_db, tenant, keyring)

    both = await asyncio.gather(*(create(committed_db, tenant, keyring) for _ in range(2)), return_exceptions=True)

    assert ["Conflict", "EndpointMade"] == sorted(type(one).__name__ for one in both)


async def test_the_same_request_again_answers_the_same_secret_from_a_sealed_answer(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    request = IdempotencyRequest(scope=str(tenant.tenant), key=str(new_id()), fingerprint=b"same", status=201)
    caller = msgspec.structs.replace(tenant, idempotency=request)
    made = await create(committed_db, caller, keyring)

    with pytest.raises(Replayed) as again:
        await create(committed_db, caller, keyring)

    assert again.value.sealed
    assert made.secret.encode() not in again.value.body
    assert made == msgspec.json.decode(keyring.open(again.value.body), type=EndpointMade)


async def test_a_test_event_goes_to_this_endpoint_alone_whatever_its_filter(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, other_receiver: Receiver, run: Run
) -> None:
    one = await make_endpoint(committed_db, tenant, keyring, receiver.url, event_types=["email.bounced"])
    other = await make_endpoint(committed_db, tenant, keyring, other_receiver.url)

    await endpoints.send_test(committed_db, tenant, one.id)
    await run(one.id, other.id)

    assert ["endpoint.test"] == [msgspec.json.decode(request.body)["type"] for request in receiver.delivered]
    assert other_receiver.delivered == []


async def test_every_change_has_an_audit_row(db: Database, make_tenant: MakeTenant, keyring: Keyring) -> None:
    caller = await make_tenant()
    made = await create(db, caller, keyring)
    wanted = EndpointChange(description="x", headers={"x-token": "s3cret"})
    await endpoints.change(db, caller, made.id, wanted=wanted, keyring=keyring, allow_loopback=False)
    await endpoints.send_test(db, caller, made.id)
    await pauses.pause(db, caller, made.id)
    await pauses.resume(db, caller, made.id)
    await rotation.rotate(db, caller, made.id, overlap_hours=24, keyring=keyring)
    await endpoints.remove(db, caller, made.id)

    audit = await rows(db, caller, "SELECT action, details::text AS details FROM audit WHERE subject_kind = 'endpoint'")

    moves = ("made", "changed", "tested", "paused", "resumed", "secret_rotated", "deleted")
    assert {f"endpoint.{move}" for move in moves} == {row.action for row in audit}
    assert not any("whsec_" in row.details or "s3cret" in row.details for row in audit)


async def test_a_delivery_to_a_foreign_endpoint_cannot_be_stored(
    committed_db: Database, tenant: Caller, stranger: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)

    with pytest.raises(IntegrityError):
        async with committed_db.begin(stranger) as session:
            session.add(
                DeliveryRow(
                    endpoint_id=made.id, event_id=new_id(), event_at=now(), tenant_id=stranger.tenant, priority=0
                )
            )
