"""A way to a server that can be cut off, as by a network or a server that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import URL


class Cable:
    """Carries connections to `host` and `port` while it is `whole`; `cut` ends those that there are."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None] | None] = set()
        self.whole = True
        self.refused = 0

    def cut(self) -> None:
        self.whole = False
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self.whole = True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways, until either end closes it."""
        if not self.whole:
            self.refused += 1
            writer.transport.abort()
            return
        self._tasks.add(asyncio.current_task())
        there = await asyncio.open_connection(self._host, self._port)
        mine = {writer, there[1]}
        self._open |= mine
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        self._open -= mine
        for each in mine:
            with suppress(OSError):
                await each.wait_closed()

    async def end(self) -> None:
        """Cuts it for good, and waits until every connection is closed."""
        self.cut()
        await asyncio.gather(*filter(None, self._tasks))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def cable(url: URL) -> AsyncIterator[tuple[Cable, URL]]:
    """A cable to a database, and the URL by which it is reached through it."""
    found = Cable(url.host or "127.0.0.1", url.port or 5432)
    server = await asyncio.start_server(found.carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield found, url.set(host="127.0.0.1", port=port)
    finally:
        server.close()
        await found.end()
