"""Which connections are kept, for whom, how long, and how new ones are dialled."""

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest

from broker.errors import Refused, Unavailable
from broker.gateways.http import HttpSender
from broker.gateways.http_head import Origin
from broker.gateways.http_names import Names
from broker.gateways.http_pool import Limits, Pool
from broker.gateways.http_wire import Reply
from tests.gateways.servers import TENANT, Scripted, always, serving

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
SOON = timedelta(seconds=30)
STRANGER = UUID(int=2)


class Zone:
    """Name servers whose answer the test changes."""

    def __init__(self, *answer: str) -> None:
        self.answer: Iterable[str] = answer
        self.asked = 0

    def look_up(self, host: str, port: int) -> Iterable[str]:
        self.asked += 1
        return self.answer


@asynccontextmanager
async def sending(zone: Zone, *, known_seconds: float = 0) -> AsyncIterator[HttpSender]:
    """A client that asks `zone`; by default it looks every name up anew for every post."""
    sender = HttpSender(allow_loopback=True, look_up=zone.look_up, known_seconds=known_seconds)
    yield sender
    await sender.close()


async def post(sender: HttpSender, server: Scripted, tenant_id: UUID = TENANT, *, name: str = "hooks.example") -> int:
    url = f"http://{name}:{server.port}/"
    return (await sender.post(url, {}, b"{}", timeout=SOON, tenant_id=tenant_id)).status


async def test_tenants_do_not_share_a_connection() -> None:
    async with serving(always(OK)) as server, sending(Zone("127.0.0.1")) as sender:
        for tenant_id in (TENANT, STRANGER, TENANT, STRANGER):
            await post(sender, server, tenant_id)

    assert 2 == server.connections


async def test_names_do_not_share_a_connection_to_one_address() -> None:
    async with serving(always(OK)) as server, sending(Zone("127.0.0.1")) as sender:
        for name in ("a.example", "b.example", "a.example", "A.Example", "a.example."):
            await post(sender, server, name=name)

    assert 2 == server.connections


async def test_a_name_that_moves_inside_is_refused_although_a_connection_is_kept() -> None:
    zone = Zone("127.0.0.1")

    async with serving(always(OK)) as server, sending(zone) as sender:
        await post(sender, server)
        for inside in (["10.0.0.1"], ["127.0.0.1", "169.254.169.254"], ["::ffff:10.0.0.1"]):
            zone.answer = inside
            with pytest.raises(Refused, match="not public"):
                await post(sender, server)

    assert (1, 1) == (server.connections, len(server.requests))


async def test_a_kept_connection_is_closed_when_its_name_has_moved_elsewhere() -> None:
    zone = Zone("127.0.0.1")

    async with (
        serving(always(OK)) as old,
        serving(always(OK), host="127.0.0.2", port=old.port) as new,
        sending(zone) as sender,
    ):
        for answer in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            zone.answer = [answer]
            await post(sender, old)

    assert (2, 2) == (old.connections, len(old.requests))
    assert (1, 1) == (new.connections, len(new.requests))


async def test_a_kept_connection_stays_while_its_address_is_among_the_answers() -> None:
    zone = Zone("127.0.0.1")

    async with serving(always(OK)) as server, sending(zone) as sender:
        for zone.answer in (["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.3"]):
            await post(sender, server)

    assert (1, 3) == (server.connections, zone.asked)


async def test_an_answer_is_known_for_a_while_and_then_asked_for_again() -> None:
    known, forgotten = Zone("127.0.0.1"), Zone("127.0.0.1")

    async with serving(always(OK)) as server:
        async with sending(known, known_seconds=600) as sender:
            for _ in range(3):
                await post(sender, server)
        async with sending(forgotten, known_seconds=0.1) as sender, asyncio.timeout(SOON.total_seconds()):
            while forgotten.asked < 2:
                await post(sender, server)

    assert 1 == known.asked


async def test_a_refused_answer_is_not_known() -> None:
    zone = Zone("10.0.0.1")

    async with serving(always(OK)) as server, sending(zone, known_seconds=60) as sender:
        with pytest.raises(Refused):
            await post(sender, server)
        zone.answer = ["127.0.0.1"]
        status = await post(sender, server)

    assert 200 == status


async def test_all_who_ask_for_a_name_at_once_ask_it_once() -> None:
    zone = Zone("127.0.0.1")

    async with serving(always(OK)) as server, sending(zone, known_seconds=60) as sender:
        await asyncio.gather(*(post(sender, server) for _ in range(50)))

    assert 1 == zone.asked


async def test_dead_name_servers_of_one_tenant_leave_the_others_alone() -> None:
    back = threading.Event()

    def look_up(host: str, port: int) -> list[str]:
        if host.startswith("dead"):
            back.wait(60)
        return ["8.8.8.8"]

    names = Names(lambda _: True, look_up=look_up)
    waiting = [
        asyncio.ensure_future(names.addresses(f"dead{number}.example", 443, whose=TENANT)) for number in range(200)
    ]
    found = await asyncio.wait_for(names.addresses("alive.example", 443, whose=STRANGER), 30)
    back.set()
    all_found = await asyncio.gather(*waiting)
    names.close()

    assert ("8.8.8.8",) == found
    assert 200 == len(all_found)


async def test_a_lookup_that_hangs_ends_at_the_deadline() -> None:
    back = threading.Event()

    def look_up(host: str, port: int) -> list[str]:
        back.wait(10)
        return []

    sender = HttpSender(allow_loopback=True, look_up=look_up)
    with pytest.raises(Unavailable, match=r"within 0\.2 s"):
        await sender.post("http://slow.example/", {}, b"", timeout=timedelta(seconds=0.2), tenant_id=TENANT)
    back.set()
    await sender.close()


async def test_a_full_window_keeps_its_connections() -> None:
    gate = asyncio.Barrier(128)

    async def together(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await scripted.request(reader)
            await gate.wait()  # no request is answered before all have come
            writer.write(OK)
            await writer.drain()

    async with serving(together) as server, sending(Zone("127.0.0.1"), known_seconds=60) as sender:
        for _ in range(4):
            await asyncio.gather(*(post(sender, server) for _ in range(128)))

    assert (128, 4 * 128) == (server.connections, len(server.requests))


@asynccontextmanager
async def pooling(zone: Zone, limits: Limits, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Pool]:
    """A pool with limits of its own."""
    pool = Pool(Names(lambda _: True, look_up=zone.look_up), tls or ssl.create_default_context(), limits=limits)
    yield pool
    pool.close()


async def exchange(pool: Pool, port: int, *, host: str = "a.example", scheme: str = "http") -> Reply:
    deadline = asyncio.get_running_loop().time() + SOON.total_seconds()
    return await pool.exchange(Origin(scheme, host, port), REQUEST, most=100, deadline=deadline, whose=TENANT)


async def test_the_place_that_was_used_least_recently_gives_way() -> None:
    limits = Limits(idle_in_all=2)

    async with serving(always(OK)) as server, pooling(Zone("127.0.0.1"), limits) as pool:
        for host in ("a.example", "b.example", "a.example", "c.example", "a.example", "c.example"):
            await exchange(pool, server.port, host=host)
        before = server.connections
        await exchange(pool, server.port, host="b.example")

    assert (3, 4) == (before, server.connections)


async def test_what_is_idle_for_too_long_is_closed() -> None:
    closed = asyncio.Event()

    async def watched(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(OK)
        await reader.read()
        closed.set()

    limits = Limits(idle_seconds=0.05, sweep_seconds=0.02)
    async with serving(watched) as server, pooling(Zone("127.0.0.1"), limits) as pool:
        await exchange(pool, server.port)

        await asyncio.wait_for(closed.wait(), 20)


async def test_a_connection_in_use_is_closed_when_the_pool_was() -> None:
    closed = asyncio.Event()
    asked = asyncio.Event()
    go = asyncio.Event()

    async def watched(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        asked.set()
        await go.wait()
        writer.write(OK)
        await reader.read()
        closed.set()

    async with serving(watched) as server, pooling(Zone("127.0.0.1"), Limits()) as pool:
        running = asyncio.create_task(exchange(pool, server.port))
        await asyncio.wait_for(asked.wait(), 30)
        pool.close()
        go.set()
        reply = await running
        await asyncio.wait_for(closed.wait(), 20)

    assert 200 == reply.status


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async with serving(always(OK)) as server, pooling(Zone("127.0.0.2", "127.0.0.3", "127.0.0.1"), Limits()) as pool:
        reply = await exchange(pool, server.port)

    assert 200 == reply.status


async def test_only_three_addresses_are_tried() -> None:
    zone = Zone("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1")

    async with serving(always(OK)) as server, pooling(zone, Limits()) as pool:
        with pytest.raises(Unavailable):
            await exchange(pool, server.port)

    assert 0 == server.connections


async def test_an_address_that_hangs_gives_way_to_the_next() -> None:
    async def silent(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # says nothing to the TLS handshake

    began = time.monotonic()
    async with (
        serving(silent) as first,
        serving(silent, host="127.0.0.2", port=first.port) as second,
        pooling(Zone("127.0.0.1", "127.0.0.2"), Limits(connect_seconds=0.1)) as pool,
    ):
        with pytest.raises(Unavailable, match="could not be made"):
            await exchange(pool, first.port, scheme="https")

    assert (1, 1) == (first.connections, second.connections)
    assert time.monotonic() - began < SOON.total_seconds()


async def test_a_handshake_that_hangs_ends_at_the_deadline() -> None:
    over = asyncio.Event()

    async def silent(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        over.set()

    async with serving(silent) as server, sending(Zone("127.0.0.1")) as sender:
        url = f"https://hooks.example:{server.port}/"
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await sender.post(url, {}, b"", timeout=timedelta(seconds=0.2), tenant_id=TENANT)
        await asyncio.wait_for(over.wait(), 30)  # the connection is gone as well
