"""A way to a server that can be made bad: slow, silent, broken off, closed on one side, refused."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url

LOOPBACK = "127.0.0.1"
AT_ONCE = 65_536


class Proxy:
    """Between clients and one server over TCP. Everything may be changed while connections are open."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.connections = 0
        self.latency = 0.0
        """Seconds by which each piece of data is late, each way."""
        self.cut_after: int | None = None
        """Bytes of the server's that get through on each connection from now on; then it is reset."""
        self.silent_after: list[bytes] = []
        """Once clients have sent these, one after the other, and all was passed on, nothing comes back any more."""
        self._there = (host, port)
        self._flows = {way: asyncio.Event() for way in ("up", "down")}
        for flow in self._flows.values():
            flow.set()
        self._refusing = False
        self._pairs: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Proxy"]:
        """The proxy, at its `port`."""
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.forget()
            await asyncio.gather(*self._pairs, return_exceptions=True)
            self.reset()
            await asyncio.sleep(0)  # for what a reset leaves to the loop

    def url(self, url: str) -> str:
        """The URL of the server, by way of here."""
        return make_url(url).set(host=LOOPBACK, port=self.port).render_as_string(hide_password=False)

    def stall(self, *ways: str) -> None:
        """Nothing gets through any more, nothing is refused; `ways`: only `up` (to the server) or only `down`."""
        for way in ways or self._flows:
            self._flows[way].clear()

    def flow(self) -> None:
        """Ends `stall`, `silent_after` and `refuse`."""
        self._refusing = False
        self.silent_after = []
        for flow in self._flows.values():
            flow.set()

    def refuse(self) -> None:
        """Every connection is reset, and every new one at once."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """Breaks all connections off with a reset on the client's side."""
        for here, there in self._pairs.values():
            _reset(here)
            _reset(there)

    def forget(self) -> None:
        """Connections that are open now carry nothing any more and are never ended; new ones are as good as ever."""
        for task in self._pairs:
            task.cancel()

    def half_close(self) -> None:
        """The server's side says that it has no more to say, and still reads."""
        for here, _ in self._pairs.values():
            here.write_eof()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refuses(writer):
            return
        there_reader, there_writer = await asyncio.open_connection(*self._there)
        if self._refuses(writer, there_writer):  # since it began to connect
            return
        pair = (writer, there_writer)
        for source, target, way in ((reader, there_writer, "up"), (there_reader, writer, "down")):
            task = asyncio.create_task(self._pipe(source, target, way))
            self._pairs[task] = pair

    def _refuses(self, *writers: asyncio.StreamWriter) -> bool:
        """Whether it refuses; then these are reset."""
        for writer in writers if self._refusing else ():
            _reset(writer)
        return self._refusing

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        try:
            while data := await reader.read(AT_ONCE):
                await self._flows[way].wait()
                await asyncio.sleep(self.latency)
                if way == "down" and self.cut_after is not None:
                    data, self.cut_after = data[: self.cut_after], max(0, self.cut_after - len(data))
                if way == "up" and self.silent_after and self.silent_after[0] in data:
                    self.silent_after.pop(0)
                    if not self.silent_after:
                        self.stall("down")
                writer.write(data)
                await writer.drain()
                if way == "down" and self.cut_after == 0:
                    _reset(writer)
            writer.write_eof()
        except ConnectionError:
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN (socket(7), SO_LINGER)."""
    found = writer.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
