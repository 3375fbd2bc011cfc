"""The broker's HTTP API as `broker listen` and `broker trigger` use it, under a tenant's key."""

import contextlib
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from broker.local.child import StartError
from broker.local.keepalive import NoAnswer, NotThere, Reply, Server

TIMEOUT_S = 20.0
LONGEST_WAIT_S = 60.0
T = TypeVar("T")


class Away(Exception):
    """The API cannot answer just now; the text says why, `after_s` when to ask again."""

    def __init__(self, why: str, *, after_s: float = 1.0) -> None:
        super().__init__(why)
        self.after_s = after_s


class Missing(Exception):
    """404: there is nothing at this path."""


class _Problem(msgspec.Struct, frozen=True):
    title: str = ""
    detail: str = ""


class Asking:
    """Reads from the API."""

    def __init__(self, url: str, key: str) -> None:
        """``url`` is where the API is, with or without a path before ``/v1``.

        Raises:
            StartError: it is no URL of http or https.
        """
        self._server = Server(url, timeout_s=TIMEOUT_S)
        self._prefix = self._server.path.rstrip("/")
        self.url = self._server.url + self._prefix
        if not key.isascii() or not key.isprintable():
            raise StartError("The API key holds characters that no API key has.")
        self._headers = {"authorization": f"Bearer {key}", "accept": "application/json"}

    def get(self, path: str, kind: type[T], **query: str) -> T:
        """What is at a path, as ``kind``.

        Raises:
            Away: no answer, 429 or 5xx.
            Missing: 404.
            StartError: what asking again does not change, such as 401.
        """
        reply = self._answer(path + (f"?{urlencode(query)}" if query else ""))
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.MsgspecError as error:
            raise StartError(f"{self.url}{path} does not answer as the broker's API does: {error}") from error

    def get_all(self, path: str, **query: str) -> list[Any]:
        """The items of all pages."""
        found: list[Any] = []
        page: dict[str, Any] = self.get(path, dict[str, Any], page_size="100", **query)
        found += page["items"]
        while token := page.get("next_page_token"):
            page = self.get(path, dict[str, Any], page_size="100", page_token=token, **query)
            found += page["items"]
        return found

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _answer(self, target: str) -> Reply:
        try:
            reply = self._server.ask("GET", self._prefix + target, self._headers)
        except (NotThere, NoAnswer) as error:
            raise Away(f"The API at {self.url} does not answer: {error}.") from error
        if reply.status == 200:
            return reply
        detail = _detail(reply)
        if reply.status == 429 or reply.status >= 500:
            raise Away(f"The API at {self.url} answers {reply.status}: {detail}", after_s=_wait(reply))
        if reply.status == 401:
            raise StartError(f"The API at {self.url} does not accept this key: {detail}")
        if reply.status == 404 and "problem" in reply.headers.get("content-type", ""):
            raise Missing(detail)
        raise StartError(f"The API at {self.url} answers {reply.status} to GET {target.partition('?')[0]}: {detail}")


def _detail(reply: Reply) -> str:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        problem = msgspec.json.decode(reply.body, type=_Problem)
        return problem.detail or problem.title
    return reply.body[:200].decode(errors="replace").strip() or "nothing more"


def _wait(reply: Reply) -> float:
    given = reply.headers.get("retry-after", "")
    return min(float(given), LONGEST_WAIT_S) if given.isdigit() else 1.0
