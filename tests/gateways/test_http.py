"""The HTTP client, against servers that behave and servers that do not."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from broker.errors import Refused, Unavailable
from broker.gateways.http import Answer, HttpFetcher, HttpSender
from tests.gateways.servers import TENANT, Scripted, always, once, serving

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SOON = timedelta(seconds=30)


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[HttpSender]:
    client = HttpSender(allow_loopback=True)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def fetcher() -> AsyncIterator[HttpFetcher]:
    client = HttpFetcher()
    yield client
    await client.close()


async def post(sender: HttpSender, server: Scripted, path: str = "/hook", *, within: timedelta = SOON) -> Answer:
    return await sender.post(
        f"http://127.0.0.1:{server.port}{path}", {"x-test": "1"}, b"{}", timeout=within, tenant_id=TENANT
    )


async def test_a_post_arrives_as_written_and_its_answer_is_read(sender: HttpSender) -> None:
    async with serving(always(b"HTTP/1.1 201 Created\r\nX-Made: Yes\r\ncontent-length: 2\r\n\r\nok")) as server:
        answer = await post(sender, server, "/hook?a=b c&d=%2F")

    assert (201, "Yes", b"ok") == (answer.status, answer.headers["x-made"], answer.body)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert b"POST /hook?a=b%20c&d=%2F HTTP/1.1" == lines[0]
    assert b"host: 127.0.0.1:%d" % server.port in lines
    assert b"x-test: 1" in lines
    assert b"{}" == body


async def test_a_connection_is_kept_and_used_again(sender: HttpSender) -> None:
    async with serving(always(OK)) as server:
        for _ in range(3):
            await post(sender, server)

    assert (1, 3) == (server.connections, len(server.requests))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"], b"abcde"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", OK], b"ok"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
        ([*(OK[place : place + 1] for place in range(len(OK)))], b"ok"),
    ],
)
async def test_an_answer_is_read_however_it_is_cut_and_coded(
    sender: HttpSender, chunks: list[bytes], expected: bytes
) -> None:
    async with serving(always(*chunks)) as server:
        bodies = [(await post(sender, server)).body for _ in range(2)]

    assert [expected, expected] == bodies
    assert 1 == server.connections


async def test_an_answer_that_ends_with_the_connection_is_whole(sender: HttpSender) -> None:
    async with serving(once(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as server:
        answer = await post(sender, server)

    assert b"all of it" == answer.body


async def test_a_kept_connection_that_the_peer_closed_is_replaced(sender: HttpSender) -> None:
    async with serving(once(OK)) as server:
        statuses = [(await post(sender, server)).status for _ in range(3)]

    assert ([200, 200, 200], 3) == (statuses, len(server.requests))


async def test_a_peer_that_closes_without_an_answer_is_not_asked_twice(sender: HttpSender) -> None:
    async with serving(once()) as server:
        with pytest.raises(Unavailable):
            await post(sender, server)

    assert 1 == len(server.requests)


@pytest.mark.parametrize(
    "chunks",
    [
        [b"SSH-2.0-OpenSSH_9.6\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"x-filler: " + b"a" * 70_000 + b"\r\n\r\n"],
    ],
)
async def test_what_is_not_an_answer_is_unavailable(sender: HttpSender, chunks: list[bytes]) -> None:
    async with serving(once(*chunks)) as server:
        with pytest.raises(Unavailable):
            await post(sender, server)


async def test_bytes_that_nobody_asked_for_spoil_the_connection(sender: HttpSender) -> None:
    async with serving(always(OK + b"HTTP/1.1 500 Forged\r\ncontent-length: 0\r\n\r\n")) as server:
        statuses = [(await post(sender, server)).status for _ in range(2)]

    assert [200, 200] == statuses
    assert 2 == server.connections


async def test_little_of_a_large_answer_is_read_and_less_is_kept(sender: HttpSender) -> None:
    sent = 0

    async def endless(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while sent < 100_000_000:
            writer.write(b"x" * 10_000)
            sent += 10_000
            await writer.drain()

    async with serving(endless) as server:
        answer = await post(sender, server)

    assert (200, b"x" * 2048) == (answer.status, answer.body)
    assert sent < 20_000_000


async def test_the_deadline_covers_a_body_that_drips(sender: HttpSender) -> None:
    async def drip(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drip) as server:
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await post(sender, server, within=timedelta(seconds=0.2))


async def test_a_redirect_is_an_answer_and_is_not_followed(sender: HttpSender) -> None:
    async with serving(always(OK)) as target:
        location = b"location: http://127.0.0.1:%d/\r\n" % target.port
        async with serving(always(b"HTTP/1.1 302 Found\r\n" + location + b"content-length: 0\r\n\r\n")) as server:
            answer = await post(sender, server)

    assert (302, 0) == (answer.status, target.connections)


async def test_no_proxy_is_taken_from_the_environment(sender: HttpSender, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(always(OK)) as proxy, serving(always(OK)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await post(sender, server)

    assert (0, 1) == (proxy.connections, server.connections)


async def test_a_name_that_does_not_resolve_is_unavailable(sender: HttpSender) -> None:
    with pytest.raises(Unavailable):
        await sender.post("http://nothing.invalid/", {}, b"", timeout=timedelta(seconds=10), tenant_id=TENANT)


async def test_a_get_goes_only_to_the_hosts_that_were_named(fetcher: HttpFetcher) -> None:
    for url in ("https://evil.example/x.pem", "http://sns.eu-west-1.amazonaws.com/x.pem",
                "https://sns.eu-west-1.amazonaws.com:8443/x.pem"):  # fmt: skip
        with pytest.raises(Refused):
            await fetcher.fetch(url, {}, max_bytes=100, timeout=SOON, allowed_hosts={"sns.eu-west-1.amazonaws.com"})


async def test_a_get_may_go_to_the_configured_aws_endpoint() -> None:
    async with serving(always(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno")) as server:
        fetcher = HttpFetcher(trusted_url=f"http://127.0.0.1:{server.port}")
        answer = await fetcher.fetch(
            f"http://127.0.0.1:{server.port}/x?y=1", {"h": "v"}, max_bytes=100, timeout=SOON, allowed_hosts=()
        )
        with pytest.raises(Refused):
            await fetcher.fetch(
                f"http://127.0.0.1:{server.port + 1}/", {}, max_bytes=100, timeout=SOON, allowed_hosts=()
            )
        await fetcher.close()

    assert (403, b"no") == (answer.status, answer.body)
    assert server.requests[0].startswith(b"GET /x?y=1 HTTP/1.1\r\n")


async def test_a_get_that_answers_too_much_is_refused() -> None:
    async with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101)) as server:
        fetcher = HttpFetcher(trusted_url=f"http://127.0.0.1:{server.port}")
        with pytest.raises(Refused, match="100 bytes"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/", {}, max_bytes=100, timeout=SOON, allowed_hosts=())
        await fetcher.close()
