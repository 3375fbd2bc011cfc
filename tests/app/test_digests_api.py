"""Digests over HTTP."""

from datetime import date, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.db import Database, Role
from broker.webhooks.digests import work
from tests.app.conftest import Register
from tests.app.test_endpoint_moves import make
from tests.webhooks.cutting import yesterday


async def cut_days(db: Database, client: httpx.AsyncClient, path: str, *, number: int) -> list[date]:
    """Has these many past days of the endpoint cut; the newest first."""
    endpoint_id = UUID(path.rpartition("/")[2])
    tenant = Caller(tenant_id=UUID((await client.get("/v1/tenant")).json()["id"]))
    worker = db.as_role(Role.WORKER)
    async with worker.begin(tenant) as session:
        first = {"day": yesterday(number), "id": endpoint_id}
        await session.execute(text("UPDATE digests SET day = :day, due_at = now() WHERE id = :id"), first)
    for _ in range(number):
        await work.run(worker, retention=timedelta(days=30), only=[endpoint_id])
    return [yesterday(back) for back in range(1, number + 1)]


async def test_digests_are_listed_newest_first_in_pages(register: Register, committed_db: Database) -> None:
    client = await register()
    path = await make(client)
    days = await cut_days(committed_db, client, path, number=3)

    first = (await client.get(f"{path}/digests", params={"page_size": 2})).json()
    token = {"page_size": 2, "page_token": first["next_page_token"]}
    rest = (await client.get(f"{path}/digests", params=token)).json()

    assert [str(day) for day in days] == [one["day"] for one in (*first["items"], *rest["items"])]
    assert rest["next_page_token"] is None


async def test_the_digest_of_a_day_is_shown(register: Register, committed_db: Database) -> None:
    client, stranger = await register(), await register()
    path = await make(client)
    (day,) = await cut_days(committed_db, client, path, number=1)

    shown = await client.get(f"{path}/digests/{day}")

    listed = (await client.get(f"{path}/digests")).json()["items"]
    assert (200, listed) == (shown.status_code, [shown.json()])
    assert (str(day), 0, {}) == (shown.json()["day"], shown.json()["count"], shown.json()["types"])
    assert [404, 404] == [(await stranger.get(f"{path}/digests{rest}")).status_code for rest in ("", f"/{day}")]


@pytest.mark.parametrize("day", ["2099-01-01", "yesterday", "2026-02-30", "20260101", "2026-W01-1", "%F0%9F"])
async def test_a_day_that_has_no_digest_is_not_found(register: Register, day: str) -> None:
    client = await register()

    assert 404 == (await client.get(f"{await make(client)}/digests/{day}")).status_code


@pytest.mark.parametrize("token", ["", "x", "AAAA", "/////w==", "MjAyNg=="])
async def test_a_page_token_of_digests_that_we_did_not_give_out_is_refused(register: Register, token: str) -> None:
    client = await register()

    answer = await client.get(f"{await make(client)}/digests", params={"page_token": token})

    assert 400 == answer.status_code


async def test_the_documentation_says_how_to_verify(anonymous: httpx.AsyncClient) -> None:
    """With the code that the tests of the digests run."""
    schema = (await anonymous.get("/schema/openapi.json")).json()

    operation = schema["paths"]["/v1/endpoints/{endpoint_id}/digests/{day}"]["get"]
    assert "def complete(" in operation["description"]
