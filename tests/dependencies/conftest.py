"""A broker whose Postgres, Redis and customers can be made bad, seen as its tenants see it."""

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import make_url

import broker.models  # noqa: F401 - foreign keys need every table
from broker.app import build
from broker.local.postgres import EmbeddedPostgres
from broker.migrate import migrate
from broker.parts import Parts
from broker.settings import Environment, Registration, Settings
from tests.local.helpers import reserved_port
from tests.proxy import LOOPBACK, Proxy
from tests.webhooks.waiting import until_told

PATIENCE = timedelta(seconds=0.5)
"""With a database that says nothing; where it answers, a slow machine has as long as in production."""


class Api:
    """The API as one tenant calls it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._accounts = (f"{number:012}" for number in count(100_000_000_000))
        app: Any = build(parts)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker")

    async def register(self) -> bool:
        """Becomes a tenant; False where the database is slower than it may be."""
        made = await self.http.post("/v1/tenants", json={"name": "Example", "roles": ["owner", "delegate"]})
        if is_come_back(made):
            return False
        self.http.headers["authorization"] = f"Bearer {made.json()['secret']}"
        return True

    async def me(self) -> httpx.Response:
        """Something that only reads."""
        return await self.http.get("/v1/tenant")

    async def connect(self, account_id: str = "", *, key: str | None = None) -> httpx.Response:
        """Something that writes: another connection."""
        return await self.http.post(
            "/v1/connections",
            json={"kind": "role", "account_id": account_id or next(self._accounts), "regions": ["eu-west-1"]},
            headers={"idempotency-key": key or str(uuid4())},
        )

    async def verify(self, connection_id: str) -> httpx.Response:
        """Something that writes and rings."""
        path = f"/v1/connections/{connection_id}/verify"
        return await self.http.post(path, headers={"idempotency-key": str(uuid4())})

    async def ids(self) -> set[str]:
        """The connections that there are."""
        token, found = None, set[str]()
        while True:
            query = {"page_size": "100"} | ({"page_token": token} if token else {})
            page = (await self.http.get("/v1/connections", params=query)).json()
            found |= {each["id"] for each in page["items"]}
            if not (token := page["next_page_token"]):
                return found

    async def ready(self) -> tuple[int, Any]:
        """What a load balancer is told."""
        answer = await self.http.get("/health/ready")
        return answer.status_code, answer.json()


def is_come_back(answer: httpx.Response) -> bool:
    """503 as a problem of the stable type, with the seconds after which to come back."""
    if answer.status_code != 503:
        return False
    return answer.json()["type"].endswith("/unavailable") and int(answer.headers["retry-after"]) >= 1


class OwnPostgres:
    """A server that may be killed and started again at the same port, with what it has stored."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self.now = EmbeddedPostgres.start(directory, port=port)

    def kill(self) -> None:
        """SIGKILL."""
        self.now.kill()
        self.now.stop()

    def start(self) -> None:
        """Starts it again; it recovers from its log first."""
        self.now = EmbeddedPostgres.start(self._directory, port=self.now.port)


@pytest.fixture(scope="session")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """A server that may be killed and filled up: nobody else's, and durable, since it is to lose nothing."""
    directory = tmp_path_factory.mktemp("own")
    with reserved_port() as port:  # while it is away nobody else is given it
        server = OwnPostgres(directory, port)
        yield server
        server.now.stop()
    EmbeddedPostgres.start(directory, discard=True).stop()


@pytest_asyncio.fixture(scope="session")
async def own_url(own_postgres: OwnPostgres) -> str:
    """Its URL, migrated."""
    await migrate(own_postgres.now.owner_url, login=make_url(own_postgres.now.app_url).username)
    return own_postgres.now.app_url


@pytest.fixture
def own_settings(own_url: str) -> Settings:
    """Settings of a broker on it, with no Redis."""
    return Settings(
        database_url=own_url,
        secret_keys=base64.urlsafe_b64encode(bytes(range(32))).decode(),
        api_key_pepper="pepper-for-tests-only-0123456789abcdef",
        redis_url="redis://127.0.0.1:1/0",
        environment=Environment.LOCAL,
        registration=Registration.OPEN,
        aws_account_id="999999999999",
        aws_region="eu-west-1",
        webhook_allow_loopback=True,
        dns_servers="127.0.0.1#9",
        tenant_request_rate=0.0,  # how many requests there are is a matter of how long a server takes to come back
        key_request_rate=0.0,
        keyless_request_rate=0.0,
        quotas="connections=0",
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Api]:
    """The API with these settings, and a tenant in it."""
    parts = Parts(settings)
    async with parts.serving():
        api = Api(parts)
        async with api.http:
            await until_told(api.register, seconds=30)
            yield api


@pytest_asyncio.fixture
async def way(own_url: str) -> AsyncIterator[Proxy]:
    """The way to the database."""
    async with Proxy(LOOPBACK, make_url(own_url).port or 5432).serving() as proxy:
        yield proxy
