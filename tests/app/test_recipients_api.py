"""Erasures and suppressions over HTTP, in the whole application."""

from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.feedback.erasures import work
from broker.ids import new_id
from tests.app.conftest import Register

JANE = "jane@example.org"


async def test_an_erasure_is_asked_for_and_watched(
    register: Register, committed_db: Database, keyring: Keyring
) -> None:
    client, stranger = await register(), await register()

    asked = await client.post("/v1/erasures", json={"address": JANE})
    path = f"/v1/erasures/{asked.json()['id']}"
    for _ in range(10):
        await work.run(committed_db.as_role(Role.WORKER), keyring, only=[UUID(asked.json()["id"])])

    shown = await client.get(path)
    assert (202, "running", "done") == (asked.status_code, asked.json()["state"], shown.json()["state"])
    assert [shown.json()] == (await client.get("/v1/erasures")).json()["items"]
    assert JANE not in asked.text + shown.text
    assert (404, []) == ((await stranger.get(path)).status_code, (await stranger.get("/v1/erasures")).json()["items"])


async def test_the_same_request_begins_one_erasure(register: Register) -> None:
    client, headers = await register(), {"idempotency-key": str(new_id())}

    first, again = [
        await client.post("/v1/erasures", json={"address": address}, headers=headers) for address in (JANE, JANE)
    ]

    assert first.json() == again.json()
    assert "true" == again.headers["idempotent-replayed"]


@pytest.mark.parametrize("scope", ["read", "write", "decide"])
async def test_only_an_administrator_erases(register: Register, scope: str) -> None:
    """It cannot be undone."""
    admin = await register()
    made = (await admin.post("/v1/api-keys", json={"name": "x", "scopes": [scope]})).json()
    headers = {"authorization": f"Bearer {made['secret']}"}

    answer = await admin.post("/v1/erasures", json={"address": JANE}, headers=headers)

    assert 403 == answer.status_code


@pytest.mark.parametrize("address", ["", "jane", "@example.org", "jane@", "a b@example.org", "x" * 330 + "@a.de"])
async def test_what_is_no_address_is_refused(register: Register, address: str) -> None:
    answer = await (await register()).post("/v1/erasures", json={"address": address})

    assert (422, "/address") == (answer.status_code, answer.json()["errors"][0]["pointer"])


async def test_what_was_checked_is_not_stored(register: Register, committed_db: Database) -> None:
    """Not even as an answer under the request's `Idempotency-Key`."""
    client = await register()
    tenant = Caller(tenant_id=UUID((await client.get("/v1/tenant")).json()["id"]))

    answer = await client.post(
        "/v1/suppressions/check", json={"addresses": [JANE]}, headers={"idempotency-key": str(new_id())}
    )

    async with committed_db.read(tenant) as session:
        stored = (await session.execute(text("SELECT 1 FROM idempotency_keys"))).all()
    assert (200, []) == (answer.status_code, stored)


async def test_the_documentation_warns_of_pushing(anonymous: httpx.AsyncClient) -> None:
    schema = (await anonymous.get("/schema/openapi.json")).json()

    operation = schema["paths"]["/v1/suppressions/pushes"]["post"]
    assert "affects all clients" in operation["description"]
    assert "other clients" in schema["components"]["schemas"]["Push"]["properties"]["enabled"]["description"]
