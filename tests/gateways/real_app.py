"""The ASGI app that uvicorn serves in the tests: each path answers in its own way."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Tells how much of a body came."""
    if scope["type"] != "http":
        return
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = [(b"x-size", str(size).encode())]
    chunks = {"/chunked": [b"first,", b"second,", b"third"], "/nothing": [], "/large": [b"x" * 1_000_000]}
    body = chunks.get(scope["path"], [b"ok"])
    if scope["path"] == "/ok":
        headers.append((b"content-length", b"2"))
    if scope["path"] == "/closing":
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 204 if not body else 200, "headers": headers})
    for chunk in body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
