"""Starts all that the broker consists of, as real processes on loopback: servers, local AWS, API and workers."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import msgspec

from broker.local.aws import LocalAws
from broker.local.child import StartError
from broker.local.crew import Crew, Server
from broker.local.directories import run_directory
from broker.local.environment import (
    BROKER_ACCOUNT,
    LOCAL_SETTINGS,
    find_secrets,
    local_aws_settings,
    server_settings,
    without_cloud,
)
from broker.local.postgres import EmbeddedPostgres
from broker.local.postgres_data import APP
from broker.local.processes import LOOPBACK
from broker.local.receiver import READY as RECEIVER_READY
from broker.local.redis import EmbeddedRedis

BROKER = (sys.executable, "-m", "broker.cli")
WORKERS = ("policy", "control", "delivery")
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
    receivers: Mapping[str, str]
    environment: Mapping[str, str]
    logs: Path
    check: Callable[[], None]


@contextlib.contextmanager
def fresh_directory(data_dir: Path) -> Iterator[Path]:
    """A directory for one run under ``data_dir``, removed at the end.

    Raises:
        StartError: nothing can be made there.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(run_directory(data_dir))
        except OSError as error:
            raise StartError(f"The directory {data_dir} cannot be used: {error.strerror}.") from error
        yield directory


@contextlib.contextmanager
def running(plan: Plan, say: Callable[[str], None]) -> Iterator[Stack]:
    """Starts everything, waits until it serves, and ends it in reverse order; ``say`` hears one line per stage.

    Raises:
        StartError: a server did not start; the sentence says why, with the end of its log.
    """
    clean = without_cloud(os.environ)
    with Crew(plan.directory / "logs") as crew:
        say("Starting Postgres, Redis and the local AWS." if plan.sandbox else "Starting Postgres and Redis.")
        postgres = crew.start(partial(_start_postgres, plan))
        redis = crew.start(partial(EmbeddedRedis.start, plan.directory / "redis"))
        aws = _start_sandbox(crew, clean) if plan.sandbox else None
        receivers = {name: _start_receiver(crew, clean, name) for name in plan.receivers}
        _migrate(postgres, say)
        say("Starting the API and the workers.")
        port = plan.port or crew.reserve()
        environment = _environment(plan, postgres.result(), redis.result(), aws.result().url if aws else "", port)
        api = _start_api(crew, environment, port)
        for worker in [_start_worker(crew, environment, name) for name in WORKERS]:
            worker.result()
        yield Stack(
            api_url=api.result().url,
            aws_url=aws.result().url if aws else "",
            receivers={name: receiver.result().url for name, receiver in receivers.items()},
            environment=environment,
            logs=crew.logs,
            check=crew.check,
        )


def _start_postgres(plan: Plan) -> EmbeddedPostgres:
    return EmbeddedPostgres.start(plan.directory / "postgres", durable=plan.keep, discard=not plan.keep)


def _start_sandbox(crew: Crew, environment: Mapping[str, str]) -> "Future[Server]":
    port = crew.reserve()
    words = (*BROKER, "sandbox", "--port", str(port))
    return crew.serve("aws", words, env=environment, marker=SANDBOX_READY, port=port, path="/_sandbox/health")


def _start_receiver(crew: Crew, environment: Mapping[str, str], name: str) -> "Future[Server]":
    port = crew.reserve()
    words = (sys.executable, "-m", "broker.local.receiver", str(port))
    return crew.serve(f"webhook-{name}", words, env=environment, marker=RECEIVER_READY, port=port, path="/received")


def _migrate(postgres: "Future[EmbeddedPostgres]", say: Callable[[str], None]) -> None:
    from broker.migrate import migrate  # noqa: PLC0415 — half a second, while the servers start

    server = postgres.result()
    say("Bringing the tables about.")
    asyncio.run(migrate(server.owner_url, login=APP))


def _start_api(crew: Crew, environment: Mapping[str, str], port: int) -> "Future[Server]":
    words = (*BROKER, "api", "--port", str(port))
    return crew.serve("api", words, env=environment, marker=API_READY, port=port, path="/health/ready")


def _start_worker(crew: Crew, environment: Mapping[str, str], name: str) -> "Future[Server]":
    words = (sys.executable, "-m", "workers.main", name)  # what `broker worker` becomes
    return crew.serve(f"{name}-worker", words, env=environment, marker=WORKER_READY)


def _environment(
    plan: Plan, postgres: EmbeddedPostgres, redis: EmbeddedRedis, aws_url: str, port: int
) -> dict[str, str]:
    """With the real AWS what the user has set goes on to hold, but for where our own servers are."""
    ours = {
        **find_secrets(plan.directory / "secrets.json"),
        **server_settings(postgres.app_url, postgres.owner_url, redis.url),
    }
    public = {"BROKER_PUBLIC_URL": f"http://{LOOPBACK}:{port}"}
    if not aws_url:
        return {**LOCAL_SETTINGS, **public, **os.environ, **ours}
    account = LocalAws(aws_url).open_account(BROKER_ACCOUNT)
    return {**without_cloud(os.environ), **LOCAL_SETTINGS, **public, **ours, **local_aws_settings(aws_url, account)}
