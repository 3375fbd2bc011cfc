"""In front of the web application: who comes without a key is counted by address, before anything is done for it.

A key is looked up further in, where a wrong one is counted in the same buckets (`tenants/auth.py`); so a request with a
valid key costs nothing here, and is never held up by what others do at its address.
"""

import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

import structlog

from broker.ids import new_id
from broker.problems import send_problem
from broker.tenants.auth import bearer
from broker.tenants.keys import looks_like_one
from broker.tenants.visits import Visits

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class Porch:
    """An ASGI application: refuses with 429 and hands everything else on.

    `free`: paths that are never counted; `open_to_all`: where paths begin at which no key is looked up, so that a
    made-up one must not count there. (What is not there at all costs no more than a refusal.)
    """

    def __init__(self, app: Asgi, visits: Visits, *, free: Collection[str], open_to_all: str) -> None:
        self._app = app
        self._visits = visits
        self._free = frozenset(free)
        self._open_to_all = open_to_all

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """ASGI 3.0."""
        if scope["type"] == "http" and self._counts(scope):
            client = scope.get("client")
            refusal = self._visits.take(client[0] if client else "", now=time.monotonic())
            if refusal is not None:
                structlog.contextvars.bind_contextvars(request_id=str(new_id()))
                await send_problem(send, refusal, scope["path"])
                return
        await self._app(scope, receive, send)

    def _counts(self, scope: Message) -> bool:
        path = scope["path"]
        return path not in self._free and (path.startswith(self._open_to_all) or not _has_key(scope))


def _has_key(scope: Message) -> bool:
    """Whether it brings what may be a key."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    token = bearer(header.decode("latin-1"))
    return token is not None and looks_like_one(token)
