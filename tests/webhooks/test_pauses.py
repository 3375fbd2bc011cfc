"""Paused endpoints and headers of one's own, against a real receiver."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Conflict
from broker.webhooks import deliveries, endpoints, pauses
from broker.webhooks.custom_headers import flaws_of
from broker.webhooks.views import DeliveryState, EndpointChange, EndpointView
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.receiver import Reaction, Receiver
from tests.webhooks.waiting import until

Move = Callable[[Database, Caller, UUID], Awaitable[EndpointView]]


async def test_a_paused_endpoint_collects_and_gets_it_all_when_it_is_resumed(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    before = an_event(owner=tenant)
    await happened(committed_db, tenant, before)
    await pauses.pause(committed_db, tenant, made.id)
    during = an_event(owner=tenant)
    await happened(committed_db, tenant, during)
    await endpoints.send_test(committed_db, tenant, made.id)

    paused = await run(made.id)
    waiting = await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)
    await pauses.resume(committed_db, tenant, made.id)
    resumed = await run(made.id)

    assert (0, 3, 3) == (paused, len(waiting), resumed)
    assert {str(before.id), str(during.id)} < set(receiver.ids())


async def test_pausing_stops_a_lane_at_work(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    """Only what is under way at that moment may still arrive; the rest stays pending."""
    gate = asyncio.Event()
    receiver.react = lambda _: Reaction(gate=gate)
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(200)))

    sending = asyncio.create_task(run(made.id))
    await until(lambda: len(receiver.delivered) > 0)
    await pauses.pause(committed_db, tenant, made.id)
    gate.set()
    sent = await sending

    (left,) = await rows(committed_db, tenant, "SELECT count(*) AS pending FROM deliveries")
    assert 0 < sent <= 100
    assert 200 == sent + left.pending


@pytest.mark.parametrize("move", [pauses.pause, pauses.resume])
async def test_a_disabled_endpoint_is_neither_paused_nor_resumed(
    committed_db: Database, tenant: Caller, keyring: Keyring, move: Move
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, "https://hooks.example.com/")
    async with committed_db.begin(tenant) as session:
        await session.execute(text("UPDATE endpoints SET state = 'disabled'"))

    with pytest.raises(Conflict, match="enable it first"):
        await move(committed_db, tenant, made.id)


async def test_ones_own_headers_come_with_every_webhook_and_are_stored_sealed(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    headers = {"Authorization": "Bearer s3cret", "User-Agent": "mine"}
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url, headers=headers)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(3)))

    await run(made.id)

    (stored,) = await rows(committed_db, tenant, "SELECT headers, header_names FROM endpoints")
    assert {("Bearer s3cret", "mine")} == {
        (request.headers["authorization"], request.headers["user-agent"]) for request in receiver.delivered
    }
    assert 3 == len([Webhook(made.secret).verify(one.body, one.headers) for one in receiver.delivered])
    assert b"s3cret" not in bytes(stored.headers)
    assert ["authorization", "user-agent"] == stored.header_names


async def test_headers_are_replaced_as_a_whole_and_taken_away_by_null(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url, headers={"a": "1", "b": "2"})
    names = []

    for headers in ({"b": "3"}, None):
        wanted = EndpointChange(headers=headers)
        changed = await endpoints.change(
            committed_db, tenant, made.id, wanted=wanted, keyring=keyring, allow_loopback=True
        )
        names.append(changed.header_names)
        await happened(committed_db, tenant, an_event(owner=tenant))
        await run(made.id)

    assert [["b"], []] == names
    assert [(None, "3"), (None, None)] == [
        (request.headers.get("a"), request.headers.get("b")) for request in receiver.delivered
    ]


@pytest.mark.parametrize(
    "name",
    ["Host", "connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization",
     "Content-Type", "content-length", "Webhook-Id", "webhook-signature", "Expect", "Accept-Encoding", "", "a b", "a:b",
     "caf\u00e9", "a\n", "x" * 101],
)  # fmt: skip
def test_a_header_that_is_not_the_tenants_to_set_has_a_flaw(name: str) -> None:
    assert [f"/headers/{name}"] == [flaw.pointer for flaw in flaws_of({name: "value"})]


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "a\r\nx: y", "a\tb", "caf\u00e9", "\x7f", "x" * 1025, "a\n"])
def test_a_value_that_is_not_printable_ascii_has_a_flaw(value: str) -> None:
    assert ["/headers/x-a"] == [flaw.pointer for flaw in flaws_of({"x-a": value})]


def test_the_same_header_twice_has_a_flaw() -> None:
    assert ["/headers/X-A"] == [flaw.pointer for flaw in flaws_of({"x-a": "1", "X-A": "2"})]


@pytest.mark.parametrize(("name", "value"), [("Authorization", "Bearer a b"), ("X-!#$%&'*+-.^_`|", "~" * 1024)])
def test_any_other_header_is_fine(name: str, value: str) -> None:
    assert [] == flaws_of({name: value})
