"""No endpoint is made or changed to a hostile URL, over the API of an installation that does not open loopback."""

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
import pytest_asyncio

from bench.hostile import HOSTILE, Hostile
from broker.app import build
from broker.parts import Parts
from broker.settings import Settings
from tests.app.conftest import transport_to

LITERAL = [row for row in HOSTILE if not row.answers and row.trick != "the broker itself"]
"""Where a name leads is seen when it is called, and not before."""


@pytest_asyncio.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    parts = Parts(msgspec.structs.replace(settings, webhook_allow_loopback=False))
    async with parts.serving():
        client = httpx.AsyncClient(transport=transport_to(build(parts)), base_url="http://broker")
        made = await client.post("/v1/tenants", json={"name": "Hostile", "roles": ["delegate"]})
        client.headers["authorization"] = f"Bearer {made.json()['secret']}"
        yield client
        await client.aclose()


@pytest.mark.parametrize("row", LITERAL, ids=lambda row: f"{row.trick} {row.url!r}")
async def test_it_is_refused_at_its_field(client: httpx.AsyncClient, row: Hostile) -> None:
    answer = await client.post("/v1/endpoints", json={"url": row.url})

    assert answer.status_code in (400, 422), answer.text
    assert "/url" in answer.text
    assert [] == (await client.get("/v1/endpoints")).json()["items"]


async def test_it_is_refused_for_an_endpoint_that_is_there(client: httpx.AsyncClient) -> None:
    endpoint = (await client.post("/v1/endpoints", json={"url": "https://hooks.example.com/"})).json()
    path = f"/v1/endpoints/{endpoint['id']}"
    answers = [await client.patch(path, json={"url": row.url}) for row in LITERAL]
    kept = (await client.get(path)).json()["url"]
    await client.delete(path)

    assert {400, 422} >= {answer.status_code for answer in answers}
    assert "https://hooks.example.com/" == kept
