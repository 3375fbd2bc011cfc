"""Keys of secrets at rest are changed while the broker works: nothing is lost, and the old key is not needed after."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from broker.crypto import Keyring
from broker.errors import BrokerError, Unavailable
from broker.ids import new_id
from broker.reseal import SEALED, Count, Place, reseal, summary
from tests.local.programs import run_broker
from tests.local.test_cli import GOOD
from tests.servers import Postgres

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
MANY = 7

# What is binary and no secret: digests, for look-up and comparison.
DIGESTS = {
    "api_keys.digest", "event_keys.key", "idempotency_keys.fingerprint", "policy_documents.digest",
    "recipients.recipient_hash", "suppressions.recipient_hash", "erasures.recipient_hash",
}  # fmt: skip
UNREAD = {"endpoints.secret"}  # empty since migration 0034


def ring(*keys: str) -> Keyring:
    return Keyring(keys, pepper="pepper")


class Vault:
    """A database of its own with sealed values in every place."""

    def __init__(self, url: str, engine: AsyncEngine) -> None:
        self.url = url
        self._engine = engine
        self.counts: dict[str, Count] = {}

    async def fill(self, keyring: Keyring) -> None:
        """`MANY` values in each place."""
        tenant, grant = new_id(), new_id()
        async with self._engine.begin() as connection:
            await connection.execute(text("ALTER TABLE suppressions DROP CONSTRAINT suppressions_grant_id_fkey"))
            named: Mapping[str, Any] = {"tenant": tenant, "grant": grant}
            await connection.execute(text("INSERT INTO tenants VALUES (:tenant, 'A', '{owner}')"), named)
            for number in range(MANY):
                row = {**named, "id": new_id(), "name": f"n{number}"}
                for place, statement in _ROWS.items():
                    sealed = keyring.seal(f"{place} {number}".encode())
                    await connection.execute(text(statement), {**row, "sealed": sealed})
            # An answer without a secret is not sealed, and is left alone.
            await connection.execute(
                text(_ROWS["idempotency_keys.body"].replace("true", "false")), {**row, "name": "x", "sealed": b"{}"}
            )

    async def values(self, place: Place) -> list[bytes]:
        """As they are stored."""
        query = f"SELECT {place.column} FROM {place.table} WHERE {place.column} IS NOT NULL AND {place.where}"
        async with self._engine.connect() as connection:
            return [bytes(value) for value in await connection.scalars(text(query))]

    async def run(self, *keys: str, **options: Any) -> bool:
        """Whether everything is under the first key now."""

        def told(place: Place, count: Count) -> None:
            self.counts[place.name] = count

        return await reseal(self.url, keys, told=told, **options)


_ROWS = {
    "endpoints.headers": "INSERT INTO endpoints (id, tenant_id, url, headers, state)"
    " VALUES (:id, :tenant, 'https://a.example', :sealed, 'active')",
    "endpoint_secrets.sealed": "INSERT INTO endpoint_secrets (id, tenant_id, endpoint_id, sealed)"
    " VALUES (:id, :tenant, :id, :sealed)",
    "suppressions.address": "INSERT INTO suppressions (id, owner_id, delegate_id, grant_id, identity_arn,"
    " recipient_hash, reason, address, since, last_at, last_event_id, stamp)"
    " VALUES (:id, :tenant, :tenant, :grant, :name, 'h', 'complaint', :sealed, now(), now(), :id, :id)",
    "erasures.address": "INSERT INTO erasures (id, tenant_id, recipient_hash, state, address)"
    " VALUES (:id, :tenant, CAST(CAST(:name AS text) AS bytea), 'running', :sealed)",
    "idempotency_keys.body": "INSERT INTO idempotency_keys (scope, key, tenant_id, fingerprint, status, body, sealed)"
    " VALUES ('s', :name, :tenant, 'f', 201, :sealed, true)",
}


@pytest_asyncio.fixture
async def vault(postgres: Postgres, migrated: str) -> AsyncIterator[Vault]:
    name = f"vault_{new_id().hex}"
    url = await asyncio.to_thread(postgres.create_database, name, template=migrated)
    engine = create_async_engine(url)
    made = Vault(url, engine)
    await made.fill(ring(OLD))
    yield made
    await engine.dispose()
    await asyncio.to_thread(postgres.drop_database, name)


async def test_every_binary_column_is_sealed_and_rotated_or_a_digest(engine: AsyncEngine, postgres: Postgres) -> None:
    """A new column has to say which of the two it is."""
    query = text(
        "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE a.atttypid = 'bytea'::regtype AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0"
        " AND c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped"
    )
    async with engine.connect() as connection:
        found = set(await connection.scalars(query))

    assert {place.name for place in SEALED} | DIGESTS | UNREAD == found
    assert {place.name for place in SEALED} == set(_ROWS)


async def test_after_a_rotation_the_new_key_alone_opens_everything(vault: Vault) -> None:
    """In batches smaller than the tables; the second time there is nothing to do."""
    before = await vault.run(NEW, OLD, look_only=True)
    looked = dict(vault.counts)
    rotated = await vault.run(NEW, OLD, batch=3)
    again = await vault.run(NEW, OLD, batch=3)

    assert (False, True, True) == (before, rotated, again)
    assert {place.name: Count(MANY, MANY, 0) for place in SEALED} == looked
    assert {place.name: Count(MANY, 0, 0) for place in SEALED} == vault.counts
    for place in SEALED:
        opened = {ring(NEW).open(value).decode() for value in await vault.values(place)}
        assert {f"{place.name} {number}" for number in range(MANY)} == opened


class Stop(Exception):
    """The operator's."""


async def test_one_that_was_stopped_goes_on_where_it_was(vault: Vault) -> None:
    """It keeps no position: what the new key opens is done."""

    def stop(_place: Place, count: Count) -> None:
        if count.seen >= 3:
            raise Stop

    with pytest.raises(Stop):
        await reseal(vault.url, (NEW, OLD), told=stop, batch=3)
    await vault.run(NEW, OLD, look_only=True)
    left = sum(count.older for count in vault.counts.values())

    assert MANY * len(SEALED) - 3 == left
    assert await vault.run(NEW, OLD)


async def test_what_no_key_opens_is_told_and_left_as_it_is(vault: Vault) -> None:
    """A key that was dropped too early can be put back."""
    values = [await vault.values(place) for place in SEALED]

    clean = await vault.run(NEW, OTHER)

    assert not clean
    assert {MANY} == {count.lost for count in vault.counts.values()}
    assert values == [await vault.values(place) for place in SEALED]
    assert "put it back" in summary(vault.counts, clean=clean, keys=2)


async def test_a_login_that_sees_only_its_own_rows_is_refused(vault: Vault, postgres: Postgres) -> None:
    """It would find nothing, and say that the old key may go."""
    with pytest.raises(BrokerError, match="owns the tables"):
        await reseal(postgres.app_url, (NEW, OLD), told=lambda *_: None)


async def test_the_command_says_when_the_old_key_may_go(vault: Vault) -> None:
    """With exit code 1 until then."""
    settings = {**GOOD, "BROKER_MIGRATION_DATABASE_URL": vault.url, "BROKER_SECRET_KEYS": f"{NEW},{OLD}"}

    check, rotate, again = [
        await asyncio.to_thread(run_broker, "secrets", command, settings=settings)
        for command in ("check", "rotate", "check")
    ]

    assert (1, 0, 0) == (check.returncode, rotate.returncode, again.returncode), rotate.stderr
    assert "keep every key" in check.stdout
    assert f"endpoint_secrets.sealed: {MANY} looked at, {MANY} sealed again, 0 unreadable" in rotate.stderr
    assert "the other keys may be taken out" in again.stdout
    assert not any(key in done.stdout + done.stderr for key in (OLD, NEW) for done in (check, rotate, again))


def test_a_process_that_has_not_the_new_key_says_to_come_again() -> None:
    """Not that something broke: once it was restarted with the key, the same request is answered."""
    with pytest.raises(Unavailable, match="cannot be decrypted") as raised:
        ring(OLD).open(ring(NEW).seal(b"secret"))

    assert raised.value.retry_after > timedelta(0)
    assert b"secret" == ring(NEW, OLD).open(ring(NEW).seal(b"secret"))
