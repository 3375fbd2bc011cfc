"""One HTTP/1.1 connection: writes a request, reads its answer as it arrives (llhttp), within limits.

An exchange is a write, a future and a timer: no task, no stream, no parser of its own.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import httptools
import msgspec

MOST_HEAD = 32_768
"""Bytes up to the body, informational answers (1xx) included."""
_MOST_WRAPPED = 8
"""A body cut into crumbs may take this many times its own size."""


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

    def get_write_buffer_size(self) -> int: ...


class Wire(asyncio.Protocol):
    """One connection to `address`; one exchange at a time. `usable`: another exchange may begin."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.usable = False
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: _Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)  # it begins anew by itself after each answer

    async def exchange(self, request: bytes, *, most: int, deadline: float) -> Reply:
        """Sends `request` and reads its answer with at most `most` bytes of body, by `deadline` (the loop's time).

        Raises `BrokenOff` or `TimeoutError`. The connection is usable again only after a whole answer.
        """
        if self._transport is None or not self.usable:
            raise BrokenOff("The connection is closed.", answered=False)
        self.usable = False
        self._most = most
        self._fields: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._status = 0  # until the head is complete
        self._size = 0
        self._limit = MOST_HEAD
        self._waiter = self._loop.create_future()
        alarm = self._loop.call_at(deadline, self._expire)
        try:
            self._transport.write(request)
            return await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None
            if not self.usable:
                self.abort()

    def abort(self) -> None:
        """Drops the connection at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, _Transport):
            self._transport = transport
            self.usable = True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # bytes that nobody asked for: the next answer could be a forged one
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("The answer is not HTTP/1.1.")
        if self._size > self._limit:
            self._overflow()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._waiter and self._status and not self._framed():
            self._finish(clipped=False)  # a body that ends with the connection
        self._fail("The connection was closed before the answer was complete.")

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.usable = False  # a second answer right behind the first

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:  # a trailer is none of the head's (RFC 9110, 6.5.1)
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._fields.clear()  # 100 Continue, 103 Early Hints: the answer is still to come
            return
        self._status = status
        self._limit = self._size + MOST_HEAD + _MOST_WRAPPED * self._most
        if self._size > MOST_HEAD and sum(len(name) + len(value) for name, value in self._fields) > MOST_HEAD:
            self._fail("The head of the answer is too large.")

    def on_body(self, body: bytes) -> None:
        room = self._most - len(self._body)
        self._body += body[:room]
        if len(body) > room:
            self._finish(clipped=True)

    def on_message_complete(self) -> None:
        if self._status:
            self._finish(clipped=False)

    # How an exchange ends.

    def _finish(self, *, clipped: bool) -> None:
        if self._waiter is None or self._waiter.done():
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._fields}
        self._waiter.set_result(Reply(self._status, headers, bytes(self._body), clipped))
        # A peer that answered before it had the whole request may take the rest of it for the next one.
        sent = self._transport is not None and not self._transport.get_write_buffer_size()
        self.usable = not clipped and sent and self._parser.should_keep_alive()

    def _fail(self, detail: str) -> None:
        self.usable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(BrokenOff(detail, answered=self._size > 0))

    def _overflow(self) -> None:
        if self._status:
            self._finish(clipped=True)
        else:
            self._fail("The head of the answer is too large.")

    def _expire(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def _framed(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._fields)
