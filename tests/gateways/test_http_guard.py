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
from tests.gateways.servers import always, serving

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
