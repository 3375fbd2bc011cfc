"""`broker bench fuzz`: schemathesis over the API's own OpenAPI document, with a valid key and with a wrong one.

Requests are made from the document: its examples, the edges of every field, random ones, and chains in which what one
answer holds is given to the next. An answer fails by a 5xx, by a status, a media type or a body that the document does
not tell of, by taking what the document excludes, by letting a stranger in, by finding what was deleted, or by taking
longer than the deadline. The same seed makes the same requests; each failure is told with the curl that repeats it.
"""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import msgspec

from bench import database, report
from broker.local.child import StartError
from broker.local.crew import Crew
from broker.local.directories import run_directory
from broker.local.environment import BROKER_ACCOUNT, LOCAL_SETTINGS, find_secrets, server_settings, without_cloud
from broker.local.options import data_directory
from broker.local.postgres import EmbeddedPostgres
from broker.local.processes import LOOPBACK
from broker.local.redis import EmbeddedRedis
from broker.local.stack import API_READY, BROKER

DEADLINE = 10  # seconds for one answer
WRONG_KEY = "sdb_" + "0" * 43
LEFT_OUT = (
    "positive_data_acceptance",  # what no schema can say: that a date is ahead, that an address lies in a domain
)
UNLIMITED = {
    "BROKER_TENANT_REQUEST_RATE": "0",
    "BROKER_KEY_REQUEST_RATE": "0",
    "BROKER_KEYLESS_REQUEST_RATE": "0",
    "BROKER_QUOTAS": "checks=0,endpoint_tests=0,replays=0,simulations=0",
}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were made and judged, and what failed: by kind, the operations; `told` repeats each of them."""

    operations: int
    cases: int
    failures: int
    by_kind: Mapping[str, Sequence[str]]
    seed: int
    seconds: float
    told: str


class _Count(msgspec.Struct, frozen=True):
    total: int


class _Cases(msgspec.Struct, frozen=True):
    generated: int
    unique_failures: int


class _Failure(msgspec.Struct, frozen=True):
    title: str
    operations: Sequence[object] = ()
    count: int = 1


class _Report(msgspec.Struct, frozen=True):
    """As much as is needed of schemathesis's JSON report."""

    operations: _Count
    test_cases: _Cases
    failures: Sequence[_Failure]
    errors: Sequence[_Failure]
    running_time: float


def fuzz_api(url: str, directory: Path, *, key: str, examples: int, seed: int, max_seconds: int = 0) -> Figures:
    """Both passes over the API at `url`; `directory` takes their reports. `StartError` when one could not be made.

    `examples`: random requests of each operation, beside those that the document alone gives.
    `max_seconds`: keep on making random requests and chains until so much time has passed; 0: once.
    """
    more = ["--max-time", str(max_seconds)] if max_seconds else []
    inside = _run(url, directory / "with-key", key, seed, ["--max-examples", str(examples), *more])
    outside = _run(url, directory / "without", WRONG_KEY, seed, ["--max-examples", "1", "--phases", "fuzzing"])
    return _together(seed, inside, outside)


def _run(url: str, directory: Path, key: str, seed: int, options: Sequence[str]) -> tuple[_Report, str]:
    directory.mkdir(parents=True)
    words = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/schema/openapi.json",
        "--header", f"Authorization: Bearer {key}", "--seed", str(seed), "--request-timeout", str(DEADLINE),
        "--workers", "1", "--continue-on-failure", "--no-shrink", "--generation-database", "none", "--warnings", "off",
        "--suppress-health-check", "all",
        "--exclude-checks", ",".join(LEFT_OUT), "--report", "json", "--report-json-path", "report.json", "--no-color",
        *options,
    ]  # fmt: skip
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    written = directory / "report.json"
    if not written.is_file():
        raise StartError(f"schemathesis has made no report: {done.stderr[-500:] or done.stdout[-500:]}")
    found = msgspec.json.decode(written.read_bytes(), type=_Report)
    return found, done.stdout if done.returncode else ""


def _together(seed: int, *runs: tuple[_Report, str]) -> Figures:
    by_kind: dict[str, list[str]] = {}
    for found, _ in runs:
        for each in (*found.failures, *found.errors):
            by_kind.setdefault(each.title, []).extend(str(operation) for operation in each.operations)
    return Figures(
        operations=max(found.operations.total for found, _ in runs),
        cases=sum(found.test_cases.generated for found, _ in runs),
        failures=sum(found.test_cases.unique_failures + len(found.errors) for found, _ in runs),
        by_kind=by_kind,
        seed=seed,
        seconds=round(sum(found.running_time for found, _ in runs), 1),
        told="\n".join(text for _, text in runs if text),
    )


def measure(directory: Path, *, examples: int, seed: int, max_seconds: int = 0) -> Figures:
    """The same over an API that is started for it: on an empty database, and with nobody in the place of AWS."""
    with _served(directory) as url:
        return fuzz_api(
            url, directory / "fuzz", key=_register(url), examples=examples, seed=seed, max_seconds=max_seconds
        )


@contextmanager
def _served(directory: Path) -> Iterator[str]:
    with Crew(directory / "logs") as crew:
        postgres = crew.start(partial(EmbeddedPostgres.start, directory / "postgres"))
        redis = crew.start(partial(EmbeddedRedis.start, directory / "redis"))
        database.migrate(postgres.result())
        port = crew.reserve()
        environment = {
            **without_cloud(os.environ),
            **LOCAL_SETTINGS,
            **find_secrets(directory / "secrets.json"),
            **server_settings(postgres.result().app_url, postgres.result().owner_url, redis.result().url),
            **UNLIMITED,
            "BROKER_AWS_ENDPOINT_URL": f"http://{LOOPBACK}:9",
            "BROKER_AWS_ACCOUNT_ID": BROKER_ACCOUNT,
            "BROKER_DNS_SERVERS": f"{LOOPBACK}#9",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",  # AWS's own example; nothing asks for it
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        words = [*BROKER, "api", "--port", str(port)]
        crew.serve("api", words, env=environment, marker=API_READY, port=port, path="/health/ready").result()
        yield f"http://{LOOPBACK}:{port}"


def _register(url: str) -> str:
    """A tenant of both roles; its key."""
    body = msgspec.json.encode({"name": "Fuzz", "roles": ["owner", "delegate"]})
    asked = urllib.request.Request(f"{url}/v1/tenants", body, {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=DEADLINE) as answer:  # noqa: S310 - our own server
        secret: str = msgspec.json.decode(answer.read())["secret"]
    return secret


@click.command()
@click.option("--examples", type=click.IntRange(1), default=50, show_default=True, help="Random requests of each.")
@click.option("--seconds", type=click.IntRange(0), default=0, help="Go on making requests for so long; 0: once.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same requests.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@report.out_option
def fuzz(*, examples: int, seconds: int, seed: int, as_json: bool, out: Path) -> None:
    """Send the API what its OpenAPI document allows, and what it does not; judge every answer by the document."""
    with run_directory(data_directory() / "bench") as directory:
        found = measure(directory, examples=examples, seed=seed, max_seconds=seconds)
    report.say(found.told)
    report.say(f"{found.cases:,} requests to {found.operations} operations, seed {seed}: {found.failures} failures")
    report.keep("fuzz", msgspec.json.encode(found), None, as_json=as_json, out=out)
    if found.failures:
        raise SystemExit(1)
