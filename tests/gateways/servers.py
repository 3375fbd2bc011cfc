"""Servers on loopback that answer with exactly the bytes they are told, well-behaved or not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

TENANT = UUID(int=1)

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """Counts connections and keeps the requests that came in, heads and bodies."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """The next request of a connection, by its Content-Length."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = await reader.readexactly(length)
        self.requests.append(head + body)
        return head + body


@asynccontextmanager
async def serving(
    answer: Callable[[Scripted, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Scripted]:
    """A server that lets `answer` play each connection, and closes it afterwards."""
    scripted = Scripted()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        scripted.connections += 1
        try:
            await answer(scripted, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(play, host, port, ssl=tls, backlog=512)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()


def always(*chunks: bytes) -> Callable[[Scripted, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Answers every request with these chunks, each flushed by itself, on connections that are kept."""

    async def answer(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await scripted.request(reader)
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)

    return answer


def once(*chunks: bytes) -> Callable[[Scripted, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Answers one request, and closes."""

    async def answer(scripted: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await scripted.request(reader)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()

    return answer
