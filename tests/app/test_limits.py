"""How much a tenant may ask for, what it is told of that, and that taking access back is never refused."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from broker.app import build
from broker.ids import new_id
from broker.parts import Parts
from broker.roundtrips import ROUND_TRIPS
from broker.settings import Settings
from tests.app.conftest import Register, transport_to
from tests.app.test_edge import PROBLEM, PROPOSAL
from tests.servers import Postgres

ENDS_ACCESS = {
    "revokeGrant", "suspendGrant", "relinquishGrant", "revokeMatching", "revokeScript", "revokeApiKey",
    "removeConnection",
}  # fmt: skip

READER: dict[str, Any] = {"name": "k", "scopes": ["read"]}
ENDPOINT: dict[str, Any] = {"url": "http://127.0.0.1:1/"}


def account(number: int) -> dict[str, Any]:
    """A connection to an account of its own."""
    return {"kind": "proof", "account_id": f"{number:012}"}


@asynccontextmanager
async def serving(settings: Settings, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The key of a new tenant at an API with these limits."""
    parts = Parts(msgspec.structs.replace(settings, **changes))
    async with parts.serving():
        transport = transport_to(build(parts))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
            made = await client.post("/v1/tenants", json={"name": "Example", "roles": ["owner", "delegate"]})
            client.headers["authorization"] = f"Bearer {made.json()['secret']}"
            yield client


async def exhaust(client: httpx.AsyncClient, path: str = "/v1/tenant") -> httpx.Response:
    """Asks until it is refused."""
    for _ in range(500):
        answer = await client.get(path)
        if answer.status_code == 429:
            return answer
    raise AssertionError("never refused")


@pytest.mark.usefixtures("clock")
async def test_a_flood_is_refused_with_a_sentence_and_when_to_come_back(settings: Settings) -> None:
    """429 (RFC 6585, section 4) with Retry-After (RFC 9110, 10.2.3) and what the draft on rate limits tells."""
    async with serving(settings, key_request_rate=0.5) as client:
        first = await client.get("/v1/tenant")
        refused = await exhaust(client)

    assert (200, '"key";q=5;w=10') == (first.status_code, first.headers["ratelimit-policy"])
    assert '"key";r=4;t=2' == first.headers["ratelimit"]
    problem = refused.json()
    assert (PROBLEM, "Too many requests") == (refused.headers["content-type"], problem["title"])
    assert problem["detail"].startswith("An API key may make 5 of these requests in 10 seconds (policy key)")
    assert problem["detail"].endswith(".")
    assert refused.headers["retry-after"] in {"1", "2"}
    assert f'"key";r=0;t={refused.headers["retry-after"]}' == refused.headers["ratelimit"]


@pytest.mark.usefixtures("clock")
async def test_a_tenant_cannot_get_more_by_more_keys(settings: Settings) -> None:
    """The bucket of the tenant is shared by its keys; that of a key is its own."""
    async with serving(settings, tenant_request_rate=1.0, key_request_rate=0.5) as client:
        made = (await client.post("/v1/api-keys", json={"name": "second", "scopes": ["read"]})).json()
        by_key = await exhaust(client)
        client.headers["authorization"] = f"Bearer {made['secret']}"
        still = await client.get("/v1/tenant")
        by_tenant = await exhaust(client)

    assert "policy key" in by_key.json()["detail"]
    assert 200 == still.status_code
    assert re.search("policy (tenant|key)", by_tenant.json()["detail"])
    assert '"tenant";q=10;w=10, "key";q=5;w=10' == still.headers["ratelimit-policy"]


@pytest.mark.usefixtures("clock")
async def test_one_tenants_flood_is_no_other_tenants_matter(settings: Settings) -> None:
    async with serving(settings, tenant_request_rate=0.5) as client:
        await exhaust(client)
        client.headers.pop("authorization")
        made = await client.post("/v1/tenants", json={"name": "Another", "roles": ["owner"]})
        other = await client.get("/v1/tenant", headers={"authorization": f"Bearer {made.json()['secret']}"})

    assert 200 == other.status_code


@pytest.mark.usefixtures("clock")
async def test_taking_access_back_is_never_refused(settings: Settings) -> None:
    """With nothing left, every route that ends access still looks: 404 for ids that are not there, never 429."""
    async with serving(settings, key_request_rate=0.5, tenant_request_rate=0.5) as client:
        await exhaust(client)
        grant = f"/v1/grants/{new_id()}"
        answers = [
            (await client.post(f"{grant}/revoke")).status_code,
            (await client.post(f"{grant}/suspend")).status_code,
            (await client.post(f"{grant}/relinquish")).status_code,
            (await client.post("/v1/grants/revoke", json={"account_id": "222222222222"})).status_code,
            (await client.get("/v1/grants/revoke-script?account_id=222222222222")).status_code,
            (await client.delete(f"/v1/api-keys/{new_id()}")).status_code,
            (await client.delete(f"/v1/connections/{new_id()}")).status_code,
        ] * 3
        beside = await client.get("/v1/tenant")

    assert [404, 404, 404, 202, 200, 404, 404] * 3 == answers
    assert 429 == beside.status_code


def test_exactly_what_ends_access_is_unlimited(app: Litestar) -> None:
    """A new route is limited unless somebody says otherwise here."""
    found = {
        handler.operation_id
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.opt.get("ends_access")
    }

    assert ENDS_ACCESS == found


@pytest.mark.usefixtures("clock")
async def test_what_costs_is_counted_by_the_minute(settings: Settings) -> None:
    """A simulation asks the DNS, a test sends to a stranger's server: each has a number of its own."""
    body = {"send": {"call": "smtp", "from": "a@example.com", "caller": "222222222222"}, "policies": [], "dns": False,
            "identity_arn": PROPOSAL["identity_arn"]}  # fmt: skip
    async with serving(settings, quotas="simulations=2") as client:
        answers = [await client.post("/v1/simulations", json=body) for _ in range(3)]
        beside = await client.get("/v1/tenant")

    assert [200, 200, 429] == [answer.status_code for answer in answers]
    assert '"simulations";q=2;w=60' == answers[0].headers["ratelimit-policy"]
    assert (200, None) == (beside.status_code, beside.headers.get("ratelimit"))


@pytest.mark.usefixtures("clock")
async def test_a_flood_is_turned_away_without_the_database(settings: Settings) -> None:
    """So that it cannot delay another tenant's revocation."""
    async with serving(settings, key_request_rate=0.5) as client:
        await exhaust(client)
        before = ROUND_TRIPS.count
        answers = {(await client.get("/v1/grants")).status_code for _ in range(5)}
        asked = ROUND_TRIPS.count - before
        await client.get(f"/v1/grants/revoke-script?account_id={'2' * 12}")

    assert ({429}, 0) == (answers, asked)
    assert ROUND_TRIPS.count > before


@pytest.mark.parametrize(
    ("quota", "path", "bodies", "more"),
    [
        ("api_keys", "/v1/api-keys", [READER] * 2, READER),
        ("endpoints", "/v1/endpoints", [ENDPOINT] * 3, ENDPOINT),
        ("connections", "/v1/connections", [account(n) for n in (1, 2, 3)], account(4)),
    ],
)
async def test_a_full_quota_is_refused_with_the_number_and_the_way_out(
    settings: Settings, quota: str, path: str, bodies: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    """409, also of several at once, and room again once something is gone."""
    async with serving(settings, quotas=f"{quota}=2") as client:
        answers = await asyncio.gather(*(client.post(path, json=body) for body in bodies))
        listed = (await client.get(path)).json()["items"]
        gone = await client.delete(f"{path}/{listed[-1]['id']}")
        again = await client.post(path, json=more)

    refused = next(answer for answer in answers if answer.status_code == 409)
    assert 2 == len(listed)
    assert re.fullmatch(r"A tenant can have 2 [a-zA-Z ]+; [a-z ]+ first\.", refused.json()["detail"])
    assert (204, 201) == (gone.status_code, again.status_code)


async def test_the_operator_may_allow_one_tenant_more(settings: Settings, postgres: Postgres) -> None:
    """By `broker quota`, which goes before the installation's number and is in the tenant's own audit trail."""
    async with serving(settings, quotas="endpoints=1") as client:
        tenant_id = (await client.get("/v1/tenant")).json()["id"]
        first = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})
        full = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})
        said = [await run(postgres, "quota", tenant_id, "endpoints", "2")]
        second = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})
        said += [
            await run(postgres, "quota", tenant_id, "endpoints"),
            await run(postgres, "quota", str(new_id()), "endpoints", "2"),
            await run(postgres, "quota", tenant_id, "spoons", "2"),
        ]
        again = await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})
        actions = [entry["action"] for entry in (await client.get("/v1/audit")).json()["items"]]

    assert (201, 409, 201, 409) == (first.status_code, full.status_code, second.status_code, again.status_code)
    assert [(0, "endpoints: 2"), (0, "endpoints: as all"), (1, ""), (2, "")] == said
    assert 2 == actions.count("quota.changed")


async def run(postgres: Postgres, *words: str) -> tuple[int, str]:
    """The command in a process of its own: how it ended, and what it said."""
    environment = {**os.environ, "BROKER_MIGRATION_DATABASE_URL": postgres.owner_url, "BROKER_DATABASE_URL": ""}
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker.cli", *words, env=environment, stdout=PIPE, stderr=PIPE
    )
    out, _ = await program.communicate()
    return program.returncode or 0, out.decode().strip()


NOT_PAGED = {
    "listDestinations",  # SES takes ten in a set (SES API v2, CreateConfigurationSetEventDestination)
    "listIdentityPolicyVersions",  # the latest hundred
}


async def test_every_list_comes_in_pages_of_a_hundred_at_most(app: Litestar, register: Register) -> None:
    """Every route that answers with a page takes a size from 1 to 100 and nothing else."""
    client = await register()
    handlers = {
        (route.path_format.rstrip("/"), handler.operation_id): handler.parsed_fn_signature
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if "GET" in handler.http_methods
        and (
            "Page[" in str(handler.parsed_fn_signature.return_type.annotation)
            or "page_size" in handler.parsed_fn_signature.parameters
        )
    }
    wrong = []
    for (path, name), signature in handlers.items():
        if name in NOT_PAGED:
            continue
        if "page_size" not in signature.parameters:
            wrong.append((path, "has no page_size", 0))
        filled = re.sub(r"{delivery[^}]*}", f"{new_id()}.{new_id()}", path)
        filled = re.sub(r"{[^}]*}", lambda _: str(new_id()), filled)
        for query in ("page_size=0", "page_size=101", "page_size=-1", f"page_size={10**20}", "page_size=x"):
            answer = await client.get(f"{filled}?{query}")
            if answer.status_code != 400:
                wrong.append((path, query, answer.status_code))

    assert len(handlers) > 14
    assert [] == wrong


async def test_pages_of_keys_follow_each_other(register: Register) -> None:
    """Revoked ones too; each once."""
    client = await register()
    for number in range(4):
        await client.post("/v1/api-keys", json={"name": f"key {number}", "scopes": ["read"]})

    first = (await client.get("/v1/api-keys?page_size=3")).json()
    second = (await client.get("/v1/api-keys", params={"page_size": 3, "page_token": first["next_page_token"]})).json()

    names = [key["name"] for key in (*first["items"], *second["items"])]
    assert ["first key", "key 0", "key 1", "key 2", "key 3"] == names
    assert second["next_page_token"] is None
