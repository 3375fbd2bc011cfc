"""The door for SNS in front of the web application: the same receiver without a framework between.

A route of the framework costs more than twice as much per message, client included, and SNS is the one caller that
comes thousands of times a second. The documented route at the same path calls the same receiver.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import structlog

from broker import clock, log
from broker.errors import BrokerError, TooLarge
from broker.feedback.receive import Receiver
from broker.feedback.topics import FEEDBACK_PATH
from broker.headers import BARE
from broker.ids import new_id
from broker.problems import send_problem
from broker.webhooks.ledger.ledger import Count, Ledger

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]

SNS_HEADERS = b"x-amz-sns-"
STORED = ((b"content-length", b"0"), *BARE)

logger = log.get(__name__)


class Disconnected(Exception):
    """The sender went away before its message was complete; there is nobody to answer."""


class Door:
    """An ASGI application: takes POSTs to the feedback path itself and hands everything else on."""

    def __init__(self, app: Asgi, receiver: Receiver, *, body_limit: int, ledger: Ledger) -> None:
        self._app = app
        self._receiver = receiver
        self._body_limit = body_limit
        self._ledger = ledger

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3.0. Answers 200 once the message is stored, or the problem that the receiver raised."""
        if scope["type"] != "http" or scope["path"] != FEEDBACK_PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(receive)
            headers = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in scope["headers"]
                if name.startswith(SNS_HEADERS)
            }
            await self._receiver.receive(headers, body, now=clock.now())
        except Disconnected:
            return
        except BrokerError as error:
            if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
                self._ledger.count(Count.REFUSED, "ingest")
            _name_request()
            await send_problem(send, error, FEEDBACK_PATH)
        except Exception as error:
            _name_request()
            logger.error("feedback failed", exc_info=error)
            unforeseen = BrokerError("An unexpected error; it was logged under this request id.")
            await send_problem(send, unforeseen, FEEDBACK_PATH)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": STORED})
            await send({"type": "http.response.body", "body": b""})

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            if len(body) > self._body_limit:
                raise TooLarge(f"The body has more than {self._body_limit} bytes.")
            if not message.get("more_body", False):
                return bytes(body)


def _name_request() -> None:
    """Only where it will be asked for: it costs as much as parsing the message."""
    structlog.contextvars.bind_contextvars(request_id=str(new_id()))
