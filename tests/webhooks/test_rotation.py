"""Two secrets while a receiver moves from one to the other, checked as a customer checks them."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from standardwebhooks import Webhook, WebhookVerificationError

from broker.caller import NOBODY, Caller, IdempotencyRequest
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.idempotency import Replayed
from broker.ids import new_id
from broker.migrate import migrate
from broker.webhooks import endpoints, keys, rotation
from broker.webhooks.views import SecretMade
from tests.conftest import MakeTenant
from tests.servers import Postgres
from tests.webhooks.conftest import Run, an_event, happened, make_endpoint, rows
from tests.webhooks.receiver import Delivered, Receiver
from tests.webhooks.waiting import until


def verifies(secret: str, request: Delivered) -> bool:
    """Whether a customer who has this secret takes the request."""
    try:
        Webhook(secret).verify(request.body, request.headers)
    except WebhookVerificationError:
        return False
    return True


async def rotate(db: Database, caller: Caller, endpoint_id: UUID, keyring: Keyring, *, hours: int = 24) -> SecretMade:
    """As the API does."""
    return await rotation.rotate(db, caller, endpoint_id, overlap_hours=hours, keyring=keyring)


async def deliver(db: Database, caller: Caller, endpoint_id: UUID, receiver: Receiver, *, run: Run) -> Delivered:
    """One event, sent."""
    await happened(db, caller, an_event(owner=caller))
    await run(endpoint_id)
    return receiver.delivered[-1]


async def age(db: Database, caller: Caller, change: str) -> None:
    """Lets time pass for the secrets: under the role of the pump, as far as it may, or the API's."""
    role = Role.PUMP if "last_used_at" in change else Role.API
    async with db.as_role(role).begin(caller) as session:
        only = (
            "WHERE tenant_id = :tenant AND expires_at IS NOT NULL" if role is Role.API else "WHERE tenant_id = :tenant"
        )
        await session.execute(text(f"UPDATE endpoint_secrets SET {change} {only}"), {"tenant": caller.tenant})


async def test_both_secrets_verify_during_the_overlap_and_the_newest_is_first(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)

    new = await rotate(committed_db, tenant, made.id, keyring)
    request = await deliver(committed_db, tenant, made.id, receiver, run=run)

    newest, previous = request.headers["webhook-signature"].split(" ")
    assert ["v1", "v1"] == [one.partition(",")[0] for one in (newest, previous)]
    first = Delivered({**request.headers, "webhook-signature": newest}, request.body)
    assert (True, True) == (verifies(made.secret, request), verifies(new.secret, request))
    assert (False, True) == (verifies(made.secret, first), verifies(new.secret, first))


async def test_the_old_secret_stops_at_its_time(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    new = await rotate(committed_db, tenant, made.id, keyring, hours=1)

    await age(committed_db, tenant, "expires_at = now()")
    request = await deliver(committed_db, tenant, made.id, receiver, run=run)

    shown = await endpoints.show(committed_db, tenant, made.id)
    assert (False, True) == (verifies(made.secret, request), verifies(new.secret, request))
    assert [new.id] == [secret.id for secret in shown.secrets]


async def test_without_an_overlap_the_old_secret_stops_at_once(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)

    new = await rotate(committed_db, tenant, made.id, keyring, hours=0)
    request = await deliver(committed_db, tenant, made.id, receiver, run=run)

    assert new.previous_until is None
    assert (False, True) == (verifies(made.secret, request), verifies(new.secret, request))


async def test_rotating_twice_within_an_overlap_ends_the_oldest_at_once(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)

    second = await rotate(committed_db, tenant, made.id, keyring, hours=168)
    third = await rotate(committed_db, tenant, made.id, keyring)
    request = await deliver(committed_db, tenant, made.id, receiver, run=run)

    shown = await endpoints.show(committed_db, tenant, made.id)
    assert [False, True, True] == [verifies(one.secret, request) for one in (made, second, third)]
    assert [third.id, second.id] == [secret.id for secret in shown.secrets]
    assert [None, third.previous_until] == [secret.expires_at for secret in shown.secrets]


async def test_two_rotations_at_once_leave_two_secrets(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, "https://hooks.example.com/")

    await asyncio.gather(*(rotate(committed_db, tenant, made.id, keyring) for _ in range(4)))

    stored = await rows(committed_db, tenant, "SELECT expires_at FROM endpoint_secrets")
    assert [False, True] == sorted(row.expires_at is None for row in stored)


async def test_rotating_while_it_is_delivered_to_waits_for_nobody_in_a_ring(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(50)))

    sending = asyncio.create_task(run(made.id))
    await until(lambda: len(receiver.delivered) > 0)
    for _ in range(10):
        await rotate(committed_db, tenant, made.id, keyring)

    assert 50 == await sending
    assert 50 == len(receiver.delivered)


async def test_the_last_use_is_written_once_a_minute_at_most(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    used: list[datetime] = []

    for past in ("0 seconds", "30 seconds", "31 seconds"):  # half a minute is there for a slow machine
        await age(committed_db, tenant, f"last_used_at = last_used_at - interval '{past}'")
        await deliver(committed_db, tenant, made.id, receiver, run=run)
        (secret,) = (await endpoints.show(committed_db, tenant, made.id)).secrets
        assert secret.last_used_at is not None
        used.append(secret.last_used_at)

    first, soon, later = used
    assert timedelta(seconds=30) == first - soon
    assert later > first


async def test_a_secret_that_did_not_sign_was_not_used(
    committed_db: Database, tenant: Caller, keyring: Keyring, receiver: Receiver, run: Run
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, receiver.url)
    await deliver(committed_db, tenant, made.id, receiver, run=run)

    new = await rotate(committed_db, tenant, made.id, keyring)

    shown = await endpoints.show(committed_db, tenant, made.id)
    assert new.id == shown.secrets[0].id
    assert [False, True] == [secret.last_used_at is not None for secret in shown.secrets]


async def test_the_same_rotation_again_answers_the_same_from_a_sealed_answer(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, "https://hooks.example.com/")
    request = IdempotencyRequest(scope=str(tenant.tenant), key=str(new_id()), fingerprint=b"same", status=201)
    caller = msgspec.structs.replace(tenant, idempotency=request)
    first = await rotate(committed_db, caller, made.id, keyring)

    with pytest.raises(Replayed) as again:
        await rotate(committed_db, caller, made.id, keyring)

    assert again.value.sealed
    assert first == msgspec.json.decode(keyring.open(again.value.body), type=SecretMade)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (Role.PUMP, "UPDATE endpoint_secrets SET sealed = 'x'"),
        (Role.PUMP, "UPDATE endpoint_secrets SET expires_at = now()"),
        (Role.PUMP, "DELETE FROM endpoint_secrets"),
        (Role.API, "UPDATE endpoint_secrets SET sealed = 'x'"),
        (Role.INGEST, "SELECT sealed FROM endpoint_secrets"),
    ],
)
async def test_a_role_does_with_secrets_what_its_job_needs(
    db: Database, make_tenant: MakeTenant, role: Role, statement: str
) -> None:
    caller = await make_tenant()

    with pytest.raises(ProgrammingError, match="permission denied"):
        async with db.as_role(role).begin(caller) as session:
            await session.execute(text(statement))


async def test_a_tenant_sees_its_own_secrets_only(db: Database, make_tenant: MakeTenant, keyring: Keyring) -> None:
    caller, stranger = await make_tenant(), await make_tenant()
    await make_endpoint(db, caller, keyring, "https://hooks.example.com/")

    assert 1 == len(await rows(db, caller, "SELECT id FROM endpoint_secrets"))
    assert [] == await rows(db, stranger, "SELECT id FROM endpoint_secrets")


async def test_secrets_from_before_the_migration_go_on_and_come_back(postgres: Postgres, database_url: str) -> None:
    """Up: into the new table. Down: the current one into the old column; who was paused is disabled."""
    name = f"secrets_{new_id().hex}"
    url = await asyncio.to_thread(postgres.create_database, name)
    tenant, endpoint = new_id(), new_id()
    make = (
        "INSERT INTO tenants (id, name, roles) VALUES (:tenant, 'A', '{owner}')",
        "INSERT INTO endpoints (id, tenant_id, url, secret, state) VALUES (:id, :tenant, 'https://a', 's', 'active')",
    )
    moved = "SELECT sealed FROM endpoint_secrets WHERE endpoint_id = :id AND expires_at IS NULL"
    back = "SELECT secret || convert_to(state, 'utf8') FROM endpoints WHERE id = :id"
    pause = "UPDATE endpoints SET secret = NULL, state = 'paused'"

    await migrate(url, revision="0007")
    await _run(url, *make, tenant=tenant, id=endpoint)
    await migrate(url, revision="0008")
    up = await _run(url, moved, id=endpoint)
    await _run(url, pause)
    await migrate(url, revision="0007")
    down = await _run(url, back, id=endpoint)

    await asyncio.to_thread(postgres.drop_database, name)
    assert (b"s", b"sdisabled") == (up, down)


async def _run(url: str, *statements: str, **named: object) -> object:
    """As the owner of the tables; the first value of the last answer, if it has one."""
    engine = create_async_engine(make_url(url))
    value: object = None
    async with engine.begin() as connection:
        for statement in statements:
            wanted = {key: given for key, given in named.items() if f":{key}" in statement}
            result = await connection.execute(text(statement), wanted)
            value = result.scalar() if result.returns_rows else None
    await engine.dispose()
    return value


async def test_housekeeping_deletes_secrets_a_day_after_they_ended(
    committed_db: Database, tenant: Caller, third: Caller, keyring: Keyring
) -> None:
    """Of all tenants; those that sign, and those whose end may still be asked about, stay."""
    callers = (tenant, third)
    made = [await make_endpoint(committed_db, caller, keyring, "https://hooks.example.com/") for caller in callers]
    for caller, one in zip(callers, made, strict=True):
        await rotate(committed_db, caller, one.id, keyring)
    await age(committed_db, tenant, "expires_at = now() - interval '25 hours'")
    await age(committed_db, third, "expires_at = now() - interval '23 hours'")

    async with committed_db.as_role(Role.WORKER).begin(NOBODY) as session:
        gone = await keys.forget_ended(session)

    left = [await rows(committed_db, caller, "SELECT expires_at FROM endpoint_secrets") for caller in callers]
    assert gone >= 1
    assert [1, 2] == [len(secrets) for secrets in left]
    assert left[0][0].expires_at is None


@pytest.mark.parametrize("role", [Role.API, Role.PUMP, Role.INGEST])
async def test_only_housekeeping_deletes_secrets_of_others(db: Database, role: Role) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with db.as_role(role).begin(NOBODY) as session:
            await keys.forget_ended(session)
