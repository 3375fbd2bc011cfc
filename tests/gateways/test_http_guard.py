"""What the HTTP client refuses to call, and under which name it trusts a certificate."""

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
from broker.gateways.http import HttpSender
from tests.gateways.servers import TENANT, always, serving

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SOON = timedelta(seconds=30)


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
        ("https://0/", "address_not_public"),
        ("https://0177.0.0.1/", "address_not_public"),
        ("https://0xa9fea9fe/", "address_not_public"),
        ("https://0251.0376.0251.0376/", "address_not_public"),
        ("https://169.254.169.254./", "address_not_public"),
        ("https://[::]/", "address_not_public"),
        ("https://[0:0:0:0:0:ffff:127.0.0.1]/", "address_not_public"),
        ("https://[fd00:ec2::254]/", "address_not_public"),
        ("https://[2002:a9fe:a9fe::]/", "address_not_public"),
        ("https://[fe80::1%25lo]/", "url_not_valid"),
        ("https://[fe80::1%lo]/", "url_not_valid"),
        ("https://[::1%25lo]/", "url_not_valid"),
        ("https://LOCALHOST/", "address_not_public"),
        ("https://127\u30020\u30020\u30021/", "address_not_public"),  # the full stop of Chinese and Japanese
        ("https://\uff11\uff12\uff17.0.0.1/", "address_not_public"),  # full-width digits
        ("https://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/", "address_not_public"),  # circled letters
        ("https://127.0.0.1\t/", "address_not_public"),
        ("https://127.0.0.1#@8.8.8.8/", "address_not_public"),
        ("https://127.0.0.1?@8.8.8.8/", "address_not_public"),
        ("https://8.8.8.8@127.0.0.1/", "url_not_valid"),
        ("https://@127.0.0.1/", "url_not_valid"),
        ("https://8.8.8.8\\@127.0.0.1/", "url_not_valid"),
        ("https://127.0.0.1%00.example.com/", "url_not_valid"),
        ("https://127.0.0.1%2eexample.com/", "url_not_valid"),
        ("https://a b.example.com/", "url_not_valid"),
        ("https://.../", "url_not_valid"),
        ("https://example.com:0/", "url_not_valid"),
        ("https://example.com:99999/", "url_not_valid"),
        ("//127.0.0.1/", "url_not_valid"),
        ("file:///etc/passwd", "url_not_valid"),
        ("gopher://127.0.0.1/", "url_not_valid"),
        ("https://" + "\u00e4" * 70 + ".example/", "url_not_valid"),
        ("http://example.com:443/", "scheme_not_allowed"),
        ("https://example.com:80/", "port_not_allowed"),
    ],
)
async def test_the_guard_refuses_the_inside(guarded: HttpSender, url: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        await guarded.post(url, {}, b"", timeout=SOON, tenant_id=TENANT)

    assert code == refusal.value.code


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/", "http://[fd00::1]/", "http://0.0.0.0/"])
async def test_opening_loopback_opens_nothing_else(sender: HttpSender, url: str) -> None:
    with pytest.raises(Refused, match="not public"):
        await sender.post(url, {}, b"", timeout=SOON, tenant_id=TENANT)


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "1\r\nx-evil: 2"},
        {"x": "1\nx-evil: 2"},
        {"x": "1\rx-evil: 2"},
        {"x": "1\0"},
        {"x": "caf\u00e9"},
        {"x": "1\u2028x-evil: 2"},
        {"x\r\ny": "1"},
        {"x y": "1"},
        {"x:": "1"},
        {"": "1"},
        {"x\u00e9": "1"},
        {"x": "1", "X": "2"},
        {"Host": "169.254.169.254"},
        {"Content-Length": "0"},
        {"content-length": "0"},
        {"transfer-encoding": "chunked"},
        {"connection": "x-signature"},
        {"expect": "100-continue"},
        {"upgrade": "h2c"},
        {"accept-encoding": "gzip"},
    ],
)
async def test_a_header_cannot_break_out_of_its_line_or_frame_the_request(
    sender: HttpSender, headers: dict[str, str]
) -> None:
    async with serving(always(OK)) as server:
        with pytest.raises(Refused) as refusal:
            await sender.post(f"http://127.0.0.1:{server.port}/", headers, b"", timeout=SOON, tenant_id=TENANT)

    assert ("header_not_valid", 0) == (refusal.value.code, server.connections)


async def test_headers_arrive_as_given_under_names_in_lower_case(sender: HttpSender) -> None:
    headers = {"X-100%": "100 %s", "User-Agent": "mine/1", "webhook-id": "a"}

    async with serving(always(OK)) as server:
        for last in ("b", "c"):
            url = f"http://127.0.0.1:{server.port}/50%25?x=%s"
            await sender.post(url, {**headers, "webhook-id": last}, b"{}", timeout=SOON, tenant_id=TENANT)

    expected = (
        f"POST /50%25?x=%s HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\naccept-encoding: identity\r\n"
        "x-100%: 100 %s\r\nuser-agent: mine/1\r\nwebhook-id: c\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert expected == server.requests[1].decode()


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx: y", "/\u00e4?\u00f6=\u00fc", "/a#fragment", "?q", ""])
async def test_a_path_cannot_break_out_of_its_line(sender: HttpSender, path: str) -> None:
    async with serving(always(OK)) as server:
        await sender.post(f"http://127.0.0.1:{server.port}{path}", {}, b"", timeout=SOON, tenant_id=TENANT)

    line, second = server.requests[0].split(b"\r\n")[:2]
    assert line.startswith(b"POST /")
    assert line.endswith(b" HTTP/1.1")
    assert (2, b"host: 127.0.0.1:%d" % server.port) == (line.count(b" "), second)
    assert b"#" not in line


def certificate(
    tmp_path: Path, *names: x509.GeneralName, ends_in: timedelta = timedelta(days=1)
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for these names, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=2))
        .not_valid_after(datetime.now(UTC) + ends_in)
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
        named = await sender.post(f"https://localhost:{server.port}/", {}, b"", timeout=SOON, tenant_id=TENANT)
        with pytest.raises(Unavailable, match="TLS"):
            await sender.post(f"https://127.0.0.1:{server.port}/", {}, b"", timeout=SOON, tenant_id=TENANT)
    await sender.close()

    assert 200 == named.status


async def test_a_certificate_of_nobody_we_trust_is_refused(tmp_path: Path, sender: HttpSender) -> None:
    server_side, _ = certificate(tmp_path, x509.IPAddress(IPv4Address("127.0.0.1")))

    async with serving(always(OK), tls=server_side) as server:
        with pytest.raises(Unavailable, match="TLS"):
            await sender.post(f"https://127.0.0.1:{server.port}/", {}, b"", timeout=SOON, tenant_id=TENANT)


@pytest.mark.parametrize(
    ("name", "ends_in"),
    [("other.example", timedelta(days=1)), ("*.example", timedelta(days=1)), ("hooks.example", timedelta(days=-1))],
    ids=["another name", "a wildcard above", "expired"],
)
async def test_a_certificate_that_does_not_hold_is_refused(tmp_path: Path, name: str, ends_in: timedelta) -> None:
    server_side, client_side = certificate(tmp_path, x509.DNSName(name), ends_in=ends_in)
    host = "a.hooks.example" if name.startswith("*") else "hooks.example"
    sender = HttpSender(allow_loopback=True, tls=client_side, look_up=lambda *_: ["127.0.0.1"])

    async with serving(always(OK), tls=server_side) as server:
        with pytest.raises(Unavailable, match="TLS handshake failed: CERTIFICATE_VERIFY_FAILED"):
            await sender.post(f"https://{host}:{server.port}/", {}, b"", timeout=SOON, tenant_id=TENANT)
    await sender.close()

    assert [] == server.requests


@pytest.mark.parametrize("host", ["hooks.example", "HOOKS.example.", "h\u00f6oks.example"])
async def test_the_name_is_told_in_the_handshake(tmp_path: Path, host: str) -> None:
    asked: list[str | None] = []
    names = [x509.DNSName("hooks.example"), x509.DNSName("xn--hoks-5qa.example")]
    server_side, client_side = certificate(tmp_path, *names)
    server_side.sni_callback = lambda _socket, name, _context: asked.append(name)
    sender = HttpSender(allow_loopback=True, tls=client_side, look_up=lambda *_: ["127.0.0.1"])

    async with serving(always(OK), tls=server_side) as server:
        for _ in range(2):
            await sender.post(f"https://{host}:{server.port}/", {}, b"{}", timeout=SOON, tenant_id=TENANT)
    await sender.close()

    name = host.lower().rstrip(".").encode("idna").decode()
    assert [name] == asked
    assert f"host: {name}:{server.port}".encode() in server.requests[1]
