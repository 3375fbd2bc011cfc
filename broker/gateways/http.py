"""HTTP to addresses that tenants name: webhooks out, behind a guard; and small GETs from AWS's own hosts.

No redirects, no proxies from the environment, no decompression, one total deadline, little of an answer is read.

A post of 1 kB over a kept connection costs 20 to 25 microseconds of CPU on uvloop, 8 of them for the bare write and
read: nothing is parsed, checked or allocated twice that stays the same, and there is no task or stream per request.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from uuid import UUID

import msgspec

from broker.addresses import Address, is_public, may_serve_aws
from broker.errors import Refused, Unavailable
from broker.gateways.http_head import Origin, head, parse
from broker.gateways.http_names import KNOWN_SECONDS, LookUp, Names, look_up
from broker.gateways.http_pool import Pool
from broker.gateways.http_wire import BrokenOff, Reply
from broker.gateways.own_address import is_own

MOST_READ = 16_384
MOST_KEPT = 2_048
PORTS = frozenset({443, 8443})


class Answer(msgspec.Struct, frozen=True):
    """What the other side answered. Header names are lower-case. `latency_ms`: from the call to the last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_ms: int


class HttpSender:
    """Posts to tenants' URLs. `allow_loopback` opens http, any port and loopback addresses: for local runs only.

    `own_url`: where the broker itself is reached from outside; tenants' messages do not go there, nor to `is_own`.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool = False,
        own_url: str = "",
        tls: ssl.SSLContext | None = None,
        look_up: LookUp = look_up,
        known_seconds: float = KNOWN_SECONDS,
        is_own: Callable[[Address], bool] = is_own,
    ) -> None:
        self._allow_loopback = allow_loopback
        self._own_host = parse(own_url)[0].host if own_url else ""

        def allowed(address: Address) -> bool:
            return (is_public(address) and not is_own(address)) or (allow_loopback and address.is_loopback)

        self._pool = Pool(Names(allowed, look_up=look_up, known_seconds=known_seconds), tls or _trusting_the_web())

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout: timedelta,  # noqa: ASYNC109 - one total deadline, kept in one place for all callers
        tenant_id: UUID,
    ) -> Answer:
        """One POST within `timeout`, the answer's body included, of which the first 2 KB are kept.

        Raises `Refused` when the URL, a header or an address of the host is not allowed, `Unavailable` when there is
        no answer. A kept-alive connection is used again by the same tenant only (the rule stands in `http_pool`).
        """
        began = time.monotonic()
        origin, _ = parse(url)
        self._check(origin)
        request = head("POST", url, headers, length=len(body)) + body
        reply = await _exchange(self._pool, origin, request, most=MOST_READ, timeout=timeout, whose=tenant_id)
        return _answer(reply, began, most=MOST_KEPT)

    async def close(self) -> None:
        """Closes kept connections."""
        self._pool.close()

    def _check(self, origin: Origin) -> None:
        if self._allow_loopback:
            return
        if origin.scheme != "https":
            raise Refused("Only https is allowed.", code="scheme_not_allowed")
        if origin.port not in PORTS:
            raise Refused("Only the ports 443 and 8443 are allowed.", code="port_not_allowed")
        if origin.host == self._own_host:
            raise Refused("The host is the broker itself.", code="host_not_allowed")


class HttpFetcher:
    """Small GETs from hosts that the caller pins by name; `trusted_url` is another endpoint for AWS (the local AWS)."""

    def __init__(self, *, trusted_url: str = "", tls: ssl.SSLContext | None = None, look_up: LookUp = look_up) -> None:
        self._trusted = parse(trusted_url)[0] if trusted_url else None
        allowed = may_serve_aws if self._trusted is None else _anywhere
        self._pool = Pool(Names(allowed, look_up=look_up), tls or _trusting_the_web())

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

        These hosts are pinned by name and certificate, and may well have private addresses (AWS interface endpoints in
        a VPC), but none of this machine or its metadata, unless another endpoint for AWS is set.
        """
        began = time.monotonic()
        origin, _ = parse(url)
        if origin != self._trusted and (origin.scheme, origin.port) != ("https", 443):
            raise Refused("Only https on port 443 is allowed.", code="scheme_not_allowed")
        if origin != self._trusted and origin.host not in allowed_hosts:
            raise Refused("This host is not one of those expected.", code="host_not_allowed")
        request = head("GET", url, headers)
        reply = await _exchange(self._pool, origin, request, most=max_bytes, timeout=timeout)
        if reply.clipped:
            raise Refused(f"The answer has more than {max_bytes} bytes.", code="too_large")
        return _answer(reply, began, most=max_bytes)

    async def close(self) -> None:
        """Closes kept connections."""
        self._pool.close()


async def _exchange(
    pool: Pool,
    origin: Origin,
    request: bytes,
    *,
    most: int,
    timeout: timedelta,  # noqa: ASYNC109 - as in `post`
    whose: UUID | None = None,
) -> Reply:
    """The exchange under one deadline, which covers looking up, connecting and the whole body."""
    seconds = timeout.total_seconds()
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        return await pool.exchange(origin, request, most=most, deadline=deadline, whose=whose)
    except TimeoutError as error:
        raise Unavailable(f"No complete answer within {seconds:g} s.") from error
    except BrokenOff as error:
        raise Unavailable(str(error)) from error


def _anywhere(_: Address) -> bool:
    return True


def _answer(reply: Reply, began: float, *, most: int) -> Answer:
    return Answer(reply.status, reply.headers, reply.body[:most], round((time.monotonic() - began) * 1000))


def _trusting_the_web() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
