"""One connection of a generator: posts a message, reads the answer, and takes the next."""

import asyncio
from typing import Protocol

from bench.sink import Transport

RECONNECT_S = 0.1
_AGAIN_S = 1.0


class Work(Protocol):
    """What there is to send, and who wants to know what became of it."""

    port: int
    done: asyncio.Event

    def free(self, connection: "Connection") -> None: ...

    def lost(self, connection: "Connection") -> None: ...

    def answered(self, number: int, status: int, again_s: float) -> None: ...

    def count_try(self, number: int) -> None: ...


class Connection(asyncio.Protocol):
    """One kept-alive connection to the broker; one message at a time."""

    def __init__(self, load: Work) -> None:
        """Do ``load``."""
        self._load = load
        self._transport: Transport | None = None
        self._rest = b""
        self.number: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, for as long as it takes."""
        while not self._load.done.is_set():
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._load.port)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
            else:
                return

    def connect_later(self) -> None:
        """Connect in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self.connect())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for work."""
        if isinstance(transport, Transport):
            self._transport = transport
            self._rest = b""
            self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever was under way got no answer."""
        self._load.lost(self)

    def send(self, number: int, requests: list[bytes]) -> None:
        """Post a message."""
        self.number = number
        self._load.count_try(number)
        if self._transport is not None:
            self._transport.write(requests[number])

    def data_received(self, data: bytes) -> None:
        """Read the answer."""
        data = self._rest + data if self._rest else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return
        head = data[:end].lower()
        if len(data) < end + 4 + int(_header(head, b"content-length") or 0):
            self._rest = data
            return
        self._rest = b""
        number, self.number = self.number, None
        status = int(data[9:12])
        again = 0.0 if status == 200 else float(_header(head, b"retry-after") or _AGAIN_S)
        if _header(head, b"connection") == b"close":
            if self._transport is not None:
                self._transport.close()
        else:
            self._load.free(self)
        if number is not None:
            self._load.answered(number, status, again)


def _header(head: bytes, name: bytes) -> bytes:
    """A header's value, empty where there is none; ``head`` is in lower case."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end > 0 else len(head)].strip()
