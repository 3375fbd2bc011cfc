"""One contract for the bare door and for the documented route behind it: the same answers to the same requests."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar

from broker.app import build
from broker.errors import Forbidden, NotFound, Unavailable
from broker.feedback.door import Door
from broker.feedback.receive import Receiver
from broker.parts import Parts
from broker.settings import Settings
from broker.webhooks.ledger.ledger import Ledger
from tests.app.conftest import transport_to

PATH = "/v1/feedback/sns"
PROBLEM = "application/problem+json"


class Scripted(Receiver):
    """A receiver that does what it is told to and notes what it got."""

    def __init__(self) -> None:
        self.raises: Exception | None = None
        self.got: list[tuple[Mapping[str, str], bytes]] = []

    async def receive(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """As `Receiver.receive`."""
        self.got.append((headers, body))
        if self.raises is not None:
            raise self.raises


@pytest.fixture(scope="module")
def receiver() -> Scripted:
    """The one behind both ways in."""
    return Scripted()


@pytest.fixture(scope="module")
def route(settings: Settings, receiver: Scripted) -> Litestar:
    """The web application, with the documented route."""
    parts = Parts(settings)
    parts.receiver = receiver
    return build(parts)


@pytest_asyncio.fixture(params=["door", "route"])
async def client(
    request: pytest.FixtureRequest, route: Litestar, receiver: Scripted, settings: Settings
) -> AsyncIterator[httpx.AsyncClient]:
    """SNS, coming in by the door or by the route."""
    receiver.raises = None
    receiver.got.clear()
    app: Any = route if request.param == "route" else door_to(route, receiver, settings)
    async with httpx.AsyncClient(transport=transport_to(app), base_url="http://broker") as client:
        yield client


def door_to(app: Any, receiver: Any, settings: Settings) -> Door:
    """The door in front of an application."""
    return Door(app, receiver, body_limit=settings.body_limit, ledger=Ledger())


async def test_a_message_that_was_stored_is_answered_with_200(client: httpx.AsyncClient, receiver: Scripted) -> None:
    """And the receiver got headers in lower case and the body as it came."""
    answer = await client.post(PATH, content=b'{"Type":"Notification"}', headers={"X-Amz-Sns-Message-Type": "N"})

    ((headers, body),) = receiver.got
    assert (200, b"") == (answer.status_code, answer.content)
    assert ("N", b'{"Type":"Notification"}') == (headers.get("x-amz-sns-message-type"), body)


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFound("This topic belongs to no route."), 404), (Forbidden("The signature does not fit."), 403)],
)
async def test_a_refusal_is_a_problem(
    client: httpx.AsyncClient, receiver: Scripted, error: Exception, status: int
) -> None:
    """With a sentence and a request id."""
    receiver.raises = error

    answer = await client.post(PATH, content=b"{}")

    problem = answer.json()
    assert (status, PROBLEM) == (answer.status_code, answer.headers["content-type"])
    assert (str(error), PATH) == (problem["detail"], problem["instance"])
    assert problem["request_id"]


async def test_our_own_trouble_is_503_and_says_when_to_come_back(client: httpx.AsyncClient, receiver: Scripted) -> None:
    """Never a 4xx: SNS tries again only after a 5xx or a 429."""
    receiver.raises = Unavailable("Too many messages wait.", retry_after=timedelta(seconds=7))

    answer = await client.post(PATH, content=b"{}")

    assert (503, "7") == (answer.status_code, answer.headers["retry-after"])


async def test_what_nobody_foresaw_is_500_without_its_trace(client: httpx.AsyncClient, receiver: Scripted) -> None:
    """So that SNS comes back, and learns nothing."""
    receiver.raises = ZeroDivisionError("secret")

    answer = await client.post(PATH, content=b"{}")

    assert (500, PROBLEM) == (answer.status_code, answer.headers["content-type"])
    assert "secret" not in answer.text


async def test_a_body_over_the_limit_is_never_read_to_its_end(
    client: httpx.AsyncClient, receiver: Scripted, settings: Settings
) -> None:
    """413, and the receiver hears nothing of it."""
    answer = await client.post(PATH, content=b"x" * (settings.body_limit + 1))

    assert (413, PROBLEM, []) == (answer.status_code, answer.headers["content-type"], receiver.got)


async def test_everything_else_goes_through_to_the_application(client: httpx.AsyncClient) -> None:
    """Other methods and other paths."""
    assert 405 == (await client.get(PATH)).status_code
    assert 401 == (await client.get("/v1/tenant")).status_code
    assert 200 == (await client.get("/health/live")).status_code
