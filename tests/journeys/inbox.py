"""A customer's webhook receiver: one HTTP server on loopback, a path for each inbox, every signature checked."""

from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

import msgspec
from standardwebhooks import Webhook


class Heard(msgspec.Struct, frozen=True):
    """One webhook whose signature was right."""

    id: str
    type: str
    data: dict[str, Any]
    body: str


class Inbox:
    """What came in at one path; read only with the secret that the broker showed when the endpoint was made."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.secret = ""
        self.posts: list[tuple[dict[str, str], str]] = []

    def read(self) -> list[Heard]:
        """Everything so far, verified with the library that customers use; WebhookVerificationError if one is not."""
        return [self._verified(headers, body) for headers, body in self.posts]

    def of(self, type_: str, **data: Any) -> list[Heard]:
        """Events of one type with these values in their data."""
        return [each for each in self.read() if each.type == type_ and data.items() <= each.data.items()]

    def of_grants(self) -> list[Heard]:
        """What is about a grant: everything but connections and the endpoint itself."""
        return [each for each in self.read() if each.type.startswith(("grant.", "email."))]

    def _verified(self, headers: dict[str, str], body: str) -> Heard:
        told = Webhook(self.secret).verify(body, headers)
        return Heard(headers["webhook-id"], told["type"], told["data"], body)


class Inboxes:
    """The receiver as an ASGI application. It answers 200 to what it knows."""

    def __init__(self) -> None:
        self.url = ""
        self._by_path: dict[str, Inbox] = {}

    def open(self) -> Inbox:
        """A new inbox with a URL of its own."""
        path = f"/{uuid4()}"
        self._by_path[path] = Inbox(self.url + path)
        return self._by_path[path]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        inbox = self._by_path.get(scope["path"])
        if inbox is not None:
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            inbox.posts.append((headers, body.decode()))
        await send({"type": "http.response.start", "status": 200 if inbox else 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})
