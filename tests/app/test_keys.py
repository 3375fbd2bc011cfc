"""API keys over their whole life: scopes by a table, end, rotation, revocation everywhere, and guessing."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import httpx
import pytest
from litestar import Litestar
from sqlalchemy import text

from broker.app import build
from broker.caller import Caller, Scope
from broker.clock import now
from broker.db import Database
from broker.ids import new_id
from broker.parts import Parts
from broker.settings import Settings
from broker.tenants import guesses
from broker.tenants.guesses import BURST, PER_SECOND, Guesses
from broker.tenants.keys import mint
from broker.tenants.together import EVERY, LOOKS, Together, find
from tests.app.conftest import Register, transport_to
from tests.walls.strangers import routes_of

DECIDE = {
    "proposeGrant", "amendGrant", "approveOffer", "counterOffer", "declineOffer", "withdrawOffer", "relinquishGrant",
    "restoreGrant", "resumeGrant", "suspendGrant", "revokeGrant", "revokeMatching", "adoptIdentityPolicy",
    "confirmByHand", "approveRoute", "declineRoute",
}  # fmt: skip
ADMIN = {"changeTenant", "makeApiKey", "revokeApiKey", "switchSuppressionPush", "eraseRecipient"}
READ = {"lintPolicies", "diffPolicies", "countGrantsThatFit"}  # they have a body, and only ask
OPEN = {"listSigningKeys"}  # for whoever checks what the service signed


def scope_of(name: str, method: str) -> Scope:
    """The table: what each operation needs; whatever is not named reads with GET and writes otherwise."""
    for names, scope in ((DECIDE, Scope.DECIDE), (ADMIN, Scope.ADMIN), (READ, Scope.READ)):
        if name in names:
            return scope
    return Scope.READ if method == "GET" else Scope.WRITE


async def test_every_route_wants_the_scope_of_the_table_and_no_other(app: Litestar, register: Register) -> None:
    """A key of each scope alone, on every route: 403 exactly where the table says another."""
    admin = await register()
    keys = {}
    for scope in Scope:
        made = await admin.post("/v1/api-keys", json={"name": scope.value, "scopes": [scope.value]})
        keys[scope] = {"authorization": f"Bearer {made.json()['secret']}"}
    wrong, named = [], set()
    for route in routes_of(app):
        named.add(route.name)
        if route.name in OPEN:
            continue
        path = route.path.format_map(_MadeUp())
        wanted = scope_of(route.name, route.method)
        for scope, headers in keys.items():
            answer = await admin.request(
                route.method, path, json={} if route.method != "GET" else None, headers=headers
            )
            if (answer.status_code == 403) == (scope is wanted):
                wrong.append((route.name, scope, answer.status_code))

    assert [] == wrong
    assert named >= DECIDE | ADMIN | READ | OPEN


class _MadeUp(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return f"{new_id()}.{new_id()}" if name == "delivery_id" else str(new_id())


async def test_a_key_is_stored_as_an_hmac_under_the_pepper(
    app: Litestar, anonymous: httpx.AsyncClient, committed_db: Database, settings: Settings
) -> None:
    """RFC 2104 with SHA-256; neither the key nor a plain hash of it is in the table."""
    made = (await anonymous.post("/v1/tenants", json={"name": "A", "roles": ["owner"]})).json()
    secret = made["secret"].encode()
    async with committed_db.read(Caller(tenant_id=made["tenant"]["id"])) as session:
        row = (await session.execute(text("SELECT digest, k::text AS whole FROM api_keys k"))).one()

    assert hmac.new(settings.api_key_pepper.encode(), secret, hashlib.sha256).digest() == bytes(row.digest)
    assert made["secret"][12:] not in row.whole
    assert hashlib.sha256(secret).hexdigest() not in row.whole


async def test_keys_are_rotated_one_beside_the_other_and_the_old_one_ends_in_every_process(
    app: Litestar, settings: Settings, register: Register
) -> None:
    """Nothing remembers that a key was good: the very next request to another process is refused."""
    old = await register()
    other = Parts(settings)
    elsewhere = httpx.AsyncClient(transport=transport_to(build(other)), base_url="http://broker", headers=old.headers)
    made = (await old.post("/v1/api-keys", json={"name": "next", "scopes": list(Scope)})).json()
    new = {"authorization": f"Bearer {made['secret']}"}
    both = [(await old.get("/v1/tenant")).status_code, (await elsewhere.get("/v1/tenant", headers=new)).status_code]
    before = await elsewhere.get("/v1/tenant")
    listed = {key["name"]: key for key in (await old.get("/v1/api-keys")).json()["items"]}

    await old.delete(f"/v1/api-keys/{listed['first key']['id']}", headers=new)
    after = [await elsewhere.get("/v1/tenant"), await old.get("/v1/tenant")]
    await elsewhere.aclose()
    await other.close()

    assert [200, 200, 200] == [*both, before.status_code]
    assert [401, 401] == [answer.status_code for answer in after]
    assert all(listed[name]["last_used_at"] for name in ("first key", "next"))


async def test_a_key_ends_when_it_was_said_to(register: Register, committed_db: Database) -> None:
    """Told by the clock of the database."""
    client = await register()
    ends = (now() + timedelta(days=1)).isoformat()
    made = (await client.post("/v1/api-keys", json={"name": "k", "scopes": ["read"], "expires_at": ends})).json()
    short = {"authorization": f"Bearer {made['secret']}"}
    before = await client.get("/v1/tenant", headers=short)
    tenant = Caller(tenant_id=before.json()["id"])
    minted, past = mint(), now() - timedelta(seconds=1)
    async with committed_db.begin(tenant) as session:
        query = text(
            "INSERT INTO api_keys (id, tenant_id, name, prefix, digest, scopes, expires_at)"
            " SELECT :id, tenant_id, 'over', 'sdb_', :digest, scopes, :past FROM api_keys LIMIT 1"
        )
        keyed = hmac.new(b"pepper-for-tests-only-0123456789abcdef", minted.secret.encode(), hashlib.sha256).digest()
        await session.execute(query, {"id": new_id(), "digest": keyed, "past": past})

    over = await client.get("/v1/tenant", headers={"authorization": f"Bearer {minted.secret}"})

    assert (200, 401) == (before.status_code, over.status_code)


@pytest.mark.usefixtures("clock")
async def test_guessing_is_slowed_and_a_good_key_is_not(settings: Settings) -> None:
    """429 with the time to wait; a key that has worked here works on, and so does any other that is right."""
    parts = Parts(settings)
    app = build(parts)
    async with _from(app, "192.0.2.1") as client, _from(app, "198.51.100.9") as elsewhere:
        made = [await _tenant(client) for _ in range(3)]
        known, unknown, new = [_with(each) for each in made]
        before = await client.get("/v1/tenant", headers=known)
        guesses = [await client.get("/v1/tenant", headers=_guess(made[1])) for _ in range(int(BURST) + 5)]
        good = [
            await client.get("/v1/tenant", headers=known),
            await elsewhere.get("/v1/tenant", headers=unknown),
            await client.get("/v1/tenant", headers=unknown),
            await client.get("/v1/tenant", headers=new),
        ]
    await parts.close()

    codes = [answer.status_code for answer in guesses]
    assert [401] * int(BURST) == codes[: int(BURST)]
    assert {429} == set(codes[int(BURST) + 1 :])
    assert 1 <= int(guesses[-1].headers["retry-after"]) <= 2 / PER_SECOND
    assert [200] * 5 == [before.status_code, *(answer.status_code for answer in good)]


@pytest.mark.usefixtures("clock")
async def test_an_owner_revokes_with_a_new_key_from_the_address_of_a_guesser(
    settings: Settings, waited: dict[bytes, int]
) -> None:
    """While 40 connections from there guess as fast as they can, also at this key: by one of the next look-ups."""
    parts = Parts(settings)
    app = build(parts)
    async with _from(app, "192.0.2.1") as guesser, _from(app, "192.0.2.1") as owner, _from(app, "192.0.2.7") as first:
        made = [await _tenant(first) for _ in range(3)]
        stop = asyncio.Event()
        guessing = [asyncio.create_task(_guess_until(stop, guesser, made[number % 3])) for number in range(40)]
        while (await guesser.get("/v1/tenant", headers=_guess(made[0]))).status_code == 401:
            pass
        codes = []
        for each in made:
            answer = await owner.post("/v1/grants/revoke", json={"account_id": "222222222222"}, headers=_with(each))
            codes.append(answer.status_code)
        stop.set()
        seen = [code for codes in await asyncio.gather(*guessing) for code in codes]
    await parts.close()

    assert [202, 202, 202] == codes
    assert max(waited[parts.keyring.digest(each["secret"])] for each in made) < LOOKS
    assert seen.count(401) <= BURST + 40  # those that were on their way when it was full
    assert {401, 429} == set(seen)


@pytest.mark.usefixtures("clock")
async def test_a_guesser_waits_for_each_guess_and_learns_nothing_from_it(
    settings: Settings, waited: dict[bytes, int]
) -> None:
    """Whether a key was ended, or never was: the same answer after the same wait, and the next one no sooner."""
    parts = Parts(settings)
    app = build(parts)
    async with _from(app, "192.0.2.1") as guesser, _from(app, "198.51.100.9") as elsewhere:
        made = await _tenant(elsewhere)
        body = {"name": "ended", "scopes": ["read"]}
        ended = (await elsewhere.post("/v1/api-keys", json=body, headers=_with(made))).json()
        await elsewhere.delete(f"/v1/api-keys/{ended['key']['id']}", headers=_with(made))
        while (await guesser.get("/v1/tenant", headers=_guess(made))).status_code == 401:
            pass
        waited.clear()
        answers, took = [], []
        for headers in (_with(ended), _guess(made), _guess({"secret": mint().secret})):
            began = time.monotonic()
            answers.append(await guesser.get("/v1/tenant", headers=headers))
            took.append(time.monotonic() - began)
    await parts.close()

    assert [429, 429, 429] == [answer.status_code for answer in answers]
    assert 1 == len({answer.json()["detail"] for answer in answers})
    assert min(took) >= EVERY * 0.95
    assert [1, 1, 1] == list(waited.values())


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, int]:
    """How many look-ups each key waited for that was looked up together with others, by its digest."""
    asked, found = 0, dict[bytes, int]()
    caller_of = Together.caller_of

    async def counted(db: Database, digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
        nonlocal asked
        asked += 1
        return await find(db, digests)

    async def noted(self: Together, client: str, digest: bytes) -> Caller | None:
        before = asked
        caller = await caller_of(self, client, digest)
        found[digest] = asked - before
        return caller

    monkeypatch.setattr("broker.app.find", counted)
    monkeypatch.setattr(Together, "caller_of", noted)
    return found


async def _tenant(client: httpx.AsyncClient) -> dict[str, str]:
    made: dict[str, str] = (await client.post("/v1/tenants", json={"name": "A", "roles": ["owner"]})).json()
    return made


async def _guess_until(stop: asyncio.Event, client: httpx.AsyncClient, made: Mapping[str, str]) -> list[int]:
    codes = []
    while not stop.is_set():
        codes.append((await client.get("/v1/tenant", headers=_guess(made))).status_code)
    return codes


def _with(made: Mapping[str, str]) -> dict[str, str]:
    return {"authorization": f"Bearer {made['secret']}"}


def _from(app: Litestar, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(transport_to(app).app, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://broker")


def _guess(made: Mapping[str, str]) -> dict[str, str]:
    return {"authorization": f"Bearer {made['secret'][:12]}{mint().secret[12:]}"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_one_host_has_one_bucket(one: str, other: str, *, same: bool) -> None:
    """A host of IPv6 has 2^64 addresses of its own (RFC 4291, section 2.5.1)."""
    assert same == (guesses.network(one) == guesses.network(other))


def test_guessers_are_forgiven_with_time_and_take_up_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket drains; the oldest of too many go."""
    monkeypatch.setattr(guesses, "MOST", 50)
    seen = Guesses()
    for number in range(200):
        seen.note(f"10.0.0.{number}", f"sdb_{number:08}", b"%d" % number, right=False, at=0.0)
        seen.note("192.0.2.1", "sdb_guessed1", b"x", right=False, at=0.0)
        seen.note("192.0.2.2", "sdb_good0000", b"%d" % number, right=True, at=0.0)

    kept = dict(vars(seen))
    sizes = [len(each) for each in (*kept.pop("_buckets").values(), *kept.values())]
    assert seen.wait("192.0.2.1", "sdb_other000", b"y", at=0.0) is not None
    assert seen.wait("192.0.2.1", "sdb_other000", b"y", at=200 / PER_SECOND) is None
    assert [50, 50, 50, 50] == sizes
