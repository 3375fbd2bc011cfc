"""Starts all that a benchmark needs on this machine's loopback, as real processes, and ends it.

The building blocks of every benchmark here, in the order in which they are used (``bench.run`` is the example):

- ``machine.calibration_us()``, ``machine.machine(version)``, ``machine.cpu_by_name({...})`` — the machine.
- ``messages.Stock(directory, groups).ensure(count, say)`` — signed messages, made once a day.
- ``world.plan_world(fan_out=…, endpoints=…)`` and ``world.seed(…)`` — tenants, grants, endpoints, by SQL.
- ``stack.started(directory, …)`` — Postgres (fsync on), Redis, the sink, the broker's API and workers (or, by
  ``programs``, others that do the same work); a context manager that gives a ``Stack``.
- ``Stack.prepare(world)``, ``start_api()``, ``start_workers(n)``, ``generate(plan)`` (gives ``(Summary, Sent)``),
  ``receipts()`` of the sink, ``stop_programs()``, ``round_trips()``; ``kill_…`` and ``start_…`` for faults.
- ``match.account(…)`` — lost, duplicated, rates and percentiles; ``report.emit(…)`` — table, JSON and plot.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import msgspec

from bench import asking, database, driving, sink
from bench.generator import Plan, Sent, Summary
from bench.messages import Stock
from bench.payloads import BROKER_ACCOUNT
from bench.world import World
from broker.crypto import Keyring
from broker.local.aws import REGION
from broker.local.child import StartError
from broker.local.crew import Crew, Server
from broker.local.environment import LOCAL_SETTINGS, find_secrets, server_settings, without_cloud
from broker.local.postgres import EmbeddedPostgres
from broker.local.postgres_account import find_home
from broker.local.processes import LOOPBACK
from broker.local.redis import EmbeddedRedis
from broker.local.stack import API_READY, BROKER, WORKER_READY

DEPLOY = Path(__file__).resolve().parent.parent
Say = Callable[[str], None]
connection = database.connection  # to Postgres, by one of the URLs of ``Stack.postgres``


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """What does the work. In the API's words ``{port}`` is replaced; a marker is what its log says once it serves."""

    api: tuple[str, ...] = (*BROKER, "api", "--port", "{port}")
    api_ready: str = API_READY
    api_path: str = "/health/ready"
    worker: tuple[str, ...] = (sys.executable, "-m", "workers.main", "delivery")
    worker_ready: str = WORKER_READY
    control: tuple[str, ...] = (sys.executable, "-m", "workers.main", "control")
    """What runs beside the deliveries and adds up what they were about; empty for a system that does not."""


class Stack:
    """What runs. ``environment`` is that of the broker's programs; ``workers`` are those that run now."""

    def __init__(self, crew: Crew, directory: Path, programs: Programs) -> None:
        """Made by ``started``."""
        self.directory = directory
        self.environment: dict[str, str] = {}
        self.workers: list[Server] = []
        self.control: list[Server] = []
        self.api: Server
        self.owners_api: Server
        self.sink: Server
        self.postgres: EmbeddedPostgres
        self.redis: EmbeddedRedis
        self._crew = crew
        self._programs = programs
        self._begun = 0

    @property
    def keyring(self) -> Keyring:
        """The one of the broker's programs."""
        keys = tuple(self.environment["BROKER_SECRET_KEYS"].split(","))
        return Keyring(keys, pepper=self.environment["BROKER_API_KEY_PEPPER"])

    @property
    def pids(self) -> dict[str, list[int]]:
        """Process ids by name; those of Postgres are below its own."""
        return {
            "api": [self.api.child.pid],
            "worker": [worker.child.pid for worker in self.workers],
            "control": [server.child.pid for server in self.control],
            "postgres": [self.postgres.pid],
            "redis": [self.redis.pid],
            "sink": [self.sink.child.pid],
        }

    def endpoint_url(self, number: int, manner: str = "ok") -> str:
        """The URL of an endpoint at the sink (bench.sink)."""
        return f"{self.sink.url}/{manner}/{number}"

    def prepare(
        self, world: World, *, manners: Mapping[int, str] | None = None, events: int = 0, pending: int = 0
    ) -> None:
        """Write the world and, before it, a history. ``manners``: endpoints that do not behave, by number."""
        manners = manners or {}
        urls = [self.endpoint_url(n, manners.get(n, "ok")) for n in range(len(world.endpoint_ids))]
        asyncio.run(database.fill(self.postgres, self.keyring, world, urls, events=events, pending=pending))

    def start_api(self, *options: str) -> None:
        """Start the API, at the same port each time."""
        port = int(self.environment["BROKER_PUBLIC_URL"].rpartition(":")[2])
        programs = self._programs
        words = [*(word.replace("{port}", str(port)) for word in programs.api), *options]
        self.api = self._serve("api", words, programs.api_ready, port, programs.api_path).result()

    def start_owners_api(self, port: int) -> None:
        """Start another API, for what the parties ask; the first one goes on taking feedback."""
        words = [word.replace("{port}", str(port)) for word in self._programs.api]
        self.owners_api = self._serve("api", words, self._programs.api_ready, port, self._programs.api_path).result()

    def start_workers(self, count: int) -> None:
        """Start more workers."""
        programs = self._programs
        begun = [self._serve("worker", programs.worker, programs.worker_ready) for _ in range(count)]
        self.workers += [each.result() for each in begun]

    def start_control(self) -> None:
        """Start what works beside the deliveries, where the system has it."""
        if self._programs.control:
            self.control = [self._serve("control", self._programs.control, self._programs.worker_ready).result()]

    def _serve(self, name: str, words: Sequence[str], marker: str, port: int = 0, path: str = "/") -> Future[Server]:
        self._begun += 1
        name = f"{name}-{self._begun}"
        return self._crew.serve(name, words, env=self.environment, marker=marker, port=port, path=path)

    def check(self) -> None:
        """Raise ``StartError`` when a program has ended."""
        for server in (self.sink, self.api, *self.workers, *self.control):
            server.child.check()

    def generate(self, plan: Plan, meanwhile: Callable[[], None] | None = None) -> tuple[Summary, Sent]:
        """Run a generator to its end; ``meanwhile`` is called while it runs.

        Raises:
            StartError: it failed, or did not end in time.
        """
        return driving.generate(plan, self.environment, meanwhile)

    def received(self) -> int:
        """How many webhooks came to the sink so far."""
        return asking.count_received(self.sink.port)

    def receipts(self) -> sink.Receipts:
        """All that came to the sink so far."""
        return asking.receipts(self.sink.port, self.directory / "receipts.bin")

    def count(self, sql: str, *arguments: object) -> int:
        """One number from the database, asked as its owner."""
        return int(asyncio.run(database.ask(self.postgres.owner_url, sql, *arguments)) or 0)

    def postgres_version(self) -> str:
        """The version of the server."""
        return str(asyncio.run(database.ask(self.postgres.owner_url, "SHOW server_version")))

    def stop_programs(self) -> None:
        """End the API and the workers, so that they write their last lines."""
        for server in (self.api, *self.workers, *self.control):
            server.stop()

    def round_trips(self) -> int | None:
        """SQL round trips of the API and the delivery workers, which they tell when they end; None if one did not."""
        total = 0
        for log in (server.child.log for server in (self.api, *self.workers)):
            found = asking.last_logged(log, "round_trips") if log else None
            if found is None:
                return None
            total += found
        return total

    def kill_worker(self) -> None:
        """End the eldest worker as a crash would."""
        self.workers.pop(0).child.kill()

    def kill_api(self) -> None:
        """End the API as a crash would."""
        self.api.child.kill()

    def kill_redis(self) -> None:
        """End Redis as a crash would, with all that it held."""
        self.redis.kill()

    def start_redis(self) -> None:
        """Start Redis again, empty, at the same port and with the same password."""
        port, password = self.redis.port, self.redis.url.split(":", 2)[2].partition("@")[0]
        start = partial(EmbeddedRedis.start, self.directory / "redis", port=port, password=password)
        self.redis = self._crew.start(start).result()

    def kill_postgres(self) -> None:
        """End Postgres at once, without a checkpoint ("immediate shutdown"): it will recover from its log."""
        os.kill(self.postgres.pid, signal.SIGQUIT)
        self.postgres.stop()

    def start_postgres(self) -> None:
        """Start Postgres again on the same data, at the same port."""
        start = partial(EmbeddedPostgres.start, self.directory / "postgres", port=self.postgres.port)
        self.postgres = self._crew.start(start).result()


@contextlib.contextmanager
def started(
    directory: Path,
    stock: Stock,
    say: Say,
    *,
    programs: Programs | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start Postgres, Redis and the sink, with all tables; ``start_api`` and ``start_workers`` are up to the caller.

    ``directory`` is this run's alone. ``settings`` are added to the environment of the broker's programs.

    Raises:
        StartError: a server did not start; the sentence says why, with the end of its log.
    """
    sink.raise_file_limit()
    clean = {**without_cloud(os.environ), "PYTHONPATH": os.pathsep.join((str(DEPLOY), str(DEPLOY.parent)))}
    certificate = directory / "certificate.pem"
    certificate.write_bytes(stock.certificate())
    try:
        with Crew(directory / "logs") as crew:
            stack = Stack(crew, directory, programs or Programs())
            say("starting Postgres, Redis and the sink")
            postgres = crew.start(partial(EmbeddedPostgres.start, directory / "postgres"))
            redis = crew.start(partial(EmbeddedRedis.start, directory / "redis"))
            port = crew.reserve()
            words = (sys.executable, "-m", "bench.sink", str(port), str(certificate))
            receiver = crew.serve("sink", words, env=clean, marker=sink.READY, port=port)
            database.migrate(postgres.result())
            stack.postgres, stack.redis, stack.sink = postgres.result(), redis.result(), receiver.result()
            stack.environment = {**clean, **_settings(stack, directory, crew.reserve()), **(settings or {})}
            yield stack
    finally:
        with contextlib.suppress(StartError):
            find_home(directory / "postgres").discard()


def _settings(stack: Stack, directory: Path, api_port: int) -> dict[str, str]:
    return {
        **LOCAL_SETTINGS,
        **find_secrets(directory / "secrets.json"),
        **server_settings(stack.postgres.app_url, stack.postgres.owner_url, stack.redis.url),
        "BROKER_PUBLIC_URL": f"http://{LOOPBACK}:{api_port}",
        "BROKER_LOG_FORMAT": "json",
        "BROKER_AWS_ENDPOINT_URL": stack.sink.url,
        "BROKER_AWS_ACCOUNT_ID": BROKER_ACCOUNT,
        "BROKER_AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",  # AWS's own example; nothing asks for it
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
