"""The whole web application, called in the same event loop; no network, a real database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar

from broker.app import build
from broker.parts import Parts
from broker.settings import Settings

Register = Callable[..., Awaitable[httpx.AsyncClient]]


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """By which requests are counted: a bucket fills while a test moves it, and not while this machine is slow."""
    clock = Clock()
    for module in ("broker.tenants.auth", "broker.tenants.porch", "broker.webhooks.ledger.metrics"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


@pytest_asyncio.fixture(scope="module")
async def app(settings: Settings) -> AsyncIterator[Litestar]:
    """Built once for a file: building it costs 20 ms and more."""
    parts = Parts(settings)
    async with parts.serving():
        yield build(parts)


def transport_to(app: Any) -> httpx.ASGITransport:
    """Calls the application without a network; httpx and litestar describe the same ASGI in different types."""
    return httpx.ASGITransport(app)


@pytest_asyncio.fixture
async def anonymous(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with httpx.AsyncClient(transport=transport_to(app), base_url="http://broker") as client:
        yield client


@pytest.fixture
def register(app: Litestar, anonymous: httpx.AsyncClient) -> Register:
    """`await register("owner")` gives a client with the key of a new tenant; `client.tenant_id` is in its headers."""

    async def make(*roles: str) -> httpx.AsyncClient:
        answer = await anonymous.post(
            "/v1/tenants", json={"name": "Example", "roles": list(roles or ("owner", "delegate"))}
        )
        assert answer.status_code == 201, answer.text
        return httpx.AsyncClient(
            transport=transport_to(app),
            base_url="http://broker",
            headers={"authorization": f"Bearer {answer.json()['secret']}"},
        )

    return make
