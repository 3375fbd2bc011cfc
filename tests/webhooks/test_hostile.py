"""Endpoints that drip, flood, lie and break off, through the pump: nobody else waits, and memory stays flat."""

import asyncio
import gc
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import Unavailable
from broker.gateways.http import HttpSender
from broker.webhooks.attempt import Attempts
from broker.webhooks.holding import Lines
from broker.webhooks.ledger.ledger import Ledger
from broker.webhooks.pump import Pump
from tests.gateways.servers import TENANT, Scripted, serving
from tests.webhooks.conftest import an_event, happened, make_endpoint, rows
from tests.webhooks.pumping import Deaf, resident
from tests.webhooks.receiver import Receiver
from tests.webhooks.waiting import until, until_told

DEADLINE = timedelta(seconds=1)  # of an attempt at what never ends by itself
PATIENCE = timedelta(seconds=30)  # of one at what does end, however slow this machine is
SOON = 10.0  # seconds: far less than the hostile ones take, with the pauses between them
HEAD = b"HTTP/1.1 200 OK\r\n"
SIZED = HEAD + b"content-length: 1000000000\r\n\r\n"
BOMB = gzip.compress(b"\0" * 20_000_000)
MEGABYTE = 1 << 20

Play = Callable[[Scripted, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def flood(beginning: bytes, piece: bytes, *, pause: float = 0) -> Play:
    """Answers with `beginning` and then with `piece` for ever."""

    async def play(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(beginning)
        while not reader.at_eof():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return play


def said(answer: bytes, *, kept: bool = False) -> Play:
    """Answers with exactly this; closes at once unless `kept`."""

    async def play(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await scripted.request(reader)
            writer.write(answer)
            await writer.drain()
            if not kept:
                return

    return play


async def reset(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Breaks off in the middle of the head."""
    await scripted.request(reader)
    writer.write(b"HTTP/1.1 2")
    writer.transport.abort()


METADATA = b"location: http://169.254.169.254/latest/meta-data/iam/\r\ncontent-length: 0\r\n\r\n"
HOSTILE: dict[str, tuple[Play, str]] = {
    "a head that drips": (flood(HEAD + b"x: ", b"x", pause=0.02), "within"),
    "a body that drips": (flood(SIZED, b"x", pause=0.02), "within"),
    "silence": (flood(b"", b"", pause=0.02), "within"),
    "an endless head": (flood(HEAD, b"x-many: y\r\n" * 1_000), "too large"),
    "an endless 1xx": (flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "too large"),
    "a reset": (reset, "closed before"),
    "a redirect inside": (said(b"HTTP/1.1 307 Temporary Redirect\r\n" + METADATA), ""),
    "another protocol": (said(b"220 mail.example ESMTP\r\n"), "not HTTP"),
    "an endless body": (flood(SIZED, b"x" * 10_000), ""),
    "a gzip bomb": (said(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB), ""),
    "a keep-alive that closes at once": (
        said(HEAD + b"connection: keep-alive\r\nkeep-alive: timeout=600\r\ncontent-length: 2\r\n\r\nok"),
        "",
    ),
}
TAKEN = {"an endless body", "a gzip bomb", "a keep-alive that closes at once"}  # their status is 2xx
ERRORS = "SELECT coalesce(error, '') AS error FROM attempts"


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[HttpSender]:
    client = HttpSender(allow_loopback=True)
    yield client
    await client.close()


def a_deaf_pump(lines: Lines, pump: Database, sender: HttpSender, keyring: Keyring, *, within: timedelta) -> Pump:
    """A pump whose attempts have so long."""
    attempts = Attempts(sender, timeout=within, dice=lambda: 0.5)
    return Deaf(lines, pump, attempts, keyring, ledger=Ledger(), linger=timedelta(seconds=0.25))


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_endpoint_delays_nobody_and_holds_no_slot(
    committed_db: Database,
    pump: Database,
    lines: Lines,
    keyring: Keyring,
    tenant: Caller,
    stranger: Caller,
    sender: HttpSender,
    receiver: Receiver,
    name: str,
) -> None:
    """Its attempt ends by the deadline, with its reason; what a neighbour is owed arrives meanwhile."""
    play, reason = HOSTILE[name]
    async with serving(play) as server:
        bad = await make_endpoint(committed_db, tenant, keyring, f"http://127.0.0.1:{server.port}/")
        good = await make_endpoint(committed_db, stranger, keyring, receiver.url)
        await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(20)))
        within = DEADLINE if reason == "within" else PATIENCE
        async with resident(a_deaf_pump(lines, pump, sender, keyring, within=within)) as working:
            began = time.monotonic()
            working.ring([bad.id])
            await until(lambda: bool(server.requests))
            await happened(committed_db, stranger, *(an_event(owner=stranger) for _ in range(20)))
            working.ring([good.id])
            await until(lambda: len(set(receiver.ids())) == 20)
            spent = time.monotonic() - began

            async def tried() -> bool:
                return len(await rows(committed_db, tenant, ERRORS)) >= (20 if name in TAKEN else 1)

            await until_told(tried)
            errors = [row.error for row in await rows(committed_db, tenant, ERRORS)]

    assert spent < SOON
    assert 20 == len(set(receiver.ids()))
    assert all(reason in each for each in errors), errors


def resident_bytes() -> int:
    """Of this process (proc(5), statm: pages in memory)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_memory_stays_flat_whatever_is_answered(sender: HttpSender) -> None:
    """Thousands of exchanges with everything hostile that ends by itself leave nothing behind for each.

    Three rounds, of which the best counts: what leaks does so in each, and a process that runs other things grows now
    and then.
    """
    ending = [name for name in HOSTILE if HOSTILE[name][1] != "within"]
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(HOSTILE[name][0])) for name in ending]

        async def visit(times: int) -> None:
            for _ in range(times):
                await asyncio.gather(*(knock(sender, server.port) for server in servers))
                for server in servers:
                    server.requests.clear()

        await visit(250)
        grown = []
        for _ in range(3):
            gc.collect()
            before = resident_bytes()
            await visit(400)
            gc.collect()
            grown.append(resident_bytes() - before)

    assert min(grown) < 3 * MEGABYTE, grown


async def knock(sender: HttpSender, port: int) -> None:
    """One post; whatever becomes of it."""
    try:
        await sender.post(f"http://127.0.0.1:{port}/", {}, b"{}", timeout=DEADLINE, tenant_id=TENANT)
    except Unavailable:
        return
