"""The HTTP client against the servers that receivers run: uvicorn with both its parsers, Debian's nginx, and Node."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import pytest
import pytest_asyncio

from broker.errors import Unavailable
from broker.gateways.http import Answer, HttpSender
from tests.gateways import real_servers
from tests.gateways.servers import TENANT

SOON = timedelta(seconds=30)
SERVERS = ["h11", "httptools", "nginx", "node"]

Ports = Mapping[str, int]


@pytest_asyncio.fixture(scope="session")
async def ports(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ports]:
    """Each server is started once, all at the same time."""
    async with (
        real_servers.uvicorn("h11") as h11,
        real_servers.uvicorn("httptools") as httptools,
        real_servers.nginx(tmp_path_factory.mktemp("nginx")) as nginx,
        real_servers.node() as node,
    ):
        yield {"h11": h11, "httptools": httptools, "nginx": nginx, "nginx that closes": nginx + 1, "node": node}


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[HttpSender]:
    client = HttpSender(allow_loopback=True)
    yield client
    await client.close()


async def post(sender: HttpSender, port: int, path: str, body: bytes = b"{}", *, within: timedelta = SOON) -> Answer:
    return await sender.post(f"http://127.0.0.1:{port}{path}", {}, body, timeout=within, tenant_id=TENANT)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_webhook_is_answered_again_and_again(sender: HttpSender, ports: Ports, server: str) -> None:
    answers = [await post(sender, ports[server], "/ok") for _ in range(20)]

    assert [(200, b"ok")] * 20 == [(answer.status, answer.body) for answer in answers]


@pytest.mark.parametrize("server", SERVERS)
async def test_many_at_once_are_all_answered(sender: HttpSender, ports: Ports, server: str) -> None:
    answers = [
        answer
        for _ in range(3)
        for answer in await asyncio.gather(*(post(sender, ports[server], "/ok") for _ in range(64)))
    ]

    assert [b"ok"] * 192 == [answer.body for answer in answers]


@pytest.mark.parametrize(
    ("server", "path", "body"),
    [
        ("h11", "/chunked", b"first,second,third"),
        ("httptools", "/chunked", b"first,second,third"),
        ("node", "/chunked", b"first,second,third"),
        ("node", "/informed", b"ok"),
        ("nginx", "/proxied/included.html", b"GET" + b"y" * 2_045),
    ],
)
async def test_an_answer_in_chunks_or_after_others_is_whole(
    sender: HttpSender, ports: Ports, server: str, path: str, body: bytes
) -> None:
    answers = [await post(sender, ports[server], path) for _ in range(3)]

    assert [body] * 3 == [answer.body for answer in answers]
    assert all("content-length" not in answer.headers for answer in answers) or path == "/informed"


@pytest.mark.parametrize(("server", "path"), [("h11", "/nothing"), ("httptools", "/nothing"), ("nginx", "/nothing")])
async def test_an_answer_without_a_body_is_an_answer(sender: HttpSender, ports: Ports, server: str, path: str) -> None:
    answers = [await post(sender, ports[server], path) for _ in range(3)]

    assert [(204, b"")] * 3 == [(answer.status, answer.body) for answer in answers]


@pytest.mark.parametrize(
    ("server", "path"),
    [("h11", "/large"), ("httptools", "/large"), ("nginx", "/proxied/large.html"), ("node", "/endless")],
)
async def test_of_a_large_answer_the_beginning_is_kept(
    sender: HttpSender, ports: Ports, server: str, path: str
) -> None:
    answer = await post(sender, ports[server], path)

    assert (200, b"x" * 2048) == (answer.status, answer.body)


@pytest.mark.parametrize("server", ["h11", "httptools", "node"])
async def test_a_large_webhook_arrives_whole(sender: HttpSender, ports: Ports, server: str) -> None:
    answers = [await post(sender, ports[server], "/ok", b"z" * size) for size in (1_000_000, 0, 300_000)]

    assert ["1000000", "0", "300000"] == [answer.headers["x-size"] for answer in answers]


@pytest.mark.parametrize(
    ("server", "path"),
    [("h11", "/closing"), ("httptools", "/closing"), ("node", "/closing"), ("nginx that closes", "/")],
)
async def test_a_server_that_says_that_it_closes_gets_a_new_connection(
    sender: HttpSender, ports: Ports, server: str, path: str
) -> None:
    answers = [await post(sender, ports[server], path) for _ in range(7)]

    assert [b"ok"] * 7 == [answer.body for answer in answers]


@pytest.mark.parametrize(("server", "path"), [("nginx", "/ok"), ("node", "/early")])
async def test_a_refusal_before_the_webhook_was_read_is_its_answer(
    sender: HttpSender, ports: Ports, server: str, path: str
) -> None:
    refused = await post(sender, ports[server], path, b"z" * 70_000)
    following = await post(sender, ports[server], "/ok")

    assert (413, 200) == (refused.status, following.status)


async def test_a_redirect_to_the_metadata_service_is_only_an_answer(sender: HttpSender, ports: Ports) -> None:
    answer = await post(sender, ports["nginx"], "/moved")

    assert (302, "http://169.254.169.254/latest/meta-data/") == (answer.status, answer.headers["location"])


async def test_a_trailer_does_not_pass_for_a_header(sender: HttpSender, ports: Ports) -> None:
    answer = await post(sender, ports["node"], "/trailers")

    assert (b"body", "retry-after") == (answer.body, answer.headers["trailer"])
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("path", ["/destroyed", "/destroyed-at-once"])
async def test_a_server_that_breaks_off_gave_no_answer(sender: HttpSender, ports: Ports, path: str) -> None:
    await post(sender, ports["node"], "/ok")

    with pytest.raises(Unavailable, match="closed before"):
        await post(sender, ports["node"], path)


async def test_a_plain_server_has_no_tls(ports: Ports) -> None:
    sender = HttpSender(allow_loopback=True)

    with pytest.raises(Unavailable, match="TLS"):
        await sender.post(f"https://127.0.0.1:{ports['nginx']}/ok", {}, b"", timeout=SOON, tenant_id=TENANT)
    await sender.close()
