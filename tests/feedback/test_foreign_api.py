"""Deciding and migrating over HTTP, and what is refused."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from sqlalchemy import select, update

from broker import problems, web
from broker.audit.models import AuditRow
from broker.caller import Caller
from broker.db import Database
from broker.errors import BrokerError, Invalid
from broker.feedback import decide
from broker.feedback.foreign_api import ForeignRouteController
from broker.feedback.foreign_terms import ForeignTopicSettings, TopicWanted
from broker.feedback.models import Route
from broker.grants.models import Grant
from broker.ids import new_id
from tests.conftest import MakeTenant
from tests.feedback.conftest import World
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.feedback.foreign import prove
from tests.feedback.test_api import ByHeader, as_tenant

TOPIC = f"arn:aws:sns:eu-west-1:{DELEGATE_ACCOUNT}:mine"


@pytest_asyncio.fixture
async def http(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with this one controller."""
    app: Any = Litestar(
        route_handlers=[ForeignRouteController],
        middleware=[ByHeader],
        dependencies={
            "db": Provide(lambda: db, sync_to_thread=False),
            "caller": Provide(web.provide_caller),
        },
        exception_handlers={BrokerError: problems.answer_broker_error, HTTPException: problems.answer_http_error},
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker") as client:
        yield client


async def make_route(world: World, kind: str, settings: dict[str, Any], **values: Any) -> UUID:
    route = Route(
        id=new_id(),
        tenant_id=world.owner.tenant,
        delegate_id=world.delegate.tenant,
        grant_id=world.grant_id,
        identity_id=world.identity_id,
        kind=kind,
        state=values.pop("state", "requested"),
        settings=settings,
        **values,
    )
    async with world.db.begin(world.delegate) as session:
        session.add(route)
    return route.id


@pytest_asyncio.fixture
async def asked(world: World) -> UUID:
    """A route that waits for the owner; the topic's account is the delegate's."""
    await prove(world.db, world.delegate, DELEGATE_ACCOUNT)
    return await make_route(world, "foreign_topic", {"bounce": {"topic_arn": TOPIC}})


async def say(
    http: httpx.AsyncClient, who: Caller, route_id: UUID, verb: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    return await http.post(f"/v1/routes/{route_id}/{verb}", headers=as_tenant(who), json=body or {})


async def actions(world: World, reader: Caller, route_id: UUID) -> list[str]:
    async with world.db.read(reader) as session:
        rows = await session.scalars(select(AuditRow).where(AuditRow.subject_id == route_id).order_by(AuditRow.id))
        return [row.action for row in rows]


async def test_the_owner_approves_and_both_can_read_it(world: World, http: httpx.AsyncClient, asked: UUID) -> None:
    answer = await say(http, world.owner, asked, "approve")

    assert (202, "pending", decide.SETTING_UP) == (
        answer.status_code,
        answer.json()["state"],
        answer.json()["reason"],
    )
    for reader in (world.owner, world.delegate):
        assert ["route.approved"] == await actions(world, reader, asked)


async def test_the_owner_declines_and_nothing_is_left_to_do(world: World, http: httpx.AsyncClient, asked: UUID) -> None:
    answer = await say(http, world.owner, asked, "decline", {"note": "We watch bounces ourselves."})

    assert (200, "removed") == (answer.status_code, answer.json()["state"])
    assert "The owner has declined. We watch bounces ourselves." == answer.json()["reason"]
    assert ["route.declined"] == await actions(world, world.delegate, asked)
    assert 409 == (await say(http, world.owner, asked, "approve")).status_code


@pytest.mark.parametrize("verb", ["approve", "decline"])
async def test_only_the_owner_decides(world: World, http: httpx.AsyncClient, asked: UUID, verb: str) -> None:
    assert 409 == (await say(http, world.delegate, asked, verb)).status_code
    assert [] == await actions(world, world.owner, asked)


@pytest.mark.parametrize(("verb", "body"), [("approve", {}), ("decline", {}), ("migrate", {"to": "identity_topic"})])
async def test_a_stranger_finds_nothing(
    world: World, http: httpx.AsyncClient, asked: UUID, verb: str, body: dict[str, Any]
) -> None:
    assert 404 == (await say(http, world.second, asked, verb, body)).status_code


async def test_what_is_approved_is_not_declined_any_more(world: World, http: httpx.AsyncClient, asked: UUID) -> None:
    await say(http, world.owner, asked, "approve")

    answer = await say(http, world.owner, asked, "decline")

    assert (409, True) == (answer.status_code, "DELETE /v1/routes/" in answer.json()["detail"])


async def test_what_stands_is_not_approved_again(world: World, http: httpx.AsyncClient, asked: UUID) -> None:
    await say(http, world.owner, asked, "approve")
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Route).where(Route.id == asked).values(state="configured"))

    assert 409 == (await say(http, world.owner, asked, "approve", {"replace": True})).status_code


async def test_a_topic_in_an_account_that_was_not_proven_is_not_approved(world: World, http: httpx.AsyncClient) -> None:
    """It may have been another tenant's all along."""
    route_id = await make_route(world, "foreign_topic", {"bounce": {"topic_arn": TOPIC}})

    answer = await say(http, world.owner, route_id, "approve")

    assert (409, True) == (answer.status_code, f"not proven account {DELEGATE_ACCOUNT}" in answer.json()["detail"])


async def test_a_stranger_s_account_is_refused_when_it_is_asked_for(world: World, make_tenant: MakeTenant) -> None:
    await prove(world.db, await make_tenant("delegate"), DELEGATE_ACCOUNT)
    wanted = ForeignTopicSettings(bounce=TopicWanted(topic_arn=TOPIC))

    with pytest.raises(Invalid, match=f"You have not proven account {DELEGATE_ACCOUNT}"):
        async with world.db.begin(world.delegate) as session:
            await decide.check_request(session, await session.get_one(Grant, world.grant_id), wanted)


async def test_a_route_of_another_kind_is_not_decided(world: World, http: httpx.AsyncClient) -> None:
    old = await make_route(world, "legacy", {})
    new = await make_route(world, "foreign_topic", {"bounce": {"topic_arn": TOPIC}})

    assert 409 == (await say(http, world.owner, old, "approve")).status_code
    assert 409 == (await say(http, world.delegate, new, "migrate", {"to": "identity_topic"})).status_code


async def test_a_migration_answers_with_both_routes_and_the_command(world: World, http: httpx.AsyncClient) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Grant).where(Grant.id == world.grant_id).values(terms=None))
    route_id = await make_route(world, "legacy", {}, state="configured")

    answer = await say(http, world.delegate, route_id, "migrate", {"to": "identity_topic"})

    told = answer.json()
    assert 202 == answer.status_code
    assert (str(route_id), "legacy") == (told["route"]["id"], told["route"]["kind"])
    assert ("identity_topic", "configured") == (told["new_route"]["kind"], told["new_route"]["state"])
    assert told["command"].startswith("aws sesv2 send-email --region eu-west-1 --from-email-address bounce-test@")
    assert ["route.migrating"] == await actions(world, world.owner, route_id)


async def test_an_edit_is_refused_for_what_is_not_there(world: World, http: httpx.AsyncClient) -> None:
    route_id = await make_route(
        world, "legacy", {}, state="configured", found={"notifications": {DELEGATE_ACCOUNT: {"bounce": {}}}}
    )
    path, me = f"/v1/routes/{route_id}/legacy", as_tenant(world.delegate)

    refused = await http.patch(path, headers=me, json={"delivery": {"topic_arn": TOPIC}})
    taken = await http.patch(path, headers=me, json={"bounce": {"include_headers": True}})

    assert [409, 202] == [refused.status_code, taken.status_code]
    assert "SES lets nobody create new cross-account notifications" in refused.json()["detail"]
    assert ["route.edited"] == await actions(world, world.delegate, route_id)
