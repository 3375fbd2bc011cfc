"""What the tests share: a real Postgres and a real Redis for the session, a database a file; tenants; transactions."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import hypothesis
import pytest
import pytest_asyncio
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

import broker.models  # noqa: F401 - foreign keys need every table
from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database, Role, connect, sessions
from broker.ids import new_id
from broker.migrate import migrate
from broker.settings import Environment, Registration, Settings
from tests import servers
from tests.servers import OneDatabase, Postgres

MakeTenant = Callable[..., Awaitable[Caller]]

# The same examples in every run, however slow the machine is; `--hypothesis-profile=default` looks for others.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The Postgres of the session."""
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as started:
        yield started


@pytest_asyncio.fixture(scope="session")
async def migrated(server: Postgres) -> AsyncIterator[str]:
    """The name of a migrated database, to be copied."""
    name = f"migrated_{new_id().hex[-12:]}"
    await migrate(await asyncio.to_thread(server.create_database, name), login=make_url(server.app_url).username)
    yield name
    await asyncio.to_thread(server.drop_database, name)


@pytest.fixture(scope="module")
def postgres(server: Postgres, migrated: str) -> Iterator[Postgres]:
    """The server, with a migrated database for the tests of one file: what they leave due is nobody else's to do."""
    name = f"tests_{new_id().hex[-12:]}"
    server.create_database(name, template=migrated)
    yield OneDatabase(server, name)
    server.drop_database(name)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Redis of the session."""
    with servers.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> str:
    """The service's own login on it."""
    return postgres.app_url


@pytest_asyncio.fixture(scope="module")
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A pool on the migrated database."""
    engine = connect(database_url, pool_size=10)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture
async def db(engine: AsyncEngine) -> AsyncIterator[Database]:
    """A database whose every transaction is a savepoint of one that is rolled back at the end of the test."""
    async with engine.connect() as connection:
        outer = await connection.begin()
        inside = async_sessionmaker(
            connection, class_=AsyncSession, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )
        yield Database(inside, role=Role.API)
        await outer.rollback()


@pytest.fixture
def committed_db(engine: AsyncEngine) -> Database:
    """A database that really commits, for claims and races; make tenants of your own in it."""
    return Database(sessions(engine), role=Role.API)


@pytest.fixture(scope="module")
def settings(database_url: str) -> Settings:
    """Settings of a local run."""
    return Settings(
        database_url=database_url,
        secret_keys=base64.urlsafe_b64encode(bytes(range(32))).decode(),
        api_key_pepper="pepper-for-tests-only-0123456789abcdef",
        environment=Environment.LOCAL,
        registration=Registration.OPEN,
        aws_account_id="999999999999",
        aws_region="eu-west-1",
        webhook_allow_loopback=True,
        tenant_request_rate=0.0,  # the tests are faster than any client; those of the limits set their own
        key_request_rate=0.0,
        ses_call_rate=0.0,  # the local AWS takes what comes
        keyless_request_rate=0.0,
        quotas="checks=0,endpoint_tests=0,replays=0,simulations=0",
        dns_servers="127.0.0.1#9",  # nobody answers there: what needs the DNS brings its own
    )


@pytest.fixture(scope="module")
def keyring(settings: Settings) -> Keyring:
    """The keyring of these settings."""
    return Keyring(settings.fernet_keys, pepper=settings.api_key_pepper)


async def new_tenant(database: Database, *roles: str) -> Caller:
    """A tenant made through the registration function, as a caller with every scope."""
    tenant, key = new_id(), new_id()
    async with database.begin(Caller(tenant_id=None)) as session:
        await session.execute(
            text("SELECT register_tenant(:id, :name, :roles, NULL, :key, 'test', 'sdb_test', :digest, :scopes)"),
            {
                "id": tenant,
                "name": f"Tenant {tenant}",
                "roles": list(roles or ("owner", "delegate")),
                "key": key,
                "digest": key.bytes,
                "scopes": [scope.value for scope in Scope],
            },
        )
    return Caller(tenant_id=tenant, key_id=key, scopes=frozenset(Scope), request_id="test")


@pytest.fixture
def make_tenant(db: Database) -> MakeTenant:
    """`await make_tenant("owner")` gives a tenant inside the test's transaction."""

    async def make(*roles: str) -> Caller:
        return await new_tenant(db, *roles)

    return make
