"""A customer of the broker: its API with a key of its own, its AWS account, its webhooks."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import msgspec
from standardwebhooks import Webhook, WebhookVerificationError

from broker.local.aws_account import AwsAccount
from broker.local.telling import PATIENCE_S, Untrue, wait_for


class Api:
    """The HTTP API, under one party's key."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """``key`` None: nobody's, as when registering."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False)

    def get(self, path: str, **query: str) -> Any:
        """The JSON at a path."""
        return self._good(self._http.get(path, params=query)).json()

    def text(self, path: str, **query: str) -> str:
        """The text at a path."""
        return self._good(self._http.get(path, params=query)).text

    def post(self, path: str, body: object = None, *, etag: str | None = None) -> Any:
        """The JSON that a POST answers. Every POST has an Idempotency-Key, so that it could be sent again."""
        return self._good(self._post(path, body, etag)).json()

    def refused(self, path: str, body: object = None, *, etag: str | None = None) -> tuple[int, str]:
        """Status and sentence of the problem that a POST gets.

        Raises:
            Untrue: it was not refused.
        """
        answer = self._post(path, body, etag)
        if answer.status_code < 400:
            raise Untrue(f"POST {path} was to be refused and got {answer.status_code}.")
        return answer.status_code, str(answer.json().get("detail", ""))

    def status(self, path: str) -> int:
        """The status that a GET gets."""
        return self._http.get(path).status_code

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _post(self, path: str, body: object, etag: str | None) -> httpx.Response:
        headers = {"idempotency-key": str(uuid4())} | ({"if-match": etag} if etag else {})
        if body is None:
            return self._http.post(path, headers=headers)
        return self._http.post(path, json=body, headers=headers)

    def _good(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        request = answer.request
        raise Untrue(f"{request.method} {request.url.path} got {answer.status_code}: {answer.text[:600]}")


class Heard(msgspec.Struct, frozen=True):
    """One webhook whose signature was right. `at` is when the receiver had it, in unix seconds."""

    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]
    at: float
    body: str

    @property
    def delay_ms(self) -> int:
        """From the event to the receiver."""
        return round((self.at - self.timestamp.timestamp()) * 1000)


class Inbox:
    """What a party's receiver got, each checked with the `standardwebhooks` library."""

    def __init__(self, url: str, secret: str) -> None:
        """``url`` is the receiver's, ``secret`` what the broker showed when the endpoint was made."""
        self._http = httpx.Client(base_url=url, timeout=20, trust_env=False)
        self._webhook = Webhook(secret)
        self.heard: list[Heard] = []

    def read(self) -> list[Heard]:
        """Everything so far, oldest first.

        Raises:
            Untrue: a signature is not right.
        """
        for received in self._http.get("/received", params={"after": len(self.heard)}).json():
            headers, body = received["headers"], received["body"]
            try:
                told = self._webhook.verify(body, headers)
            except WebhookVerificationError as error:
                raise Untrue(f"A webhook's signature is not right: {error}; {body[:300]}") from error
            at = datetime.fromisoformat(told["timestamp"])
            self.heard.append(Heard(headers["webhook-id"], told["type"], at, told["data"], received["at"], body))
        return self.heard

    def wait(self, what: str, fits: Callable[[Heard], bool], deadline_s: float = PATIENCE_S) -> Heard:
        """The first webhook that fits, now or soon."""
        return wait_for(what, lambda: next((each for each in self.read() if fits(each)), None), deadline_s)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


class Party:
    """One tenant with all that is its own."""

    def __init__(self, name: str, *, api_url: str, roles: list[str], aws: AwsAccount) -> None:
        """Register with the broker."""
        registering = Api(api_url)
        made = registering.post("/v1/tenants", {"name": name, "roles": roles})
        registering.close()
        self.name = name
        self.id = str(made["tenant"]["id"])
        self.key = str(made["secret"])
        self.aws = aws
        self.api = Api(api_url, self.key)
        self._inbox: Inbox | None = None

    def listen(self, receiver_url: str) -> None:
        """Have webhooks sent to a receiver."""
        made = self.api.post("/v1/endpoints", {"url": f"{receiver_url}/hook", "description": self.name})
        self._inbox = Inbox(receiver_url, made["secret"])

    @property
    def inbox(self) -> Inbox:
        """Its webhooks."""
        if self._inbox is None:
            raise Untrue(f"{self.name} has no webhook.")
        return self._inbox

    def grant(self, grant_id: str) -> Any:
        """A grant as this party sees it."""
        return self.api.get(f"/v1/grants/{grant_id}")

    def wait_for_state(self, path: str, *states: str) -> Any:
        """The resource at a path, once it is in one of these states."""

        def look() -> Any:
            found = self.api.get(path)
            last.append(found)
            return found if found["state"] in states else None

        last: list[Any] = []
        began = time.monotonic()
        try:
            return wait_for(f"{path} {' or '.join(states)}", look)
        except Untrue as error:
            state, why = last[-1]["state"], last[-1].get("reason") or last[-1].get("error")
            raise Untrue(f"{error}; after {time.monotonic() - began:.0f} s it is {state} ({why}).") from error

    def close(self) -> None:
        """Close the connections."""
        self.api.close()
        if self._inbox is not None:
            self._inbox.close()
