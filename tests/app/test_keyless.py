"""Who comes without a valid key is counted by address, in front of everything; who has one never waits for others."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from broker.app import front
from broker.errors import TooManyRequests
from broker.parts import Parts
from broker.roundtrips import ROUND_TRIPS
from broker.settings import Settings
from broker.tenants import visits
from broker.tenants.guesses import BURST, PER_SECOND, Guesses
from broker.tenants.keys import mint
from broker.tenants.visits import Visits
from tests.app.conftest import transport_to
from tests.app.test_edge import PROBLEM, routes_of
from tests.app.test_headers import CLOSED, lacking
from tests.webhooks.waiting import until

RATE = 0.5
QUOTA = 5
FREE = {"/health/live", "/health/ready", "/metrics", "/v1/feedback/sns"}


class Served:
    """An API with what stands before it; `at` gives a client at an address, behind a proxy of ours if one is named."""

    def __init__(self, parts: Parts) -> None:
        self.guesses = parts.guesses
        self._application: Any = front(parts)

    @asynccontextmanager
    async def at(self, address: str, *, told: str = "") -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(transport_to(self._application).app, client=(address, 4711))
        headers = {"x-forwarded-for": told} if told else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://broker", headers=headers) as client:
            yield client

    async def register(self) -> dict[str, str]:
        """The header of a new tenant."""
        async with self.at("198.51.100.250") as client:
            made = await client.post("/v1/tenants", json={"name": "Example", "roles": ["owner", "delegate"]})
        return {"authorization": f"Bearer {made.json()['secret']}"}


@asynccontextmanager
async def serving(settings: Settings, **changes: Any) -> AsyncIterator[Served]:
    parts = Parts(msgspec.structs.replace(settings, **{"keyless_request_rate": RATE} | changes))
    async with parts.serving():
        yield Served(parts)


@asynccontextmanager
async def alone(settings: Settings) -> AsyncIterator[Served]:
    """Without what runs beside the requests, so that round trips are those of requests."""
    parts = Parts(msgspec.structs.replace(settings, keyless_request_rate=RATE))
    yield Served(parts)
    await parts.close()


async def codes(client: httpx.AsyncClient, path: str = "/v1/tenant", *, times: int = QUOTA + 2) -> list[int]:
    return [(await client.get(path)).status_code for _ in range(times)]


@pytest.mark.usefixtures("clock")
async def test_a_flood_without_a_key_is_refused_with_when_to_come_back(settings: Settings) -> None:
    """429 (RFC 6585, section 4) with Retry-After (RFC 9110, 10.2.3), as problem details, with every security header."""
    async with serving(settings) as served, served.at("192.0.2.1") as client, served.at("192.0.2.2") as elsewhere:
        seen = await codes(client)
        refused = await client.get("/v1/tenant")
        other = await elsewhere.get("/v1/tenant")

    problem = refused.json()
    assert [401] * QUOTA + [429] * 2 == seen
    assert (PROBLEM, "/v1/tenant", True) == (
        refused.headers["content-type"],
        problem["instance"],
        bool(problem["request_id"]),
    )
    assert problem["detail"].startswith(f"One address may make {QUOTA} requests without a valid API key in 10 seconds")
    assert refused.headers["retry-after"] in {"1", "2"}
    assert {} == lacking(refused, CLOSED)
    assert 401 == other.status_code


@pytest.mark.usefixtures("clock")
async def test_every_path_is_counted_but_what_must_always_answer(settings: Settings) -> None:
    """Pages, assets, what is not there and methods that are not, too; SNS, health and metrics never."""
    async with serving(settings) as served, served.at("192.0.2.3") as client:
        await codes(client)
        parts_of = served._application._app.app._app  # noqa: SLF001 - the application behind them, for its routes
        walked = {path: (await client.request(method, path)).status_code for method, path, _ in routes_of(parts_of)}
        others = [
            (await client.request(method, path)).status_code
            for method, path in (
                ("GET", "/schema"), ("GET", "/schema/openapi.json"), ("GET", "/schema/assets/swagger-ui.css"),
                ("GET", "/nothing"), ("PUT", "/v1/tenant"), ("OPTIONS", "/v1/tenant"), ("GET", "/health/live/"),
            )
        ]  # fmt: skip

    assert len(walked) > 60
    assert {path for path, code in walked.items() if code != 429} == FREE
    assert {429} == set(others)


@pytest.mark.usefixtures("clock")
async def test_a_valid_key_is_never_held_up_and_costs_no_round_trip_more(settings: Settings) -> None:
    """From the very address of a flood, and for each of many requests."""
    async with alone(settings) as served:
        key = await served.register()
        async with served.at("192.0.2.4") as client:
            before = ROUND_TRIPS.count
            await client.get("/v1/tenant", headers=key)
            usual = ROUND_TRIPS.count - before
            await codes(client)
            before = ROUND_TRIPS.count
            good = [(await client.get("/v1/tenant", headers=key)).status_code for _ in range(3 * QUOTA)]

    assert {200} == set(good)
    assert usual * 3 * QUOTA == ROUND_TRIPS.count - before


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("token", ["sdb_short", "operator", mint().secret], ids=["short", "operator", "made_up"])
async def test_whatever_is_no_valid_key_counts_as_none(settings: Settings, token: str) -> None:
    """A key that is wrong as well, once that is known."""
    async with serving(settings) as served, served.at("192.0.2.5") as client:
        client.headers["authorization"] = f"Bearer {token}"
        wrong = await codes(client)
        client.headers.pop("authorization")
        none = await client.get("/v1/tenant")

    assert [401] * QUOTA + [429] * 2 == wrong
    assert 429 == none.status_code


@pytest.mark.usefixtures("clock")
async def test_a_made_up_key_is_no_way_around_it(settings: Settings) -> None:
    """Pages and assets are shown to everybody, so that no key is looked up for them."""
    async with serving(settings) as served, served.at("192.0.2.13") as client:
        client.headers["authorization"] = f"Bearer {mint().secret}"
        seen = await codes(client, "/schema/openapi.json")

    assert [200] * QUOTA + [429] * 2 == seen


@pytest.mark.usefixtures("clock")
async def test_a_flood_is_turned_away_without_the_database(settings: Settings) -> None:
    """Registration is the one thing that could write there."""
    async with alone(settings) as served, served.at("192.0.2.6") as client:
        await codes(client)
        before = ROUND_TRIPS.count
        answers = [await client.post("/v1/tenants", json={"name": "A", "roles": ["owner"]}) for _ in range(5)]

    assert ([429] * 5, 0) == ([answer.status_code for answer in answers], ROUND_TRIPS.count - before)


@pytest.mark.usefixtures("clock")
async def test_a_host_is_its_64_bits_and_what_a_trusted_proxy_says_of_it(settings: Settings) -> None:
    """RFC 4291, section 2.5.1. A header from somebody who is no proxy of ours says nothing."""
    async with serving(settings) as served:
        async with served.at("2001:db8::1") as client, served.at("2001:db8::ffff:2") as same:
            own = [await codes(client), await codes(same, times=1)]
        async with served.at("2001:db8:0:1::1") as neighbour:
            other = await codes(neighbour, times=1)
        async with (
            served.at("127.0.0.1", told="192.0.2.7") as client,
            served.at("127.0.0.1", told="192.0.2.8") as next_,
        ):
            proxied = [await codes(client), await codes(next_, times=1)]
        async with served.at("192.0.2.9", told="192.0.2.10") as client, served.at("192.0.2.9", told="1.1.1.1") as liar:
            lied = [await codes(client), await codes(liar, times=1)]

    full = [401] * QUOTA + [429] * 2
    assert [[full, [429]], [401]] == [own, other]
    assert [full, [401]] == proxied
    assert [full, [429]] == lied


@pytest.mark.usefixtures("clock")
async def test_what_must_always_answer_looks_at_no_key(settings: Settings) -> None:
    """Whoever guesses keys there is neither slowed nor counted: `/metrics` has a token of its own."""
    async with serving(settings) as served, served.at("192.0.2.14") as client:
        client.headers["authorization"] = f"Bearer {mint().secret}"
        await codes(client, times=int(BURST) + 5)
        slowed = await client.get("/v1/tenant")
        seen = {path: set(await codes(client, path, times=int(BURST) + 5)) for path in FREE}

    assert 429 == slowed.status_code
    assert not [path for path, answers in seen.items() if 429 in answers]


async def test_guesses_are_counted_over_all_routes(settings: Settings) -> None:
    """Not for each route anew."""
    paths = ("/v1/tenant", "/v1/grants", "/v1/audit", "/v1/endpoints", "/v1/events")
    async with serving(settings, keyless_request_rate=0.0) as served, served.at("192.0.2.11") as client:
        began = time.monotonic()
        seen = [
            (await client.get(path, headers={"authorization": f"Bearer {mint().secret}"})).status_code
            for _ in range(10)
            for path in paths
        ]
        drained = (time.monotonic() - began) * PER_SECOND

    assert [401] * int(BURST) == seen[: int(BURST)]
    assert {401, 429} == set(seen)
    assert seen.count(401) <= BURST + 1 + drained


async def test_guesses_are_counted_over_all_processes(settings: Settings, redis_url: str) -> None:
    """Whoever is slowed at one and goes to the next is slowed there after its first guess."""
    changes = {"keyless_request_rate": 0.0, "redis_url": redis_url}
    async with (
        serving(settings, **changes) as first,
        serving(settings, **changes) as second,
        first.at("192.0.2.12") as here,
        second.at("192.0.2.12") as there,
    ):
        for client in (here, there):
            client.headers["authorization"] = f"Bearer {mint().secret}"
        await codes(here, times=int(BURST) + 5)
        seen = await until_refused(there, second.guesses)

    assert seen < BURST


async def until_refused(client: httpx.AsyncClient, guesses: Guesses) -> int:
    """How many guesses are looked up before one is refused, each after the one before was told to the other process."""
    for looked_up in range(200):
        if (await client.get("/v1/tenant")).status_code == 429:
            return looked_up
        await until(lambda: not guesses.noted)
    raise AssertionError("never refused")


def test_memory_does_not_grow_with_the_addresses_that_ever_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """A /32 of IPv6 has as many hosts as there are addresses of IPv4; the oldest go, and whoever floods stays."""
    monkeypatch.setattr(visits, "MOST_KEPT", 50)
    seen = Visits(0.1)
    refused = []
    for number in range(1_000):
        seen.take(f"10.0.{number // 250}.{number % 250}", now=0.0)
        refused.append(seen.take("192.0.2.1", now=0.0))

    kept = seen._buckets  # noqa: SLF001 - what is kept cannot be seen from outside
    assert (50, None, True) == (len(kept), refused[0], isinstance(refused[-1], TooManyRequests))


def test_whoever_comes_back_when_told_passes() -> None:
    """Retry-After is enough; a refusal takes nothing."""
    seen, now = Visits(0.3), 100.0
    answers = [seen.take("192.0.2.1", now=now) for _ in range(10)]
    last = answers[-1]

    assert last is not None
    assert seen.take("192.0.2.1", now=now + last.retry_after.total_seconds()) is None
    assert seen.take("192.0.2.1", now=now + last.retry_after.total_seconds()) is not None


@pytest.mark.parametrize("client", ["", "testclient", "x" * 60_000])
def test_what_is_no_address_is_one_host(client: str) -> None:
    """A proxy that passes on what clients say could be told anything."""
    seen = Visits(0.1)
    seen.take("/run/socket", now=0.0)

    assert seen.take(client, now=0.0) is not None
