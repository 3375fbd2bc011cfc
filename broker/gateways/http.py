"""HTTP to addresses that tenants name: webhooks out, behind a guard; and small GETs from AWS's own hosts.

No redirects, no proxies from the environment, no decompression, one total deadline, little of an answer is read.
"""

import asyncio
import ssl
import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from urllib.parse import quote, urlsplit

import msgspec

from broker.errors import Refused, Unavailable
from broker.gateways.addresses import Resolver
from broker.gateways.http_pool import Lookup, Origin, Pool
from broker.gateways.http_wire import Reply

MOST_READ = 16_384
MOST_KEPT = 2_048
PORTS = frozenset({443, 8443})
_DEFAULT_PORTS = {"https": 443, "http": 80}
_UNRESERVED = "/:?#[]@!$&'()*+,;=%-._~"


class Answer(msgspec.Struct, frozen=True):
    """What the other side answered. Header names are lower-case. `latency_ms`: from the call to the last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_ms: int


class HttpSender:
    """Posts to tenants' URLs. `allow_loopback` opens http, any port and loopback addresses: for local runs only."""

    def __init__(self, *, allow_loopback: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._allow_loopback = allow_loopback
        self._resolver = Resolver(allow_loopback=allow_loopback)
        self._pool = Pool(tls or ssl.create_default_context())

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout: timedelta,  # noqa: ASYNC109 - one total deadline, kept in one place for all callers
    ) -> Answer:
        """One POST within `timeout`, the answer's body included, of which the first 2 KB are kept.

        Raises `Refused` when the URL or an address of its host is not allowed, `Unavailable` when there is no answer.
        """
        origin, target = _parse(url)
        self._check(origin)
        request = _request("POST", origin, target, {**headers, "content-length": str(len(body))}) + body
        began = time.monotonic()
        reply = await _within(timeout, self._pool, origin, request, most=MOST_READ, lookup=self._resolver.addresses)
        return _answer(reply, began, most=MOST_KEPT)

    async def close(self) -> None:
        """Closes kept connections."""
        self._pool.close()
        self._resolver.close()

    def _check(self, origin: Origin) -> None:
        if self._allow_loopback:
            return
        if origin.scheme != "https":
            raise Refused("Only https is allowed.", code="scheme_not_allowed")
        if origin.port not in PORTS:
            raise Refused("Only the ports 443 and 8443 are allowed.", code="port_not_allowed")


class HttpFetcher:
    """Small GETs from hosts that the caller pins by name; `trusted_url` is another endpoint for AWS (the local AWS)."""

    def __init__(self, *, trusted_url: str = "", tls: ssl.SSLContext | None = None) -> None:
        self._trusted = _parse(trusted_url)[0] if trusted_url else None
        self._resolver = Resolver(allow_loopback=True)
        self._pool = Pool(tls or ssl.create_default_context())

    async def fetch(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        max_bytes: int,
        timeout: timedelta,  # noqa: ASYNC109 - as in `post`
        allowed_hosts: Collection[str],
    ) -> Answer:
        """One GET, any status; `Refused` for another host, http, or more than `max_bytes`; else `Unavailable`.

        The addresses of these hosts are not checked: they are pinned by name and certificate, and may well be private
        (AWS interface endpoints in a VPC).
        """
        origin, target = _parse(url)
        if origin != self._trusted and (origin.scheme, origin.port) != ("https", 443):
            raise Refused("Only https on port 443 is allowed.", code="scheme_not_allowed")
        if origin != self._trusted and origin.host not in allowed_hosts:
            raise Refused("This host is not one of those expected.", code="host_not_allowed")
        request = _request("GET", origin, target, headers)
        began = time.monotonic()
        reply = await _within(timeout, self._pool, origin, request, most=max_bytes, lookup=self._resolver.any_addresses)
        if reply.clipped:
            raise Refused(f"The answer has more than {max_bytes} bytes.", code="too_large")
        return _answer(reply, began, most=max_bytes)

    async def close(self) -> None:
        """Closes kept connections."""
        self._pool.close()
        self._resolver.close()


async def _within(limit: timedelta, pool: Pool, origin: Origin, request: bytes, *, most: int, lookup: Lookup) -> Reply:
    """The exchange under one deadline, which covers resolving, connecting and the whole body."""
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await pool.exchange(origin, request, most=most, addresses=lookup)
    except TimeoutError as error:
        raise Unavailable(f"No complete answer within {limit.total_seconds():g} s.") from error


def _answer(reply: Reply, began: float, *, most: int) -> Answer:
    return Answer(reply.status, reply.headers, reply.body[:most], round((time.monotonic() - began) * 1000))


def _parse(url: str) -> tuple[Origin, str]:
    """Origin and request target of an absolute URL; `Refused` when it is not one we could call."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (
            (parts.hostname or "").encode("idna").decode() if not (parts.hostname or "").isascii() else parts.hostname
        )
    except ValueError as error:
        raise Refused("The URL is not valid.", code="url_not_valid") from error
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.username is not None or not host.isprintable():
        raise Refused("The URL must be absolute, http or https, without a user name.", code="url_not_valid")
    target = quote(parts.path or "/", safe=_UNRESERVED) + (
        f"?{quote(parts.query, safe=_UNRESERVED)}" if parts.query else ""
    )
    return Origin(parts.scheme, host.rstrip("."), port or _DEFAULT_PORTS[parts.scheme]), target


def _request(method: str, origin: Origin, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request; `Refused` for a header that would break out of its line (RFC 9110, 5.5)."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != _DEFAULT_PORTS[origin.scheme]:
        host = f"{host}:{origin.port}"
    fields = {"host": host, "accept-encoding": "identity", "user-agent": "ses-delegation-broker", **headers}
    for name, value in fields.items():
        if not (name + value).isascii() or any(ord(letter) < 32 or ord(letter) == 127 for letter in name + value):
            raise Refused("A header holds a character that is not allowed.", code="header_not_valid")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
