"""Kept-alive connections by origin, and how a new one is dialled: to an address that was checked, under its name."""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from broker.errors import Unavailable
from broker.gateways.addresses import Address
from broker.gateways.http_wire import BrokenOff, Reply, Wire

Lookup = Callable[[str, int], Awaitable[list[Address]]]
"""How the addresses of a host are found and checked."""

MOST_IDLE = 8
MOST_IDLE_IN_ALL = 1024
IDLE_SECONDS = 30.0
MOST_DIALLED = 3


class Origin(msgspec.Struct, frozen=True):
    """Where a connection leads: scheme, host (ASCII, lower-case, no brackets) and port."""

    scheme: str
    host: str
    port: int


class _Idle(msgspec.Struct, frozen=True):
    wire: Wire
    since: float


class Pool:
    """Idle connections. A connection stays with the address that was checked when it was made."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[Origin, deque[_Idle]] = {}
        self._count = 0

    async def exchange(self, origin: Origin, request: bytes, *, most: int, addresses: Lookup) -> Reply:
        """Sends over an idle connection or a new one; `Unavailable` when there is no answer.

        A kept connection that the peer had closed meanwhile is replaced once, if nothing was answered on it.
        """
        kept = self._take(origin)
        if kept is not None:
            try:
                return await self._over(kept, origin, request, most=most)
            except BrokenOff as error:
                if error.answered:
                    raise Unavailable(str(error)) from error
        try:
            return await self._over(await self._dial(origin, addresses), origin, request, most=most)
        except BrokenOff as error:
            raise Unavailable(str(error)) from error

    async def _over(self, wire: Wire, origin: Origin, request: bytes, *, most: int) -> Reply:
        reply = await wire.exchange(request, most=most)
        self._give_back(origin, wire)
        return reply

    async def _dial(self, origin: Origin, addresses: Lookup) -> Wire:
        found = (await addresses(origin.host, origin.port))[:MOST_DIALLED]
        failed: OSError | None = None
        for address in found:
            try:
                return await self._connect(origin, address)
            except ssl.SSLError as error:
                raise Unavailable(f"The TLS handshake failed: {error.reason or 'no reason given'}.") from error
            except OSError as error:
                failed = error
        raise Unavailable("The connection could not be made.") from failed

    async def _connect(self, origin: Origin, address: Address) -> Wire:
        secure = origin.scheme == "https"
        _, wire = await asyncio.get_running_loop().create_connection(
            Wire,
            str(address),
            origin.port,
            ssl=self._tls if secure else None,
            server_hostname=origin.host if secure else None,
        )
        return wire

    def _take(self, origin: Origin) -> Wire | None:
        waiting = self._idle.get(origin)
        now = asyncio.get_running_loop().time()
        while waiting:
            kept = waiting.pop()
            self._count -= 1
            if kept.wire.usable and now - kept.since < IDLE_SECONDS:
                return kept.wire
            kept.wire.abort()
        self._idle.pop(origin, None)
        return None

    def _give_back(self, origin: Origin, wire: Wire) -> None:
        if not wire.usable:
            return
        if self._count >= MOST_IDLE_IN_ALL:
            self.sweep()
        waiting = self._idle.setdefault(origin, deque())
        if len(waiting) >= MOST_IDLE or self._count >= MOST_IDLE_IN_ALL:
            wire.abort()
            return
        waiting.append(_Idle(wire, asyncio.get_running_loop().time()))
        self._count += 1

    def sweep(self) -> None:
        """Closes what was idle for too long or was closed by the peer."""
        limit = asyncio.get_running_loop().time() - IDLE_SECONDS
        for origin, waiting in list(self._idle.items()):
            while waiting and (waiting[0].since <= limit or not waiting[0].wire.usable):
                waiting.popleft().wire.abort()
                self._count -= 1
            if not waiting:
                del self._idle[origin]

    def close(self) -> None:
        """Closes all idle connections."""
        for waiting in self._idle.values():
            for kept in waiting:
                kept.wire.abort()
        self._idle.clear()
        self._count = 0
