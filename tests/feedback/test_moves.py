"""What each party may do with routes over HTTP: the one table of kinds, walked, and what is refused with what words."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, text, update

from broker.db import Role
from broker.feedback.kinds import KINDS
from broker.feedback.models import Route, Topic
from broker.feedback.requests import activated, ended
from broker.feedback.views import RouteKind, RouteState
from broker.grants.models import Grant
from broker.ids import new_id
from tests.feedback.conftest import ChangeGrant, World, route_of
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.feedback.sns import NOW
from tests.feedback.test_api import as_tenant, http

__all__ = ["http"]


# The least that each kind asks for.
LEAST: dict[RouteKind, dict[str, Any]] = {kind: {} for kind in RouteKind} | {
    RouteKind.foreign_topic: {"bounce": {"topic_arn": f"arn:aws:sns:eu-west-1:{DELEGATE_ACCOUNT}:bounces"}}
}


async def make(http: httpx.AsyncClient, world: World, side: str, kind: str, **more: Any) -> httpx.Response:
    caller = world.owner if side == "owner" else world.delegate
    body = {"grant_id": str(world.grant_id), "kind": kind, **more}
    return await http.post("/v1/routes", json=body, headers=as_tenant(caller))


async def no_routes(world: World) -> None:
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(state="removed"))


async def prove(world: World) -> None:
    """The delegate's account is proven to be its own."""
    async with world.db.begin(world.delegate) as session:
        named = {"id": new_id(), "tenant": world.delegate.tenant, "account": DELEGATE_ACCOUNT}
        for statement in (
            (
                "INSERT INTO connections (id, tenant_id, kind, account_id, regions, external_id, state)"
                " VALUES (:id, :tenant, 'proof', :account, '{eu-west-1}', 'external', 'verified')"
            ),
            "INSERT INTO accounts (account_id, tenant_id, connection_id) VALUES (:account, :tenant, :id)",
        ):
            await session.execute(text(statement), named)


async def path_of(world: World) -> str:
    return f"/v1/routes/{(await route_of(world, world.grant_id)).id}"


async def actions(world: World) -> list[str]:
    async with world.db.read(world.delegate) as session:
        return list(await session.scalars(text("SELECT action FROM audit WHERE subject_kind = 'route' ORDER BY id")))


@pytest.mark.parametrize("side", ["owner", "delegate"])
@pytest.mark.parametrize("kind", list(RouteKind))
async def test_a_kind_is_made_by_whom_the_table_names(
    world: World, http: httpx.AsyncClient, kind: RouteKind, side: str
) -> None:
    """A kind that this installation does not set up is refused to those who might make it."""
    await no_routes(world)
    await prove(world)
    answer = await make(http, world, side, kind, settings=LEAST[kind])

    rule = KINDS[kind]
    made = 202 if rule.settings is not None else 409
    assert (made if side in rule.makers else 403) == answer.status_code
    if side not in rule.makers:
        assert f"may make a route of the kind {kind.value}." in answer.json()["detail"]


@pytest.mark.parametrize("side", ["owner", "delegate"])
@pytest.mark.parametrize("kind", list(RouteKind))
async def test_a_kind_is_removed_and_seen_by_whom_the_table_names(
    world: World, http: httpx.AsyncClient, kind: RouteKind, side: str
) -> None:
    async with world.db.begin(world.owner) as session:
        mine = update(Route).where(Route.grant_id == world.grant_id)
        await session.execute(mine.values(kind=kind, previous={"a": 1}, found={"b": 1}, settings={"c": 1}))
    caller, rule = (world.owner if side == "owner" else world.delegate), KINDS[kind]
    path = await path_of(world)
    seen = (await http.get(path, headers=as_tenant(caller))).json()
    answer = await http.delete(path, headers=as_tenant(caller))

    assert (202 if side in rule.removers else 403) == answer.status_code
    inside = side == rule.inside
    assert ({"a": 1} if inside else None, {"b": 1} if inside else None) == (seen["previous"], seen["found"])
    assert ({"c": 1} if side in rule.choosers else None) == seen["settings"]
    assert (side not in rule.removers) == (await route_of(world, world.grant_id)).wanted


async def test_an_owner_makes_a_route_again_that_was_removed(world: World, http: httpx.AsyncClient) -> None:
    await no_routes(world)
    answer = await make(http, world, "owner", "identity_topic")

    told = answer.json()
    assert (202, "requested", "owner", {}) == (answer.status_code, told["state"], told["made_by"], told["settings"])
    assert world.topic_arn == told["topic_arn"]
    async with world.db.read(world.owner) as session:
        route = (await session.scalars(select(Route).where(Route.id == UUID(told["id"])))).one()
    assert route.due_at is not None
    assert ["route.requested"] == await actions(world)


async def test_a_grant_has_one_route_of_each_kind(world: World, http: httpx.AsyncClient) -> None:
    answer = await make(http, world, "owner", "identity_topic")

    assert 409 == answer.status_code
    assert "has a route of this kind already" in answer.json()["detail"]


async def test_unknown_settings_are_refused_with_the_field(world: World, http: httpx.AsyncClient) -> None:
    await no_routes(world)
    answer = await make(http, world, "owner", "identity_topic", settings={"colour": "red"})

    assert (422, "/settings/colour") == (answer.status_code, answer.json()["errors"][0]["pointer"])
    assert 422 == (await make(http, world, "owner", "identity_topic", settings=[])).status_code
    assert 422 == (await make(http, world, "owner", "pigeon")).status_code


async def test_a_stranger_finds_neither_grant_nor_route(world: World, http: httpx.AsyncClient) -> None:
    path, stranger = await path_of(world), as_tenant(world.second)
    body = {"grant_id": str(world.grant_id), "kind": "identity_topic"}
    answers = [
        await http.post("/v1/routes", json=body, headers=stranger),
        await http.post(f"{path}/check", headers=stranger),
        await http.post(f"{path}/repair", headers=stranger),
        await http.delete(path, headers=stranger),
    ]

    assert [404] * 4 == [answer.status_code for answer in answers]


async def test_a_grant_that_ended_gets_no_route_and_no_repair(
    world: World, http: httpx.AsyncClient, change_grant: ChangeGrant
) -> None:
    await change_grant(ended_at=NOW)
    path = await path_of(world)
    repaired = await http.post(f"{path}/repair", headers=as_tenant(world.owner))
    await no_routes(world)
    made = await make(http, world, "owner", "identity_topic")

    assert [409, 409] == [repaired.status_code, made.status_code]
    assert "has ended" in repaired.json()["detail"]
    assert "not in force" in made.json()["detail"]


@pytest.mark.parametrize("verb", ["check", "repair"])
@pytest.mark.parametrize("side", ["owner", "delegate"])
async def test_either_party_has_a_route_looked_at_now(
    world: World, http: httpx.AsyncClient, verb: str, side: str
) -> None:
    caller = world.owner if side == "owner" else world.delegate
    async with world.db.begin(world.owner) as session:
        mine = update(Route).where(Route.grant_id == world.grant_id)
        await session.execute(mine.values(state="broken", attempts=9, due_at=func.now() + text("interval '1 hour'")))
    answer = await http.post(f"{await path_of(world)}/{verb}", headers=as_tenant(caller))
    async with world.db.read(world.owner) as session:
        due = await session.scalar(select(Route.due_at <= func.now()).where(Route.grant_id == world.grant_id))
    route = await route_of(world, world.grant_id)

    assert (202, True, 0 if verb == "repair" else 9) == (answer.status_code, due, route.attempts)
    assert [f"route.{verb}_requested"] == await actions(world)


async def test_what_was_removed_is_not_looked_at_again(world: World, http: httpx.AsyncClient) -> None:
    path, owner = await path_of(world), as_tenant(world.owner)
    first = await http.delete(path, headers=owner)
    repair = await http.post(f"{path}/repair", headers=owner)
    await no_routes(world)
    answers = [await http.post(f"{path}/{verb}", headers=owner) for verb in ("check", "repair")]

    assert (202, False) == (first.status_code, first.json()["wanted"])
    assert (409, "This route is being removed.") == (repair.status_code, repair.json()["detail"])
    assert [409, 409] == [answer.status_code for answer in answers]
    assert (202, "removed") == ((again := await http.delete(path, headers=owner)).status_code, again.json()["state"])


async def test_a_route_that_its_owner_removed_is_not_made_again_by_itself(world: World) -> None:
    """A grant becomes active again after each amendment and each pause."""
    await no_routes(world)
    async with world.db.as_role(Role.WORKER).begin(world.owner) as session:
        grant = (await session.scalars(select(Grant).where(Grant.id == world.grant_id))).one()
        await activated(session, grant)
        found = await session.scalars(select(Route.state).where(Route.grant_id == world.grant_id))

        assert [RouteState.removed] == list(found)
        assert 1 == len((await session.scalars(select(Topic.id))).all())


async def test_the_end_of_a_grant_has_its_routes_looked_at_now(world: World) -> None:
    """A `foreign_topic` tells of all the identity's mail, and goes at its next look; other grants' routes wait."""
    async with world.db.begin(world.owner) as session:
        await session.execute(update(Route).values(due_at=None))
        grant = (await session.scalars(select(Grant).where(Grant.id == world.grant_id))).one()
        await ended(session, grant)
        woken = session.info["woken"]["routes"]
        due = set(await session.scalars(select(Route.id).where(Route.due_at <= func.now())))

    assert {(await route_of(world, world.grant_id)).id} == woken == due
