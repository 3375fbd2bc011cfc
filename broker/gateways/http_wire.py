"""One HTTP/1.1 connection: writes a request, parses the answer as it arrives (httptools), within limits."""

import asyncio
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import httptools
import msgspec

MOST_HEAD = 32_768
_LARGE_HEAD = "The head of the answer is too large."
_NO_BODY_LENGTH = ("content-length", "transfer-encoding")


class Reply(msgspec.Struct, frozen=True):
    """An answer. Header names are lower-case, of repeated ones the last counts. `clipped`: there was more body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    clipped: bool


class BrokenOff(Exception):
    """The peer closed or broke the protocol. `answered`: it had sent something of this answer."""

    def __init__(self, detail: str, *, answered: bool) -> None:
        super().__init__(detail)
        self.answered = answered


@runtime_checkable
class _Transport(Protocol):
    """What is used of a transport. uvloop's are not subclasses of asyncio's."""

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool: ...


class Wire(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self) -> None:
        self._transport: _Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._most = 0
        self._reset()
        self.reusable = True

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin."""
        return self.reusable and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, *, most: int) -> Reply:
        """Sends `request` and waits for its answer, of which at most `most` bytes of body are read; `BrokenOff`."""
        if self._transport is None or not self.usable:
            raise BrokenOff("The connection is closed.", answered=False)
        self._most = most
        self._reset()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(request)
            return await self._waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiter = None
            if not self.reusable:
                self.abort()

    def abort(self) -> None:
        """Drops the connection at once."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._head_size = 0
        self._head_parsed = 0
        self._received = False
        self._head_done = False

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, _Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # bytes that nobody asked for: the next answer could be a forged one
            return
        self._received = True
        if not self._head_done:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("The answer is not HTTP/1.1.")
        if not self._head_done and self._head_size > MOST_HEAD:
            self._fail(_LARGE_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        ends_by_closing = self._head_done and not any(name in self._headers for name in _NO_BODY_LENGTH)
        if exc is None and ends_by_closing:
            self._finish(clipped=False)
        else:
            self._fail("The connection was closed before the answer was complete.")

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.reusable = False  # a second answer right behind the first: nobody asked for it

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_parsed += len(name) + len(value)
        if self._head_parsed > MOST_HEAD:
            self._fail(_LARGE_HEAD)
            return
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._head_done = True

    def on_body(self, body: bytes) -> None:
        room = self._most - len(self._body)
        self._body += body[:room]
        if len(body) > room:
            self.reusable = False
            self._finish(clipped=True)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._headers.clear()  # 100 Continue, 103 Early Hints: the answer is still to come
            return
        if not self._parser.should_keep_alive():
            self.reusable = False
        self._finish(clipped=False)

    def _finish(self, *, clipped: bool) -> None:
        if self._waiter is None or self._waiter.done():
            return
        status = self._parser.get_status_code()
        self._waiter.set_result(Reply(status, self._headers, bytes(self._body), clipped))

    def _fail(self, detail: str) -> None:
        self.reusable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BrokenOff(detail, answered=self._received))
