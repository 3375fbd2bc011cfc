"""The HTTP client, against servers that behave and servers that do not."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.errors import Refused, Unavailable
from broker.gateways.http import Answer, HttpFetcher, HttpSender
from tests.gateways.servers import Scripted, always, once, serving

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SOON = timedelta(seconds=3)


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[HttpSender]:
    client = HttpSender(allow_loopback=True)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[HttpSender]:
    client = HttpSender()
    yield client
    await client.close()


@pytest_asyncio.fixture
async def fetcher() -> AsyncIterator[HttpFetcher]:
    client = HttpFetcher()
    yield client
    await client.close()


async def post(sender: HttpSender, server: Scripted, path: str = "/hook", *, within: timedelta = SOON) -> Answer:
    return await sender.post(f"http://127.0.0.1:{server.port}{path}", {"x-test": "1"}, b"{}", timeout=within)


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


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "scheme_not_allowed"),
        ("https://example.com:22/", "port_not_allowed"),
        ("ftp://example.com/", "url_not_valid"),
        ("https:///nowhere", "url_not_valid"),
        ("https://user:password@example.com/", "url_not_valid"),
        ("https://[::1/", "url_not_valid"),
        ("https://127.0.0.1/", "address_not_public"),
        ("https://2130706433/", "address_not_public"),
        ("https://0x7f.1/", "address_not_public"),
        ("https://127.1/", "address_not_public"),
        ("https://localhost/", "address_not_public"),
        ("https://localhost./", "address_not_public"),
        ("https://[::1]/", "address_not_public"),
        ("https://[::ffff:169.254.169.254]/", "address_not_public"),
        ("https://[64:ff9b::7f00:1]:8443/", "address_not_public"),
        ("https://169.254.169.254/latest/meta-data/", "address_not_public"),
        ("https://10.0.0.1/", "address_not_public"),
    ],
)
async def test_the_guard_refuses_the_inside(guarded: HttpSender, url: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        await guarded.post(url, {}, b"", timeout=SOON)

    assert code == refusal.value.code


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/", "http://[fd00::1]/", "http://0.0.0.0/"])
async def test_opening_loopback_opens_nothing_else(sender: HttpSender, url: str) -> None:
    with pytest.raises(Refused, match="not public"):
        await sender.post(url, {}, b"", timeout=SOON)


async def test_a_header_cannot_break_out_of_its_line(sender: HttpSender) -> None:
    with pytest.raises(Refused):
        await sender.post("http://127.0.0.1:9/", {"x": "1\r\nx-evil: 2"}, b"", timeout=SOON)


async def test_a_name_that_does_not_resolve_is_unavailable(sender: HttpSender) -> None:
    with pytest.raises(Unavailable):
        await sender.post("http://nothing.invalid/", {}, b"", timeout=timedelta(seconds=10))


def certificate(tmp_path: Path, *names: x509.GeneralName) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for these names, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


async def test_tls_is_verified_under_the_name_of_the_url(tmp_path: Path) -> None:
    server_side, client_side = certificate(tmp_path, x509.DNSName("localhost"))
    sender = HttpSender(allow_loopback=True, tls=client_side)

    async with serving(always(OK), tls=server_side) as server:
        named = await sender.post(f"https://localhost:{server.port}/", {}, b"", timeout=SOON)
        with pytest.raises(Unavailable, match="TLS"):
            await sender.post(f"https://127.0.0.1:{server.port}/", {}, b"", timeout=SOON)
    await sender.close()

    assert 200 == named.status


async def test_a_certificate_of_nobody_we_trust_is_refused(tmp_path: Path, sender: HttpSender) -> None:
    server_side, _ = certificate(tmp_path, x509.IPAddress(IPv4Address("127.0.0.1")))

    async with serving(always(OK), tls=server_side) as server:
        with pytest.raises(Unavailable, match="TLS"):
            await sender.post(f"https://127.0.0.1:{server.port}/", {}, b"", timeout=SOON)


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
