"""Every POST that creates or moves works once under one `Idempotency-Key`, and answers the same again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from broker.caller import Caller
from broker.db import Database, Role, sessions
from broker.grants.lifecycle import Effect
from broker.grants.models import Grant
from broker.ids import new_id
from tests import servers
from tests.app.conftest import Register
from tests.grants.conftest import Parties, account_id, make_parties, terms_for
from tests.servers import Postgres


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


@pytest_asyncio.fixture
async def owner(postgres: Postgres) -> AsyncIterator[AsyncEngine]:
    """Connections of the login that owns the tables."""
    engine = create_async_engine(postgres.owner_url)
    yield engine
    await engine.dispose()


async def made_keys(client: httpx.AsyncClient) -> int:
    """How many API keys the tenant has, beside its first."""
    return len((await client.get("/v1/api-keys", params={"page_size": 100})).json()["items"]) - 1


KEY = {"name": "ci", "scopes": ["read"]}


@pytest.mark.parametrize("key", ["", "x" * 256, "x" * 10_000, "a\tb", "a\x7fb"])
async def test_a_key_that_is_none_is_refused_before_any_work(register: Register, key: str) -> None:
    """1 to 255 printable characters; what is longer could be kept for nothing."""
    client = await register()

    answer = await client.post("/v1/api-keys", json=KEY, headers={"idempotency-key": key})

    assert (400, 0) == (answer.status_code, await made_keys(client))
    assert "Idempotency-Key" in answer.json()["detail"]


async def test_two_keys_are_refused_whichever_would_count(register: Register) -> None:
    """A proxy that adds one would make the second of two acts the answer of the first."""
    client = await register()

    answer = await client.post(
        "/v1/api-keys", json=KEY, headers=[("idempotency-key", one) for one in ("first", "second")]
    )

    assert (400, 0) == (answer.status_code, await made_keys(client))
    assert "one Idempotency-Key" in answer.json()["detail"]


async def test_the_longest_key_works_and_is_told_from_its_neighbour(register: Register) -> None:
    """255 characters, all of which count."""
    client = await register()

    answers = [
        await client.post("/v1/api-keys", json=KEY, headers={"idempotency-key": "x" * 254 + last}) for last in "aab"
    ]

    assert [201] * 3 == [answer.status_code for answer in answers]
    assert answers[0].json() == answers[1].json() != answers[2].json()


async def test_a_key_used_on_another_route_is_refused(register: Register) -> None:
    """The same body to another path is another request."""
    client = await register()
    endpoint = (await client.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/"})).json()
    headers = {"idempotency-key": str(new_id())}

    first = await client.post(f"/v1/endpoints/{endpoint['id']}/pause", headers=headers)
    other = await client.post(f"/v1/endpoints/{endpoint['id']}/resume", headers=headers)

    assert (202, 422) == (first.status_code, other.status_code)
    assert "paused" == (await client.get(f"/v1/endpoints/{endpoint['id']}")).json()["state"]


async def test_a_stored_answer_belongs_to_the_api_key_that_got_it(register: Register) -> None:
    """Another key of the same tenant does not get a secret by repeating its request, nor does another tenant."""
    client, stranger = await register(), await register()
    second = (await client.post("/v1/api-keys", json={"name": "admin", "scopes": ["admin", "read"]})).json()["secret"]
    headers = {"idempotency-key": str(new_id())}

    first = await client.post("/v1/api-keys", json=KEY, headers=headers)
    sibling = await client.post("/v1/api-keys", json=KEY, headers={**headers, "authorization": f"Bearer {second}"})
    other = await stranger.post("/v1/api-keys", json=KEY, headers=headers)

    secrets = {answer.json()["secret"] for answer in (first, sibling, other)}
    assert (3, [None] * 3) == (
        len(secrets),
        [answer.headers.get("idempotent-replayed") for answer in (first, sibling, other)],
    )


async def test_a_revoked_key_gets_no_stored_answer(register: Register) -> None:
    """The secret of an answer dies with the key that asked for it."""
    client = await register()
    asker = (await client.post("/v1/api-keys", json={"name": "asker", "scopes": ["admin", "read"]})).json()
    headers = {"idempotency-key": str(new_id()), "authorization": f"Bearer {asker['secret']}"}
    await client.post("/v1/api-keys", json=KEY, headers=headers)
    await client.delete(f"/v1/api-keys/{asker['key']['id']}")

    again = await client.post("/v1/api-keys", json=KEY, headers=headers)

    assert (401, False) == (again.status_code, "secret" in again.text)


async def test_a_replayed_secret_is_not_kept_by_caches_either(register: Register) -> None:
    """RFC 9111, 5.2.2.5: the second answer holds the same secret."""
    client = await register()
    headers = {"idempotency-key": str(new_id())}

    answers = [await client.post("/v1/api-keys", json=KEY, headers=headers) for _ in range(2)]

    assert ["no-store", "no-store"] == [answer.headers["cache-control"] for answer in answers]


async def test_no_secret_lies_open_in_a_stored_answer(register: Register, owner: AsyncEngine) -> None:
    """Of every route whose answer holds one; read as the owner of the tables."""
    client = await register()
    secrets = []
    for path, body in (
        ("/v1/tenants", {"name": "A", "roles": ["owner"]}),
        ("/v1/api-keys", KEY),
        ("/v1/endpoints", {"url": "http://127.0.0.1:1/"}),
    ):
        answer = await client.post(path, json=body, headers={"idempotency-key": str(new_id())})
        secrets.append(answer.json()["secret"])
    endpoint = (await client.get("/v1/endpoints")).json()["items"][0]["id"]
    rotated = await client.post(
        f"/v1/endpoints/{endpoint}/rotate", json={"overlap_hours": 1}, headers={"idempotency-key": str(new_id())}
    )
    secrets.append(rotated.json()["secret"])

    bodies = await rows(owner, "SELECT body FROM idempotency_keys")

    assert len(bodies) >= 4
    assert [] == [secret for secret in secrets for (body,) in bodies if secret.encode() in bytes(body)]


async def test_a_key_is_free_again_after_a_day(register: Register, postgres: Postgres) -> None:
    """24 hours: then the request is made anew, and the old answer is not given."""
    client = await register()
    key = str(new_id())
    first = await client.post("/v1/api-keys", json=KEY, headers={"idempotency-key": key})
    await servers.execute(
        postgres.owner_url,
        f"UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second' WHERE key = '{key}'",
    )

    again = await client.post("/v1/api-keys", json={**KEY, "name": "cd"}, headers={"idempotency-key": key})
    replay = await client.post("/v1/api-keys", json={**KEY, "name": "cd"}, headers={"idempotency-key": key})

    assert (201, 201, 201) == (first.status_code, again.status_code, replay.status_code)
    assert first.json()["secret"] != again.json()["secret"] == replay.json()["secret"]


async def test_what_failed_may_be_tried_again_under_its_key(register: Register) -> None:
    """A refusal is not stored: nothing was done, and the next request is a first one, also with another body."""
    client = await register()
    headers = {"idempotency-key": str(new_id())}

    refused = await client.post("/v1/api-keys", json={**KEY, "expires_at": "2001-01-01T00:00:00Z"}, headers=headers)
    made = await client.post("/v1/api-keys", json=KEY, headers=headers)

    assert (422, 201, 1) == (refused.status_code, made.status_code, await made_keys(client))


async def test_after_a_crash_before_the_commit_the_key_is_free_and_nothing_was_done(
    register: Register, owner: AsyncEngine, engine: AsyncEngine
) -> None:
    """The server kills the connection while the request waits for a lock: 503, and then the same request works once."""
    client = await register()
    tenant = (await client.get("/v1/tenant")).json()["id"]
    headers = {"idempotency-key": str(new_id())}
    async with owner.connect() as held:
        await held.execute(text(f"SELECT pg_advisory_lock(hashtextextended('api_keys {tenant}', 44))"))
        asked = asyncio.create_task(client.post("/v1/api-keys", json=KEY, headers=headers))
        killed = await end_whoever_waits(engine)
        crashed = await asked
        still = await made_keys(client)
        await held.execute(text("SELECT pg_advisory_unlock_all()"))

    again = await client.post("/v1/api-keys", json=KEY, headers=headers)
    replay = await client.post("/v1/api-keys", json=KEY, headers=headers)

    assert (1, 503, "2", 0) == (killed, crashed.status_code, crashed.headers["retry-after"], still)
    assert (201, 1) == (again.status_code, await made_keys(client))
    assert again.json() == replay.json()


async def test_while_the_first_request_runs_the_second_is_told_so_at_once(
    register: Register, owner: AsyncEngine
) -> None:
    """409, not a wait: the client may ask again and gets the first one's answer."""
    client = await register()
    tenant = (await client.get("/v1/tenant")).json()["id"]
    headers = {"idempotency-key": str(new_id())}
    async with owner.connect() as held:
        await held.execute(text(f"SELECT pg_advisory_lock(hashtextextended('api_keys {tenant}', 44))"))
        first = asyncio.create_task(client.post("/v1/api-keys", json=KEY, headers=headers))
        await waiting(owner)
        second = await client.post("/v1/api-keys", json=KEY, headers=headers)
        running = not first.done()
        await held.execute(text("SELECT pg_advisory_unlock_all()"))
        made = await first

    later = await client.post("/v1/api-keys", json=KEY, headers=headers)

    assert (409, True) == (second.status_code, running)
    assert (201, made.json()) == (later.status_code, later.json())


async def test_nobody_at_the_same_address_gets_anothers_account_by_a_key_that_is_easily_guessed(
    anonymous: httpx.AsyncClient,
) -> None:
    """Registration has no API key to bind a stored answer to, and the answer holds the new tenant's secret."""
    body = {"name": "Example AG", "roles": ["owner"]}

    answers = [await anonymous.post("/v1/tenants", json=body, headers={"idempotency-key": "1"}) for _ in range(2)]

    assert [400, 400] == [answer.status_code for answer in answers]
    assert "at least 16" in answers[0].json()["detail"]


WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def waiting(owner: AsyncEngine) -> int:
    """The process of Postgres that waits for an advisory lock, once there is one."""
    async with asyncio.timeout(10), owner.connect() as looking:
        while True:
            found = (await looking.execute(text(WAITING))).scalars().all()
            await looking.rollback()
            if found:
                return int(found[0])


async def end_whoever_waits(engine: AsyncEngine) -> int:
    """Ends that process of the same login, as the crash of a server would; how many there were."""
    pid = await waiting(engine)
    async with engine.connect() as killing:
        return int(await killing.scalar(text(f"SELECT pg_terminate_backend({pid})")) or 0)


async def rows(owner: AsyncEngine, sql: str) -> list[Any]:
    """What the owner of the tables sees."""
    async with owner.connect() as looking:
        return list(await looking.execute(text(sql)))


async def test_every_post_that_works_goes_through_the_keys(app: Litestar) -> None:
    """A new POST must take the caller, who carries the key; what only asks is listed."""
    without = {
        handler.operation_id
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if "POST" in handler.http_methods and "caller" not in handler.parsed_fn_signature.parameters
    }

    assert {"diffPolicies", "lintPolicies", "receiveSns"} == without
