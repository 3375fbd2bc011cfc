"""A whole broker in one process: its API on loopback, its workers in bursts, a local AWS, and customers."""

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import uvicorn
from structlog.testing import capture_logs

import broker.models  # noqa: F401 - foreign keys need every table
from broker.app import build
from broker.parts import Parts
from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from broker.settings import Environment, Registration, Settings
from tests.journeys.inbox import Inboxes
from tests.journeys.world import BROKER_ACCOUNT, GAP, NOBODY_THERE, Broker, World
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Aws as LocalAws
from tests.servers import Postgres, at
from tests.webhooks.waiting import until

DATABASE = "journeys"
USUAL = Dialect(sns_retry_seconds=0.02)

Speak = Callable[..., None]
MakeWorld = Callable[..., Awaitable[World]]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the signals belong to pytest


@asynccontextmanager
async def served(app: Any, listening: socket.socket) -> AsyncIterator[None]:
    """An ASGI application on a socket, in this event loop; its lifespan is somebody else's business."""
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=1)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await until(lambda: server.started, seconds=30)
    yield
    server.should_exit = True
    await serving


@pytest.fixture(scope="session")
def loopback() -> Iterator[Callable[[], tuple[socket.socket, str]]]:
    """Makes listening sockets with their URLs, so that an address is known before its server runs."""
    with contextlib.ExitStack() as stack:

        def listen() -> tuple[socket.socket, str]:
            made = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            return made, f"http://127.0.0.1:{made.getsockname()[1]}"

        yield listen


@pytest.fixture(scope="session")
def journeys_url(server: Postgres, migrated: str) -> Iterator[str]:
    """The service's login on a database of the journeys' own: their workers take whatever is due in it."""
    server.create_database(DATABASE, template=migrated)
    yield at(server.app_url, DATABASE)
    server.drop_database(DATABASE)


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    """One local AWS; each test has accounts of its own."""
    with start_in_thread(dialect=USUAL) as running:
        yield LocalAws(running)


@pytest.fixture
def speak(aws: LocalAws) -> Iterator[Speak]:
    """`speak(missing_policy_status=200)` changes the local AWS's dialect until the end of the test."""

    def change(**switches: Any) -> None:
        aws.control("PATCH", "dialect", switches)

    yield change
    aws.control("DELETE", "faults")
    aws.control("PATCH", "dialect", msgspec.to_builtins(USUAL))


@pytest.fixture(autouse=True)
def nothing_crashes() -> Iterator[None]:
    """A worker's crash is logged and its work is done again later, so a journey could end well in spite of it."""
    with capture_logs() as logs:
        yield
    assert [] == [each for each in logs if each["log_level"] in {"error", "critical"}]


@pytest_asyncio.fixture(scope="session")
async def inboxes(loopback: Callable[[], tuple[socket.socket, str]]) -> AsyncIterator[Inboxes]:
    """The customers' webhook receiver."""
    receiver = Inboxes()
    listening, receiver.url = loopback()
    async with served(receiver, listening):
        yield receiver


@pytest_asyncio.fixture(scope="session")
async def broker_here(
    journeys_url: str, aws: LocalAws, inboxes: Inboxes, loopback: Callable[[], tuple[socket.socket, str]]
) -> AsyncIterator[Broker]:
    """The broker, reachable for SNS by HTTP and for the tests without a network."""
    listening, public_url = loopback()
    settings = Settings(
        database_url=journeys_url,
        secret_keys=base64.urlsafe_b64encode(bytes(range(32))).decode(),
        api_key_pepper="pepper-for-tests-only-0123456789abcdef",
        redis_url=NOBODY_THERE,
        environment=Environment.LOCAL,
        public_url=public_url,
        registration=Registration.OPEN,
        aws_account_id=BROKER_ACCOUNT,
        aws_region=REGION,
        aws_endpoint_url=aws.url,
        aws_call_timeout=timedelta(seconds=3),  # a fault that never answers is soon over, a slow machine is none
        readback_gap=GAP,
        reckon_every=timedelta(0),
        webhook_allow_loopback=True,
        tenant_request_rate=0.0,  # a journey that waits asks more often than any client
        key_request_rate=0.0,
        keyless_request_rate=0.0,
    )
    keys = aws.control("POST", "accounts", {"account_id": BROKER_ACCOUNT})
    parts = Parts(settings)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
        environment.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
        await parts.aws.warm(REGION)  # the SDK looks for the broker's own credentials once
    async with parts.serving():
        await parts.keep_house()
        app = build(parts)
        async with served(app, listening):
            yield Broker(parts, app, aws, inboxes)


@pytest.fixture
def make_world(broker_here: Broker) -> MakeWorld:
    """`await make_world()` registers an owner with example.com, connected by a role, and two delegates."""

    async def make(**more: Any) -> World:
        return await World.make(broker_here, **more)

    return make
