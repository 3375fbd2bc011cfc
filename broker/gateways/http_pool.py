"""Kept-alive connections, and how new ones are dialled: to an address that was checked, under its name.

The rule of reuse. A connection belongs to one tenant, one scheme, host and port, and to the address that it was dialled
to. It is used again only while that address is among those that the name resolves to, as an answer says that is at
most ten seconds old and was checked as a whole; met with a newer answer without its address, it is closed. So no
connection outlives the check that let it be made, and none is shared between tenants.
"""

import asyncio
import ssl
from collections import OrderedDict, deque
from uuid import UUID

import msgspec

from broker.errors import Unavailable
from broker.gateways.http_head import Origin
from broker.gateways.http_names import Addresses, Names
from broker.gateways.http_wire import BrokenOff, Reply, Wire

_Place = tuple[UUID | None, Origin]


class Limits(msgspec.Struct, frozen=True):
    """How many connections are kept idle of one place (an endpoint's largest window: a burst closes none) and in all,
    for how long, how often that is looked after, and how many addresses are tried, for how long each (with TLS).
    """

    idle: int = 128
    idle_in_all: int = 2_048
    idle_seconds: float = 30.0
    sweep_seconds: float = 5.0
    dialled: int = 3
    connect_seconds: float = 3.0


LIMITS = Limits()


class Pool:
    """Connections by tenant and origin; those of one place know their address."""

    def __init__(self, names: Names, tls: ssl.SSLContext, *, limits: Limits = LIMITS) -> None:
        self._names = names
        self._tls = tls
        self._limits = limits
        self._idle: OrderedDict[_Place, deque[Wire]] = OrderedDict()  # the least recently used place first
        self._count = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(
        self, origin: Origin, request: bytes, *, most: int, deadline: float, whose: UUID | None = None
    ) -> Reply:
        """Sends over an idle connection or a new one, all by `deadline` (the loop's time).

        A kept connection that the peer had closed is replaced once, if nothing was answered on it. Raises `BrokenOff`,
        `TimeoutError`, and what looking up and dialling raise: `Refused` and `Unavailable`.
        """
        place = (whose, origin)
        found = self._names.known(origin.host)
        if found is None:
            async with asyncio.timeout_at(deadline):
                found = await self._names.addresses(origin.host, origin.port, whose=whose)
        kept = self._take(place, found)
        if kept is not None:
            try:
                return await self._over(kept, place, request, most=most, deadline=deadline)
            except BrokenOff as error:
                if error.answered:
                    raise
        async with asyncio.timeout_at(deadline):
            fresh = await self._dial(origin, found)
        return await self._over(fresh, place, request, most=most, deadline=deadline)

    def close(self) -> None:
        """Closes all idle connections, and those in use when they are done."""
        self._closed = True
        self._names.close()
        while self._count:
            self._drop_oldest()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _over(self, wire: Wire, place: _Place, request: bytes, *, most: int, deadline: float) -> Reply:
        reply = await wire.exchange(request, most=most, deadline=deadline)
        if wire.usable:
            self._keep(place, wire)
        return reply

    async def _dial(self, origin: Origin, found: Addresses) -> Wire:
        failed: OSError | None = None
        for address in found[: self._limits.dialled]:
            try:
                async with asyncio.timeout(self._limits.connect_seconds):
                    return await self._connect(origin, address)
            except ssl.SSLError as error:
                raise Unavailable(f"The TLS handshake failed: {error.reason or 'no reason given'}.") from error
            except OSError as error:  # TimeoutError is one
                failed = error
        raise Unavailable("The connection could not be made.") from failed

    async def _connect(self, origin: Origin, address: str) -> Wire:
        secure = origin.scheme == "https"
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: Wire(address),
            address,
            origin.port,
            ssl=self._tls if secure else None,
            server_hostname=origin.host if secure else None,
        )
        return wire

    def _take(self, place: _Place, found: Addresses) -> Wire | None:
        idle = self._idle.get(place)
        while idle:
            wire = idle.pop()
            self._count -= 1
            if wire.usable and wire.address in found:
                return wire
            wire.abort()
        return None

    def _keep(self, place: _Place, wire: Wire) -> None:
        idle = self._idle.get(place)
        if idle is None:
            idle = self._idle[place] = deque()
        if self._closed or len(idle) >= self._limits.idle:
            wire.abort()
            return
        loop = asyncio.get_running_loop()
        wire.idle_since = loop.time()
        idle.append(wire)
        self._idle.move_to_end(place)
        self._count += 1
        while self._count > self._limits.idle_in_all:
            self._drop_oldest()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._limits.sweep_seconds, self._sweep)

    def _drop_oldest(self) -> None:
        """The connection that was idle for longest, of the place that was used least recently."""
        place, idle = next(iter(self._idle.items()))
        if idle:
            idle.popleft().abort()
            self._count -= 1
        if not idle:
            del self._idle[place]

    def _sweep(self) -> None:
        """Closes what was idle for too long, forgets what the peer closed; again while anything is idle."""
        loop = asyncio.get_running_loop()
        limit = loop.time() - self._limits.idle_seconds
        for place, idle in list(self._idle.items()):
            for _ in range(len(idle)):
                wire = idle.popleft()
                if wire.usable and wire.idle_since > limit:
                    idle.append(wire)
                else:
                    wire.abort()
                    self._count -= 1
            if not idle:
                del self._idle[place]
        self._sweeper = loop.call_later(self._limits.sweep_seconds, self._sweep) if self._idle else None
