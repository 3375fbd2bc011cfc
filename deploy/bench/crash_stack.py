"""What the crash matrix runs on: an API and a worker that die at points when told, and are started again at once."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.crash_settings import QUEUE, QUEUE_REGION, settings
from bench.database import connection, migrate
from bench.nursery import Born, Nursery
from broker.due import KINDS
from broker.local.aws import LocalAws
from broker.local.child import StartError
from broker.local.crew import Crew
from broker.local.environment import (
    BROKER_ACCOUNT,
    without_cloud,
)
from broker.local.postgres import EmbeddedPostgres
from broker.local.processes import answers
from broker.local.receiver import READY as RECEIVER_READY
from broker.local.redis import EmbeddedRedis
from broker.local.stack import API_READY, WORKER_READY
from broker.points import VARIABLE
from broker.sandbox import queues
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import Running, start_in_thread

LEASE_S = 0.5
"""Leases of a process that was killed are wound forward to this: nobody waits for half a minute, or fifteen."""

_LOOK_S = 0.005
_PATIENCE_S = 60.0
_DEAD_RECEIVE_S = 21.0  # the longest that a receive waits, and a bit
_SHOW_EVERY_S = 1.0
_WIND = (
    "UPDATE {0} SET due_at = CASE WHEN due_at = claimed_until THEN now() + $1 * interval '1 second' ELSE due_at END,"
    " claimed_until = now() + $1 * interval '1 second' WHERE claimed_until > now() + $1 * interval '1 second'"
)
_WIND_LANES = (
    "UPDATE lanes SET claimed_until = now() + $1 * interval '1 second'"
    " WHERE claimed_until > now() + $1 * interval '1 second'"
)


class Death(msgspec.Struct, frozen=True):
    """When a process died (monotonic), which, and how long it was until another served in its place."""

    at: float
    role: str
    back_s: float


class Place:
    """The servers, and the two programs that die; `running` makes it."""

    def __init__(self, crew: Crew, directory: Path, aws: Running) -> None:
        self.directory = directory
        self.aws = aws
        self.control = LocalAws(aws.url)
        self.deaths: list[Death] = []
        self.environment: dict[str, str] = {}
        self.receivers: dict[str, str] = {}
        self.postgres: EmbeddedPostgres
        self.nursery: Nursery
        self._crew = crew
        self._programs: dict[str, Born] = {}
        self._begun = 0
        self._shown_at = 0.0
        self._stop = threading.Event()
        self._mending = threading.Lock()
        self.trouble: BaseException | None = None

    @property
    def api_url(self) -> str:
        """The same for every API process of this place."""
        return self.environment["BROKER_PUBLIC_URL"]

    def start(self, role: str) -> None:
        """Starts the API or the worker, and waits until it serves."""
        self._begun += 1
        log = self._crew.logs / f"{role}-{self._begun}.log"
        port = int(self.api_url.rpartition(":")[2])
        words = ["api", "--port", str(port)] if role == "api" else ["all"]
        environment = {**self.environment, VARIABLE: f"@{self._order(role)}"}
        self._programs[role] = self.nursery.start(role, words, environment, log)
        marker = API_READY if role == "api" else WORKER_READY
        ends = time.monotonic() + _PATIENCE_S
        while not (marker in log.read_text(errors="replace") and (role != "api" or answers(port, "/health/ready"))):
            if time.monotonic() > ends or not self._programs[role].running:
                raise StartError(f"The {role} does not serve; the end of its log:\n{log.read_text()[-2000:]}")
            time.sleep(_LOOK_S)

    def order(self, roles: Sequence[str], point: str, hit: int) -> None:
        """The first of these programs that reaches the point so often dies there."""
        for role in roles:
            draft = self.directory / f"{role}.draft"
            draft.write_text(f"{point}:{hit}")
            draft.replace(self._order(role))

    @property
    def ordered(self) -> bool:
        """Whether a program is still to die."""
        return any(self._order(role).exists() for role in ("api", "worker"))

    def settle(self) -> None:
        """Returns once both programs serve, and whoever had died was noticed."""
        while self.trouble is None:
            time.sleep(4 * _LOOK_S)
            with self._mending:
                if all(program.running for program in self._programs.values()):
                    return

    def take_back(self) -> None:
        """No program is to die any more."""
        for role in ("api", "worker"):
            self._order(role).unlink(missing_ok=True)

    def _order(self, role: str) -> Path:
        return self.directory / f"{role}.order"

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block a program that has died is started again at once, as a supervisor would."""
        watcher = threading.Thread(target=self._watch, name="supervisor")
        watcher.start()
        try:
            yield
        finally:
            self._stop.set()
            watcher.join()

    def _watch(self) -> None:
        try:
            while not self._stop.wait(_LOOK_S):
                for role, program in list(self._programs.items()):
                    if not program.running:
                        with self._mending:
                            self._bring_back(role)
                self._show_what_came_too_late()
        except BaseException as error:  # told to whoever waits
            self.trouble = error
            raise

    def _bring_back(self, role: str) -> None:
        died = time.monotonic()
        if self._order(role).exists():
            raise StartError(f"The {role} ended, and nobody had told it to.")
        self.take_back()
        asyncio.run(self._wind(role))
        self.start(role)
        self.deaths.append(Death(died, role, time.monotonic() - died))

    def _show_what_came_too_late(self) -> None:
        """SQS hands what comes to a receive of one who is dead until that is over; nobody else sees it for a minute."""
        now = time.monotonic()
        last = next((death for death in reversed(self.deaths) if death.role == "worker"), None)
        if last is not None and now < last.at + _DEAD_RECEIVE_S and now > self._shown_at + _SHOW_EVERY_S:
            self._shown_at = now
            self._show_again()

    async def _wind(self, role: str) -> None:
        """Time goes by for the leases of the one that died, and for what SQS hides from others."""
        async with connection(self.postgres.admin_url) as opened:
            for kind in ("identities",) if role == "api" else sorted(KINDS):
                await opened.execute(_WIND.format(kind), LEASE_S)
            if role == "worker":
                await opened.execute(_WIND_LANES, LEASE_S)
        if role == "worker":
            self._show_again()

    def _show_again(self) -> None:
        queue = queues.find(f"arn:aws:sqs:{QUEUE_REGION}:{BROKER_ACCOUNT}:{QUEUE}")
        with queues.one_at_a_time:
            for message in queue._messages:  # noqa: SLF001 — moto's `messages` are the visible ones
                if not message.visible:
                    message.change_visibility(0)

    def rows(self, sql: str, *arguments: object) -> list[Any]:
        """Rows of the database, asked as one who sees all."""
        return asyncio.run(_rows(self.postgres.admin_url, sql, arguments))


async def _rows(url: str, sql: str, arguments: Sequence[object]) -> list[Any]:
    async with connection(url) as opened:
        return list(await opened.fetch(sql, *arguments))


@contextlib.contextmanager
def running(directory: Path, say: Callable[[str], None], *, receivers: Sequence[str]) -> Iterator[Place]:
    """Starts all of it. `directory` is this run's alone.

    Raises:
        StartError: a server did not start.
    """
    clean = without_cloud(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with (
        start_in_thread(dialect=Dialect(sns_retry_seconds=0.5)) as aws,
        Crew(directory / "logs") as crew,
        contextlib.ExitStack() as stack,
    ):
        place = Place(crew, directory, aws)
        say("starting Postgres, Redis, the receivers, the API and a worker")
        postgres = crew.start(partial(EmbeddedPostgres.start, directory / "postgres", discard=True))
        redis = crew.start(partial(EmbeddedRedis.start, directory / "redis"))
        begun = {name: _receive(crew, clean, name) for name in receivers}
        place.postgres = postgres.result()
        migrate(place.postgres)
        place.receivers = {name: each.result().url for name, each in begun.items()}
        place.environment = {
            **clean,
            **settings(directory, place.control, place.postgres, redis.result(), crew.reserve()),
        }
        place.nursery = stack.enter_context(contextlib.closing(Nursery(clean)))
        place.start("api")
        place.start("worker")
        yield place


def _receive(crew: Crew, environment: Mapping[str, str], name: str) -> Any:
    port = crew.reserve()
    words = (sys.executable, "-m", "broker.local.receiver", str(port))
    return crew.serve(f"webhook-{name}", words, env=environment, marker=RECEIVER_READY, port=port, path="/received")
