"""The HTTP client on uvloop, the event loop of production, whose transports are not asyncio's."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop
from cryptography import x509

from broker.errors import Unavailable
from broker.gateways.http import HttpSender
from tests.gateways.servers import TENANT, Scripted, always, once, serving
from tests.gateways.test_http_guard import certificate

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DRIP = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx"
SOON = timedelta(seconds=30)
SHORT = timedelta(seconds=0.2)


async def on_uvloop(scenario: Callable[[], Awaitable[None]]) -> None:
    """Runs it in a loop of its own, in another thread."""

    async def main() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        await scenario()

    await asyncio.to_thread(uvloop.run, main())


async def post(sender: HttpSender, server: Scripted, scheme: str = "http", *, within: timedelta = SOON) -> int:
    url = f"{scheme}://localhost:{server.port}/"
    return (await sender.post(url, {}, b"{}", timeout=within, tenant_id=TENANT)).status


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_connections_are_kept(tmp_path: Path, scheme: str) -> None:
    server_side, client_side = certificate(tmp_path, x509.DNSName("localhost"))
    seen: list[int] = []

    async def scenario() -> None:
        sender = HttpSender(allow_loopback=True, tls=client_side, look_up=lambda *_: ["127.0.0.1"])
        async with serving(always(OK), tls=_if_secure(scheme, server_side)) as server:
            for _ in range(3):
                await asyncio.gather(*(post(sender, server, scheme) for _ in range(4)))
            seen.extend([server.connections, len(server.requests)])
        await sender.close()

    await on_uvloop(scenario)

    assert [4, 12] == seen


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_closed_connection_is_replaced(tmp_path: Path, scheme: str) -> None:
    server_side, client_side = certificate(tmp_path, x509.DNSName("localhost"))
    statuses: list[int] = []

    async def scenario() -> None:
        sender = HttpSender(allow_loopback=True, tls=client_side, look_up=lambda *_: ["127.0.0.1"])
        async with serving(once(OK), tls=_if_secure(scheme, server_side)) as server:
            statuses.extend([await post(sender, server, scheme) for _ in range(5)])
        await sender.close()

    await on_uvloop(scenario)

    assert [200] * 5 == statuses


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_deadline_holds(tmp_path: Path, scheme: str) -> None:
    server_side, client_side = certificate(tmp_path, x509.DNSName("localhost"))

    async def hang(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        writer.write(DRIP)
        await reader.read()  # until the client hangs up

    async def scenario() -> None:
        sender = HttpSender(allow_loopback=True, tls=client_side, look_up=lambda *_: ["127.0.0.1"])
        async with serving(hang, tls=_if_secure(scheme, server_side)) as server:
            with pytest.raises(Unavailable, match=r"within 0\.2 s"):
                await post(sender, server, scheme, within=SHORT)
        await sender.close()

    await on_uvloop(scenario)


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    server_side, client_side = certificate(tmp_path, x509.DNSName("other.example"))

    async def scenario() -> None:
        sender = HttpSender(allow_loopback=True, tls=client_side, look_up=lambda *_: ["127.0.0.1"])
        async with serving(always(OK), tls=server_side) as server:
            with pytest.raises(Unavailable, match="TLS handshake failed"):
                await post(sender, server, "https")
        await sender.close()

    await on_uvloop(scenario)


def _if_secure(scheme: str, context: ssl.SSLContext) -> ssl.SSLContext | None:
    return context if scheme == "https" else None
