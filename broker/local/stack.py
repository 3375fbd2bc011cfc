"""Starts all that the broker consists of, as real processes on loopback: servers, local AWS, API and workers."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from broker.local.crew import Crew, Server
from broker.local.environment import (
    BROKER_ACCOUNT,
    find_secrets,
    local_aws_settings,
    local_settings,
    without_cloud,
)
from broker.local.postgres import EmbeddedPostgres
from broker.local.processes import free_port
from broker.local.receiver import READY as RECEIVER_READY
from broker.local.redis import EmbeddedRedis

PYTHON = sys.executable
WORKERS = ("policy", "delivery")
SANDBOX_READY = "local AWS listens at"
API_READY = "Uvicorn running on"
WORKER_READY = "worker ready"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to start. ``directory`` is this run's alone; ``keep``: its data are to be found again the next time."""

    directory: Path
    keep: bool = False
    sandbox: bool = True
    port: int | None = None
    receivers: tuple[str, ...] = ()


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """What runs, and where. ``aws_url`` is empty with the real AWS; ``receivers`` are URLs by name."""

    api_url: str
    aws_url: str
    database_url: str
    owner_url: str
    redis_url: str
    receivers: Mapping[str, str]
    environment: Mapping[str, str]
    logs: Path
    check: Callable[[], None]


@contextlib.contextmanager
def running(plan: Plan, say: Callable[[str], None]) -> Iterator[Stack]:
    """Starts everything, waits until it serves, and ends it in reverse order; ``say`` hears one line per stage.

    Raises:
        StartError: a server did not start; the sentence says why, with the end of its log.
    """
    clean = without_cloud(os.environ)
    with Crew(plan.directory / "logs") as crew:
        say("Starting Postgres, Redis" + (" and the local AWS." if plan.sandbox else "."))
        postgres = crew.start(
            lambda: EmbeddedPostgres.start(plan.directory / "postgres", durable=plan.keep, discard=not plan.keep)
        )
        redis = crew.start(lambda: EmbeddedRedis.start(plan.directory / "redis"))
        aws = _start_sandbox(crew, clean) if plan.sandbox else None
        receivers = {name: _start_receiver(crew, name, clean) for name in plan.receivers}
        from broker.migrate import migrate  # half a second, while the servers start

        owner_url, app_url = postgres.result().owner_url, postgres.result().app_url
        say("Bringing the tables about.")
        asyncio.run(migrate(owner_url, login=urlsplit(app_url).username))
        say("Starting the API and the workers.")
        port = plan.port or free_port()
        environment = {
            **(clean if plan.sandbox else os.environ),
            **find_secrets(plan.directory / "secrets.json"),
            **local_settings(
                database_url=app_url,
                owner_url=owner_url,
                redis_url=redis.result().url,
                public_url=f"http://127.0.0.1:{port}",
            ),
            **(_account(aws.result().url) if aws else _given()),
        }
        api = _start_api(crew, environment, port)
        workers = [_start_worker(crew, environment, name) for name in WORKERS]
        for worker in workers:
            worker.result()
        yield Stack(
            api_url=api.result().url,
            aws_url=aws.result().url if aws else "",
            database_url=app_url,
            owner_url=owner_url,
            redis_url=redis.result().url,
            receivers={name: f"{receiver.result().url}" for name, receiver in receivers.items()},
            environment=environment,
            logs=crew.logs,
            check=crew.check,
        )
