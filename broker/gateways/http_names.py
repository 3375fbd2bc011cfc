"""Names to addresses: looked up in threads, checked as a whole before anybody sees them, known for a few seconds."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec

from broker.addresses import Address
from broker.errors import Refused, Unavailable

Addresses = tuple[str, ...]
LookUp = Callable[[str, int], Iterable[str]]
"""Host and port to addresses as text; raises `OSError`, may block."""

KNOWN_SECONDS = 10.0
_MOST_KNOWN = 8_192
_AT_ONCE = 64
_AT_ONCE_EACH = 4


def look_up(host: str, port: int) -> list[str]:
    """The system's resolver."""
    # A scope (fe80::1%eth0) is cut off: such addresses are never public.
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(row[4][0]).partition("%")[0] for row in rows]


class _Known(msgspec.Struct, frozen=True):
    addresses: Addresses
    until: float


class Names:
    """Looks a name up once for all who ask at the same time, in threads of its own.

    Every answer goes through `allowed` before it is known, and it is known for `known_seconds`. No asker holds more
    than a few of the threads, so that the dead name servers of one leave the others alone.
    """

    def __init__(
        self, allowed: Callable[[Address], bool], *, look_up: LookUp = look_up, known_seconds: float = KNOWN_SECONDS
    ) -> None:
        self._allowed = allowed
        self._look_up = look_up
        self._known_seconds = known_seconds
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, asyncio.Future[Addresses]] = {}
        self._turns: WeakValueDictionary[UUID | None, asyncio.Semaphore] = WeakValueDictionary()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="resolve")

    def known(self, host: str) -> Addresses | None:
        """Its addresses, if they were looked up and checked a moment ago."""
        known = self._known.get(host)
        return known.addresses if known is not None and time.monotonic() < known.until else None

    async def addresses(self, host: str, port: int, *, whose: UUID | None = None) -> Addresses:
        """Every address, looked up now, in the system's order; `Refused` if *any* is not allowed; `Unavailable`.

        `whose`: the tenant that asks.
        """
        # Who gives up waiting leaves the answer to the others.
        return await asyncio.shield(self._asked.get(host) or await self._ask(host, port, whose))

    def close(self) -> None:
        """Drops what is still waiting to be looked up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, host: str, port: int, whose: UUID | None) -> asyncio.Future[Addresses]:
        turn = self._turns.setdefault(whose, asyncio.Semaphore(_AT_ONCE_EACH))
        await turn.acquire()
        if host in self._asked:  # by somebody else meanwhile
            turn.release()
            return self._asked[host]
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._checked, host, port)
        self._asked[host] = asked
        asked.add_done_callback(partial(self._answered, host, turn))
        return asked

    def _answered(self, host: str, turn: asyncio.Semaphore, answer: asyncio.Future[Addresses]) -> None:
        turn.release()
        del self._asked[host]
        if answer.cancelled() or answer.exception() is not None:
            return
        self._known.pop(host, None)
        self._known[host] = _Known(answer.result(), time.monotonic() + self._known_seconds)
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def _checked(self, host: str, port: int) -> Addresses:
        try:
            found = [ip_address(address) for address in self._look_up(host, port)]
        except (OSError, UnicodeError) as error:
            raise Unavailable("The host name cannot be resolved.") from error
        if not all(self._allowed(address) for address in found):
            raise Refused("The host has an address that is not public, or is our own.", code="address_not_public")
        return tuple(dict.fromkeys(str(address) for address in found))
