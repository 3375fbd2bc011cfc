"""Usage, latencies and metrics over HTTP."""

import re
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar
from prometheus_client import Metric
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as from_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from broker.app import build
from broker.caller import NOBODY
from broker.ids import new_id
from broker.parts import Parts
from broker.settings import Settings
from broker.webhooks.ledger import books
from broker.webhooks.ledger.families import Families, families_of, queue_of
from broker.webhooks.ledger.ledger import Count, Stage
from broker.webhooks.ledger.metrics import read
from tests.app.conftest import Clock, Register, transport_to


@pytest_asyncio.fixture
async def own(settings: Settings) -> AsyncIterator[Parts]:
    """Parts whose ledger and metrics are nobody else's, with a token."""
    parts = Parts(msgspec.structs.replace(settings, metrics_token="scrape-me-0123456789"))
    yield parts
    await parts.close()


def parsed(answer: httpx.Response) -> dict[str, Metric]:
    assert 200 == answer.status_code, answer.text
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


async def scrape(app: Litestar, *, client: str = "127.0.0.1", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(transport_to(app).app, client=(client, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://broker") as someone:
        return await someone.get("/metrics", headers=headers)


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_without_a_token_loopback_is_answered(app: Litestar, client: str) -> None:
    answer = await scrape(app, client=client)

    assert 200 == answer.status_code
    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["content-type"]


@pytest.mark.parametrize("client", ["203.0.113.9", "10.0.0.1", "::ffff:203.0.113.9", "testclient"])
async def test_without_a_token_nobody_else_is_answered(app: Litestar, client: str) -> None:
    answer = await scrape(app, client=client)

    assert (401, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


async def test_a_proxy_on_loopback_does_not_open_the_metrics_to_the_world(app: Litestar) -> None:
    """It is a proxy when it says for whom it asks."""
    answers = [await scrape(app, **{name: "203.0.113.9"}) for name in ("x-forwarded-for", "forwarded", "via")]

    assert [401] * 3 == [answer.status_code for answer in answers]


async def test_with_a_token_only_the_token_counts(own: Parts) -> None:
    """From wherever it comes; loopback is no longer enough."""
    app = build(own)
    right = {"authorization": "Bearer scrape-me-0123456789"}
    wrong = {"authorization": "Bearer scrape-me-0123456788"}

    answers = [
        await scrape(app),
        await scrape(app, **wrong),
        await scrape(app, authorization="Basic scrape-me-0123456789"),
        await scrape(app, client="203.0.113.9", **right),
    ]

    assert [401, 401, 401, 200] == [answer.status_code for answer in answers]


async def test_every_metric_is_well_formed_and_follows_the_conventions(app: Litestar) -> None:
    """Prometheus, "Metric and label naming": one prefix, base units, `_total` for what only grows."""
    answer = await scrape(app)

    families = parsed(answer)
    ours = {name: family for name, family in families.items() if not name.startswith("process_")}
    assert len(ours) > 15
    for name, family in ours.items():
        assert re.fullmatch(r"broker_[a-z][a-z_]*", name), name
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(ms|milliseconds|minutes|count|sum|bucket|info)$", name), name
        assert {"counter", "gauge", "histogram"} >= {family.type}, name
        assert family.type != "counter" or all(sample.name == f"{name}_total" for sample in family.samples), name
        assert family.type == "counter" or not name.endswith("_total"), name
    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= set(families)


async def test_the_histogram_of_each_stage_only_grows_along_its_buckets(own: Parts) -> None:
    """Cumulative buckets, `+Inf` last and equal to the count."""
    own.ledger.record(new_id(), Stage.RECEIVED_TO_COMMITTED, 0.004)
    own.ledger.record(new_id(), Stage.RECEIVED_TO_COMMITTED, 1e9)
    await books.flush(own.pump, own.ledger)

    families = parsed(await scrape(build(own), authorization="Bearer scrape-me-0123456789"))

    samples = families["broker_latency_seconds"].samples
    for stage in ("ses_to_received", "received_to_committed", "committed_to_attempted", "attempted_to_accepted"):
        mine = [sample for sample in samples if sample.labels["stage"] == stage]
        buckets = [(float(s.labels["le"]), s.value) for s in mine if s.name.endswith("_bucket")]
        (count,) = [sample.value for sample in mine if sample.name.endswith("_count")]
        assert sorted(buckets) == buckets
        assert sorted(value for _, value in buckets) == [value for _, value in buckets]
        assert (float("inf"), count) == buckets[-1]
        assert stage != "received_to_committed" or count >= 2


async def test_one_scrape_tells_what_other_processes_did(own: Parts, app: Litestar) -> None:
    """Workers write what they counted into the database; whoever is scraped reads it there."""
    before = parsed(await scrape(build(own), authorization="Bearer scrape-me-0123456789"))
    worker = Parts(own.settings)
    worker.ledger.count(Count.ATTEMPTS, "5xx", number=7)
    await books.flush(worker.pump, worker.ledger)
    await worker.close()

    again = Parts(own.settings)
    after = parsed(await scrape(build(again), authorization="Bearer scrape-me-0123456789"))
    await again.close()

    def failed(families: dict[str, Metric]) -> float:
        return sum(s.value for s in families["broker_attempts"].samples if s.labels["outcome"] == "5xx")

    assert 7 == failed(after) - failed(before)


async def test_answers_that_ask_to_come_back_are_counted(settings: Settings) -> None:
    """With the database away, here."""
    parts = Parts(msgspec.structs.replace(settings, database_url="postgresql+asyncpg://nobody@127.0.0.1:1/nothing"))

    answers = [await scrape(build(parts)) for _ in range(2)]

    assert [503, 503] == [answer.status_code for answer in answers]
    assert {(Count.REFUSED, "api"): 2} == parts.ledger.take().tallies
    await parts.close()


async def test_metrics_are_read_at_most_every_five_seconds(own: Parts, clock: Clock) -> None:
    """A scraper in a hurry costs the database nothing."""
    first = await own.metrics.text()
    own.ledger.count(Count.ATTEMPTS, "4xx")
    await books.flush(own.pump, own.ledger)

    clock.seconds += 4
    again = await own.metrics.text()
    clock.seconds += 1
    anew = await own.metrics.text()

    def database_part(text: bytes) -> bytes:
        return text[: text.index(b"process_")]

    assert database_part(first) == database_part(again) != database_part(anew)


async def test_the_metrics_are_valid_openmetrics_too(own: Parts) -> None:
    """The stricter of the two formats, by the stricter of the two parsers."""
    own.ledger.record(new_id(), Stage.SES_TO_RECEIVED, -1.0)
    own.ledger.count(Count.REFUSED, "ingest")
    await books.flush(own.pump, own.ledger)
    async with own.pump.read(NOBODY) as session:
        families = Families([*families_of(await read(session)), queue_of(3)])

    parsed_again = list(from_openmetrics(as_openmetrics(families).decode()))

    assert [family.name for family in families.collect()] == [family.name for family in parsed_again]


async def test_the_busiest_tenants_have_percentiles_of_their_own(own: Parts) -> None:
    """Within ten per cent."""
    tenant = new_id()
    for _ in range(10_000):
        own.ledger.record(tenant, Stage.COMMITTED_TO_ATTEMPTED, 0.05)
    await books.flush(own.pump, own.ledger)

    families = parsed(await scrape(build(own), authorization="Bearer scrape-me-0123456789"))

    mine = [s for s in families["broker_tenant_latency_seconds"].samples if s.labels["tenant"] == str(tenant)]
    assert {("committed_to_attempted", "50"), ("committed_to_attempted", "95"), ("committed_to_attempted", "99")} == {
        (sample.labels["stage"], sample.labels["percentile"]) for sample in mine
    }
    assert all(abs(sample.value - 0.05) <= 0.005 for sample in mine)


async def test_usage_begins_with_nothing_and_counts_a_test_event(register: Register) -> None:
    """From the first call to the last, created equals what became of it."""
    client = await register()
    nothing = (await client.get("/v1/usage")).json()
    endpoint = (await client.post("/v1/endpoints", json={"url": "https://hooks.example.com/"})).json()
    await client.post(f"/v1/endpoints/{endpoint['id']}/test")

    waiting = (await client.get("/v1/usage")).json()
    await client.delete(f"/v1/endpoints/{endpoint['id']}")
    gone = (await client.get("/v1/usage")).json()

    assert ([], 0) == (nothing["days"], nothing["total"]["created"])
    assert {"created": 1, "delivered": 0, "pending": 1, "dead": 0, "cancelled": 0, "missing": 0} == waiting["total"]
    assert {"created": 1, "delivered": 0, "pending": 0, "dead": 0, "cancelled": 1, "missing": 0} == gone["total"]


@pytest.mark.parametrize(
    "query",
    [
        "usage?from=2026-02-01&until=2026-01-01",
        "usage?from=2020-01-01&until=2026-01-01",
        "usage?from=yesterday",
        "usage?until=10000-01-01",
        "latencies?from=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00Z",
        "latencies?from=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z",
        "latencies?from=2026-01-01T00:00:00",
        "latencies?until=0001-01-01T00:00:00Z",
        "latencies?from=9999-12-31T23:59:59-12:00",
    ],
)
async def test_a_bad_range_is_refused(register: Register, query: str) -> None:
    """400 with a sentence, never a crash."""
    answer = await (await register()).get(f"/v1/{query}")

    assert (400, "application/problem+json") == (answer.status_code, answer.headers["content-type"]), answer.text


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
async def test_the_ends_of_time_have_seen_nothing(register: Register, day: str) -> None:
    """No crash at either."""
    answer = await (await register()).get(f"/v1/usage?until={day}")

    assert (200, []) == (answer.status_code, answer.json()["days"])


async def test_latencies_are_told_by_hour_and_in_all(register: Register, own: Parts) -> None:
    """In milliseconds; a stage in which nothing was measured has nulls."""
    client = await register()
    tenant = (await client.get("/v1/tenant")).json()["id"]
    for seconds in (0.1, 0.1, -1.0):
        own.ledger.record(msgspec.convert(tenant, type(new_id())), Stage.SES_TO_RECEIVED, seconds)
    await books.flush(own.pump, own.ledger)

    found = (await client.get("/v1/latencies")).json()
    stranger = (await (await register()).get("/v1/latencies")).json()

    stage = found["stages"]["ses_to_received"]
    assert (3, 1) == (stage["count"], stage["negative"])
    assert abs(stage["p99_ms"] - 100) <= 10
    assert abs(stage["mean_ms"] - 66.7) <= 0.1
    assert [found["stages"]] == [hour["stages"] for hour in found["hours"]]
    assert {"count": 0, "negative": 0, "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None} == found[
        "stages"
    ]["attempted_to_accepted"]
    assert [] == stranger["hours"]
