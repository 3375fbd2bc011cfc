"""A customer's webhook receiver: a real HTTP server on loopback that checks nothing and remembers everything."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvicorn

from tests.webhooks.waiting import until


class Delivered(msgspec.Struct, frozen=True):
    """One request as it came in; header names in lower case."""

    headers: dict[str, str]
    body: bytes


class Reaction(msgspec.Struct, frozen=True):
    """What to answer, and what to wait for before."""

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b"thanks"
    gate: asyncio.Event | None = None


class Receiver:
    """Answers with `reactions` in turn, then with 200; or as `react` says for each request."""

    def __init__(self) -> None:
        self.delivered: list[Delivered] = []
        self.reactions: list[Reaction] = []
        self.react: Callable[[Delivered], Reaction] | None = None
        self.url = ""

    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.delivered]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        request = Delivered(headers, body)
        self.delivered.append(request)
        reaction = self._reaction(request)
        if reaction.gate is not None:
            await reaction.gate.wait()
        fields = [(name.encode(), value.encode()) for name, value in reaction.headers.items()]
        await send({"type": "http.response.start", "status": reaction.status, "headers": fields})
        await send({"type": "http.response.body", "body": reaction.body})

    def _reaction(self, request: Delivered) -> Reaction:
        if self.react is not None:
            return self.react(request)
        return self.reactions.pop(0) if self.reactions else Reaction()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the signals belong to pytest


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver at `receiver.url`, gone at the end."""
    receiver = Receiver()
    config = uvicorn.Config(
        receiver, host="127.0.0.1", port=0, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    yield receiver
    server.should_exit = True
    await serving
