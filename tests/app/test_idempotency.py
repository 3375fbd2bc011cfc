"""Every POST that creates or moves works once under one `Idempotency-Key`, and answers the same again."""

from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.caller import Caller
from broker.db import Database, Role, sessions
from broker.grants.lifecycle import Effect
from broker.grants.models import Grant
from broker.ids import new_id
from tests.app.conftest import Register
from tests.grants.conftest import Parties, account_id, make_parties, terms_for


class Walk:
    """Sends each request twice under one key and notes what was not the same, or was done twice."""

    def __init__(self) -> None:
        self.wrong: list[tuple[str, object]] = []

    async def twice(
        self, client: httpx.AsyncClient, path: str, body: Any = None, tag: str | None = None
    ) -> dict[str, Any]:
        """The first answer."""
        headers = {"idempotency-key": str(new_id()), **({"if-match": tag} if tag else {})}
        first = await client.post(path, json=body, headers=headers)
        entries = await _entries(client)
        again = await client.post(path, json=body, headers=headers)
        if first.status_code >= 300:
            self.wrong.append((path, first.text))
        for name, same in (
            ("status", first.status_code == again.status_code),
            ("body", first.content == again.content),
            ("etag", first.headers.get("etag") == again.headers.get("etag")),
            ("replayed", again.headers.get("idempotent-replayed") == "true"),
            ("work", entries == await _entries(client)),
        ):
            if not same:
                self.wrong.append((path, name))
        answer: dict[str, Any] = first.json()
        return answer


async def _entries(client: httpx.AsyncClient) -> int:
    """How many audit entries the tenant has; a hundred are more than these tests make."""
    return len((await client.get("/v1/audit", params={"page_size": 100})).json()["items"])


async def caller_of(client: httpx.AsyncClient) -> Caller:
    """The tenant behind a client."""
    return Caller(tenant_id=UUID((await client.get("/v1/tenant")).json()["id"]), request_id="test")


@pytest.fixture
def walk() -> Walk:
    """An empty walk."""
    return Walk()


def terms(parties: Parties, days: int) -> Any:
    """As a client writes them."""
    return msgspec.to_builtins(terms_for(parties, days=days))


async def test_accounts_keys_and_endpoints_are_made_once(register: Register, walk: Walk) -> None:
    """All routes but those of grants."""
    client = await register()

    await walk.twice(client, "/v1/tenants", {"name": "A", "roles": ["owner"]})
    await walk.twice(client, "/v1/api-keys", {"name": "k", "scopes": ["read"]})
    connection = await walk.twice(client, "/v1/connections", {"kind": "proof", "account_id": account_id()})
    await walk.twice(client, f"/v1/connections/{connection['id']}/verify")
    endpoint = await walk.twice(client, "/v1/endpoints", {"url": "http://127.0.0.1:1/"})
    await walk.twice(client, f"/v1/endpoints/{endpoint['id']}/test")
    await walk.twice(client, f"/v1/endpoints/{endpoint['id']}/enable")
    await walk.twice(client, f"/v1/endpoints/{endpoint['id']}/pause")
    await walk.twice(client, f"/v1/endpoints/{endpoint['id']}/resume")
    await walk.twice(client, f"/v1/endpoints/{endpoint['id']}/rotate", {"overlap_hours": 1})
    [delivery] = (await client.get("/v1/deliveries")).json()["items"]
    await walk.twice(client, f"/v1/deliveries/{delivery['id']}/replay")

    assert [] == walk.wrong


async def test_every_move_of_a_grant_is_made_once(register: Register, engine: AsyncEngine, walk: Walk) -> None:
    """With the ETag of the first answer on the second."""
    db = Database(sessions(engine), role=Role.API)
    owner, delegate = await register("owner"), await register("delegate")
    parties = await make_parties(db, await caller_of(owner), await caller_of(delegate))

    await walk.twice(owner, f"/v1/identities/{parties.identity_id}/refresh")
    grant = await walk.twice(delegate, "/v1/grants", {"identity_arn": parties.arn, "terms": terms(parties, 30)})
    path = f"/v1/grants/{grant['id']}"
    grant = await walk.twice(owner, f"{path}/counter", {"terms": terms(parties, 20)}, grant["etag"])
    grant = await walk.twice(delegate, f"{path}/approve", None, grant["etag"])
    grant = await walk.twice(delegate, f"{path}/amend", {"terms": terms(parties, 40)}, grant["etag"])
    await walk.twice(delegate, f"{path}/withdraw", {})
    grant = await walk.twice(delegate, f"{path}/amend", {"terms": terms(parties, 41)}, grant["etag"])
    await walk.twice(owner, f"{path}/decline", {})
    async with db.begin(parties.owner) as session:
        gone = update(Grant).where(Grant.id == UUID(grant["id"]))
        await session.execute(gone.values(effect=Effect.APPLIED, drifted=True))
    await walk.twice(owner, f"{path}/restore")
    await walk.twice(owner, f"{path}/revoke", {})

    assert [] == walk.wrong


async def test_every_move_of_a_route_is_made_once(register: Register, engine: AsyncEngine, walk: Walk) -> None:
    db = Database(sessions(engine), role=Role.API)
    owner, delegate = await register("owner"), await register("delegate")
    parties = await make_parties(db, await caller_of(owner), await caller_of(delegate))
    grant = (await delegate.post("/v1/grants", json={"identity_arn": parties.arn, "terms": terms(parties, 30)})).json()
    await owner.post(f"/v1/grants/{grant['id']}/approve", headers={"if-match": grant["etag"]})

    route = await walk.twice(owner, "/v1/routes", {"grant_id": grant["id"], "kind": "identity_topic"})
    await walk.twice(owner, f"/v1/routes/{route['id']}/check")
    await walk.twice(owner, f"/v1/routes/{route['id']}/repair")

    assert [] == walk.wrong
