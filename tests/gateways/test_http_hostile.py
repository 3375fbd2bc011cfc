"""The HTTP client against servers that drip, flood, lie and break off: its deadline and its limits hold."""

import asyncio
import gzip
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
import pytest_asyncio

from broker.errors import Unavailable
from broker.gateways.http import Answer, HttpSender
from tests.gateways.servers import TENANT, Scripted, always, once, serving

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SHORT = timedelta(seconds=0.3)
SOON = timedelta(seconds=30)
LONG_AGO = 20.0  # seconds: far more than SHORT, far less than any drip lasts

Play = Callable[[Scripted, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[HttpSender]:
    client = HttpSender(allow_loopback=True)
    yield client
    await client.close()


async def post(sender: HttpSender, server: Scripted, body: bytes = b"{}", *, within: timedelta = SOON) -> Answer:
    return await sender.post(f"http://127.0.0.1:{server.port}/", {}, body, timeout=within, tenant_id=TENANT)


class Flood:
    """Writes `beginning` once and `piece` for ever, and counts.

    `begun` is set when it has written something, `over` when the client has hung up.
    """

    def __init__(self, beginning: bytes, piece: bytes, *, pause: float = 0) -> None:
        self.beginning = beginning
        self.piece = piece
        self.pause = pause
        self.sent = 0
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def play(self, scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(self.beginning)
        try:
            while not reader.at_eof():
                writer.write(self.piece)
                self.sent += len(self.piece)
                self.begun.set()
                await writer.drain()
                await asyncio.sleep(self.pause)
        finally:
            self.over.set()


HEAD = b"HTTP/1.1 200 OK\r\n"
SIZED = HEAD + b"content-length: 1000000000\r\n\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 ", b"x"),
        (HEAD, b"x"),
        (HEAD + b"x-drip: ", b"x"),
        (SIZED, b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"5;", b"x"),
        (CHUNKED + b"0\r\nx-trailer: ", b"x"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (HEAD + b"\r\n", b"x"),
    ],
    ids=["silence", "status", "name", "value", "body", "chunks", "extension", "trailer", "1xx", "unframed"],
)
async def test_a_drip_ends_at_the_deadline_wherever_it_is(sender: HttpSender, beginning: bytes, piece: bytes) -> None:
    drip = Flood(beginning, piece, pause=0.02)
    began = time.monotonic()

    async with serving(drip.play) as server:
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            await post(sender, server, within=SHORT)
        spent = time.monotonic() - began
        await asyncio.wait_for(drip.over.wait(), LONG_AGO)  # the connection is gone as well

    assert spent < LONG_AGO


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (SIZED, b"x" * 10_000),
        (HEAD + b"\r\n", b"x" * 10_000),
        (CHUNKED, b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
        (CHUNKED, b"1\r\nx\r\n" * 1_000),
        (CHUNKED + b"1\r\nx\r\n1;", b"e" * 10_000),
        (CHUNKED + b"1\r\nx\r\n0\r\nx-trailer: ", b"t" * 10_000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"t: t\r\n" * 1_000),
    ],
    ids=["sized", "unframed", "chunked", "crumbs", "extension", "trailer", "trailers"],
)
async def test_an_endless_answer_is_cut_off_and_its_status_counts(
    sender: HttpSender, beginning: bytes, piece: bytes
) -> None:
    flood = Flood(beginning, piece)

    async with serving(flood.play) as server:
        answer = await post(sender, server)
        await asyncio.wait_for(flood.over.wait(), LONG_AGO)

    assert 200 == answer.status
    assert len(answer.body) <= 2_048
    assert set(answer.body) <= {ord("x")}
    assert flood.sent < 20_000_000


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (HEAD + b"x-long: ", b"x" * 10_000),
        (HEAD, b"x-many: y\r\n" * 1_000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 100),
        (b"HTTP/1.1 200 ", b"reason " * 1_000),
    ],
    ids=["one long header", "many headers", "100", "103", "reason"],
)
async def test_an_endless_head_is_no_answer(sender: HttpSender, beginning: bytes, piece: bytes) -> None:
    flood = Flood(beginning, piece)

    async with serving(flood.play) as server:
        with pytest.raises(Unavailable, match=r"too large|not HTTP"):
            await post(sender, server)
        await asyncio.wait_for(flood.over.wait(), LONG_AGO)

    assert flood.sent < 20_000_000


async def test_a_head_over_the_limit_is_no_answer_even_in_one_piece(sender: HttpSender) -> None:
    async with serving(once(HEAD + b"x: " + b"y" * 32_800 + b"\r\ncontent-length: 0\r\n\r\n")) as server:
        with pytest.raises(Unavailable, match="too large"):
            await post(sender, server)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nold", (200, b"old")),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold", (200, b"old")),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.1 200 OK\r\nX-Odd: caf\xe9\r\ncontent-length: 2\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.1 200 OK\r\nupgrade: h2,h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n", (304, b"")),
        (b"HTTP/1.1 599 Own\r\ncontent-length: 0\r\n\r\n", (599, b"")),
    ],
)
async def test_an_odd_answer_is_still_an_answer(sender: HttpSender, answer: bytes, expected: tuple[int, bytes]) -> None:
    async with serving(once(answer)) as server:
        read = await post(sender, server)

    assert expected == (read.status, read.body)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0" * 100,
        b"<html>hello</html>",
        b"220 mail.example ESMTP\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2 00 OK\r\n\r\n",
        b"HTTP/1.1 -200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokay",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_garbage_and_halves_are_no_answer(sender: HttpSender, answer: bytes) -> None:
    async with serving(once(answer)) as server:
        with pytest.raises(Unavailable):
            await post(sender, server)

    assert 1 == len(server.requests)


async def test_a_compressed_answer_is_kept_as_it_came(sender: HttpSender) -> None:
    bomb = gzip.compress(b"\0" * 1_000_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)

    async with serving(always(head + bomb)) as server:
        answer = await post(sender, server)

    assert bomb[:2_048] == answer.body
    assert b"accept-encoding: identity" in server.requests[0]


async def test_a_reset_in_the_middle_of_an_answer_is_no_answer(sender: HttpSender) -> None:
    async def reset(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(SIZED + b"x")
        await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with serving(reset) as server:
        with pytest.raises(Unavailable, match="closed before"):
            await post(sender, server)

    assert 1 == len(server.requests)


def second_time(*last: bytes) -> Play:
    """Answers well once on each connection, and the second request with these bytes and the end."""

    async def play(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(OK)
        await scripted.request(reader)
        for chunk in last:
            writer.write(chunk)
            await writer.drain()

    return play


async def test_a_kept_connection_that_closes_under_a_webhook_is_replaced_once(sender: HttpSender) -> None:
    async with serving(second_time()) as server:
        answers = [await post(sender, server) for _ in range(3)]

    assert [200, 200, 200] == [answer.status for answer in answers]
    assert (3, 5) == (server.connections, len(server.requests))


async def test_what_was_answered_in_part_on_a_kept_connection_is_not_sent_again(sender: HttpSender) -> None:
    async with serving(second_time(b"HTTP/1.1 200 O")) as server:
        await post(sender, server)
        with pytest.raises(Unavailable):
            await post(sender, server)

    assert (1, 2) == (server.connections, len(server.requests))


async def test_silence_on_a_kept_connection_is_not_asked_again(sender: HttpSender) -> None:
    async def silent(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(OK)
        await scripted.request(reader)
        await reader.read()

    async with serving(silent) as server:
        await post(sender, server)
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            await post(sender, server, within=SHORT)

    assert (1, 2) == (server.connections, len(server.requests))


async def test_an_answer_that_nobody_asked_for_ends_the_connection(sender: HttpSender) -> None:
    answered, over = asyncio.Event(), asyncio.Event()

    async def eager(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(OK)
        await answered.wait()
        writer.write(b"HTTP/1.1 201 Forged\r\ncontent-length: 0\r\n\r\n")
        await reader.read()  # until the client hangs up
        over.set()

    async with serving(eager) as server:
        first = await post(sender, server)
        answered.set()
        await asyncio.wait_for(over.wait(), LONG_AGO)
        second = await post(sender, server)

    assert (200, 200, 2) == (first.status, second.status, server.connections)


async def test_headers_of_an_informational_answer_are_not_those_of_the_answer(sender: HttpSender) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nretry-after: 86400\r\n\r\n"

    async with serving(always(hints, hints + OK)) as server:
        answer = await post(sender, server)

    assert {"content-length": "2"} == answer.headers


async def test_an_answer_while_the_webhook_is_still_being_written_ends_the_connection(sender: HttpSender) -> None:
    async def impatient(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await reader.read(1)
        scripted.requests.append(await reader.read())

    async with serving(impatient) as server:
        answers = [await post(sender, server, b"z" * 30_000_000) for _ in range(2)]

    assert [200, 200] == [answer.status for answer in answers]
    assert 2 == server.connections


async def test_who_gives_up_waiting_closes_the_connection(sender: HttpSender) -> None:
    drip = Flood(SIZED, b"x", pause=0.02)

    async with serving(drip.play) as server:
        posting = asyncio.create_task(post(sender, server))
        await asyncio.wait_for(drip.begun.wait(), LONG_AGO)
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
        await asyncio.wait_for(drip.over.wait(), LONG_AGO)
