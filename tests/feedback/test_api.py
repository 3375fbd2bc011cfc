"""Routes and the address for SNS, over HTTP."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio
from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from broker import problems, web
from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.errors import BrokerError, Unauthenticated
from broker.feedback.api import RouteController, SnsController
from broker.feedback.flusher import Flusher
from broker.feedback.ingest import Ingest
from broker.feedback.known import KnownTopics
from broker.feedback.receive import Receiver
from broker.feedback.signature import Certificates, Verifier
from tests.feedback import sns
from tests.feedback.conftest import Savepoint, World, ingest_role, route_of
from tests.feedback.examples import bounce, notified
from tests.feedback.test_receive import Confirmer


class ByHeader(AbstractAuthenticationMiddleware):
    """The tenant that the header names; public routes need none."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        tenant = connection.headers.get("x-tenant")
        if tenant is None and not connection.route_handler.opt.get("public"):
            raise Unauthenticated("Send an API key.")
        tenant_id = UUID(tenant) if tenant else None
        return AuthenticationResult(user=tenant_id, auth=Caller(tenant_id=tenant_id, scopes=frozenset(Scope)))


@pytest_asyncio.fixture
async def http(db: Database, keyring: Keyring) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with these two controllers."""
    flusher = Flusher(partial(Ingest(Savepoint(db), keyring).take, now=sns.NOW))
    verifier = Verifier(Certificates(sns.Certificates()), partition="aws", endpoint_origin=None)
    receiver = Receiver(ingest_role(db), KnownTopics(Savepoint(db)), verifier, flusher, Confirmer(), body_limit=50_000)
    app: Any = Litestar(
        route_handlers=[RouteController, SnsController],
        middleware=[ByHeader],
        dependencies={
            "db": Provide(lambda: db, sync_to_thread=False),
            "caller": Provide(web.provide_caller),
            "receiver": Provide(lambda: receiver, sync_to_thread=False),
        },
        exception_handlers={BrokerError: problems.answer_broker_error, HTTPException: problems.answer_http_error},
    )
    await flusher.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker") as client:
        yield client
    await flusher.stop()


def as_tenant(caller: Caller) -> dict[str, str]:
    return {"x-tenant": str(caller.tenant)}


def posted(world: World) -> dict[str, Any]:
    payload = notified("Bounce", bounce(), sourceArn=world.identity_arn)
    return sns.signed(sns.notification(payload, TopicArn=world.topic_arn))


async def post(http: httpx.AsyncClient, fields: dict[str, Any], **headers: str) -> httpx.Response:
    """As SNS posts: JSON that calls itself plain text."""
    given = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification"} | headers
    return await http.post("/v1/feedback/sns", content=sns.body(fields), headers=given)


async def test_each_party_sees_the_route_of_its_grant(world: World, http: httpx.AsyncClient) -> None:
    owners = (await http.get("/v1/routes", headers=as_tenant(world.owner))).json()["items"]
    delegates = (await http.get("/v1/routes", headers=as_tenant(world.delegate))).json()["items"]

    assert [str(world.grant_id), str(world.second_grant_id)] == [route["grant_id"] for route in owners]
    assert [str(world.grant_id)] == [route["grant_id"] for route in delegates]
    assert ["configured"] == [route["state"] for route in delegates]


async def test_the_topic_is_shown_to_the_owner_only(world: World, http: httpx.AsyncClient) -> None:
    path = f"/v1/routes/{(await route_of(world, world.grant_id)).id}"

    assert world.topic_arn == (await http.get(path, headers=as_tenant(world.owner))).json()["topic_arn"]
    assert (await http.get(path, headers=as_tenant(world.delegate))).json()["topic_arn"] is None


async def test_a_strangers_route_is_not_found(world: World, http: httpx.AsyncClient) -> None:
    path = f"/v1/routes/{(await route_of(world, world.grant_id)).id}"

    assert 404 == (await http.get(path, headers=as_tenant(world.second))).status_code
    assert 401 == (await http.get(path)).status_code


async def test_routes_come_in_pages(world: World, http: httpx.AsyncClient) -> None:
    first = (await http.get("/v1/routes?page_size=1", headers=as_tenant(world.owner))).json()
    token = first["next_page_token"]
    rest = (await http.get(f"/v1/routes?page_size=1&page_token={token}", headers=as_tenant(world.owner))).json()
    found = [*first["items"], *rest["items"]]
    chosen = await http.get(f"/v1/routes?grant_id={world.second_grant_id}", headers=as_tenant(world.owner))

    assert [str(world.grant_id), str(world.second_grant_id)] == [route["grant_id"] for route in found]
    assert rest["next_page_token"] is None
    assert [found[1]] == chosen.json()["items"]


async def test_sns_is_told_200_without_a_key(world: World, http: httpx.AsyncClient) -> None:
    answer = await post(http, posted(world))

    assert (200, b"") == (answer.status_code, answer.content)
    assert ["email.bounced"] == [event.type for event in await world.events(world.delegate)]


async def test_each_refusal_is_a_problem_of_its_own(world: World, http: httpx.AsyncClient) -> None:
    refused = [
        await post(http, posted(world) | {"Message": "forged"}),
        await post(http, posted(world) | {"TopicArn": sns.TOPIC}),
        await post(http, {"Type": "Notification"}),
        await post(http, posted(world), **{"x-amz-sns-rawdelivery": "true"}),
        await post(http, posted(world) | {"Message": "x" * 50_000}),
    ]

    assert [403, 404, 400, 400, 413] == [answer.status_code for answer in refused]
    assert {"application/problem+json"} == {answer.headers["content-type"] for answer in refused}
    assert [] == await world.events(world.delegate)


def test_the_schema_says_what_sns_sends() -> None:
    nothing = Provide(lambda: None, sync_to_thread=False)
    schema = Litestar(route_handlers=[SnsController], dependencies={"receiver": nothing}).openapi_schema.to_schema()
    operation = schema["paths"]["/v1/feedback/sns"]["post"]

    assert ["text/plain"] == list(operation["requestBody"]["content"])
    assert {"200", "400", "403", "404", "409", "413", "503"} <= set(operation["responses"])
