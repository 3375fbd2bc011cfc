"""How many proposals, routes and identities a tenant may have: refused with the way out, which then is one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from litestar import Litestar

from broker.app import build
from broker.caller import Caller
from broker.connections.models import Connection
from broker.crypto import Keyring
from broker.db import Database
from broker.ids import new_id
from broker.parts import Parts
from broker.settings import Settings
from tests.app.test_edge import PROPOSAL
from tests.app.test_limits import run
from tests.feedback.conftest import World, make_world
from tests.servers import Postgres
from tests.walls.house import House


@asynccontextmanager
async def limited(settings: Settings, keyring: Keyring, world: World, quotas: str) -> AsyncIterator[House]:
    """An API with these quotas, for the parties of this world."""
    parts = Parts(msgspec.structs.replace(settings, quotas=quotas))
    async with parts.serving():
        app: Litestar = build(parts)
        yield House(app, keyring, world, {}, ())


async def at_once(client: httpx.AsyncClient, path: str, *bodies: dict[str, Any]) -> list[httpx.Response]:
    """All of them side by side; those that were refused come last."""
    answers = await asyncio.gather(*(client.post(path, json=body) for body in bodies))
    return sorted(answers, key=lambda answer: answer.status_code)


def codes(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


async def test_open_proposals_are_counted_for_the_one_who_made_them(
    settings: Settings, keyring: Keyring, committed_db: Database
) -> None:
    """Two of three pass; the other party, and the other delegate, have their own; a withdrawn one makes room."""
    world = await make_world(committed_db)
    asked = PROPOSAL | {"identity_arn": world.identity_arn}
    async with (
        limited(settings, keyring, world, "open_proposals=2") as house,
        await house.client(world.delegate) as delegate,
        await house.client(world.second) as second,
        await house.client(world.owner) as owner,
    ):
        made = await at_once(delegate, "/v1/grants", asked, asked, asked)
        others = [
            (await second.post("/v1/grants", json=asked)).status_code,
            (await owner.post("/v1/grants", json=asked | {"delegate_id": str(world.delegate.tenant)})).status_code,
        ]
        before = await delegate.post("/v1/grants", json=asked)
        withdrawn = await delegate.post(f"/v1/grants/{made[0].json()['id']}/withdraw")
        after_withdrawal = await delegate.post("/v1/grants", json=asked)
        declined = await owner.post(f"/v1/grants/{made[1].json()['id']}/decline")
        after_answer = await delegate.post("/v1/grants", json=asked)

    assert [201, 201, 409] == codes(made)
    assert "A tenant can have 2 open proposals that it has made; withdraw one first." == made[2].json()["detail"]
    assert [201, 201] == others
    assert (409, 202, 201) == (before.status_code, withdrawn.status_code, after_withdrawal.status_code)
    assert (202, 201) == (declined.status_code, after_answer.status_code)


async def test_routes_are_counted_for_the_one_who_asked_for_them(
    settings: Settings, keyring: Keyring, committed_db: Database
) -> None:
    """Those that the broker made by itself do not count; nor do the owner's for the delegate."""
    world = await make_world(committed_db)
    other = await make_world(committed_db)
    asked = {"grant_id": str(world.grant_id), "kind": "configuration_set", "settings": {}}
    async with (
        limited(settings, keyring, world, "routes=1") as house,
        await house.client(world.delegate) as delegate,
        await house.client(world.owner) as owner,
        await house.client(other.delegate) as stranger,
    ):
        made = await at_once(delegate, "/v1/routes", asked, asked | {"kind": "legacy"})
        elsewhere = await stranger.post("/v1/routes", json=asked | {"grant_id": str(other.grant_id)})
        shown = (await owner.get("/v1/routes")).json()["items"]
        removed = await delegate.delete(f"/v1/routes/{made[0].json()['id']}")
        while_it_goes = await delegate.post("/v1/routes", json=asked)

    assert [202, 409] == codes(made)
    assert "A tenant can have 1 routes; remove one first." == made[1].json()["detail"]
    assert 202 == elsewhere.status_code
    assert 3 == len(shown)
    assert (202, 409) == (removed.status_code, while_it_goes.status_code)


async def by_hand(db: Database, owner: Caller, account_id: str) -> str:
    """A proven connection whose identities the owner enters."""
    connection_id = new_id()
    async with db.begin(owner) as session:
        session.add(
            Connection(
                id=connection_id,
                tenant_id=owner.tenant,
                kind="manual",
                account_id=account_id,
                regions=["eu-west-1"],
                external_id="external",
                state="verified",
            )
        )
    return str(connection_id)


def named(connection_id: str) -> dict[str, Any]:
    """One more, of a name that nobody has."""
    return {"connection_id": connection_id, "region": "eu-west-1", "name": f"d{new_id().hex}.example.com"}


async def test_identities_entered_by_hand_are_counted_until_their_connection_is_removed(
    settings: Settings, keyring: Keyring, committed_db: Database
) -> None:
    """Those that the broker found do not count: the owner of this world has one."""
    world = await make_world(committed_db)
    first, next_ = [await by_hand(committed_db, world.owner, f"{new_id().int % 10**12:012}") for _ in range(2)]
    async with (
        limited(settings, keyring, world, "identities=2") as house,
        await house.client(world.owner) as owner,
    ):
        made = await at_once(owner, "/v1/identities", *(named(first) for _ in range(3)))
        full = await owner.post("/v1/identities", json=named(next_))
        gone = await owner.delete(f"/v1/connections/{first}")
        again = await at_once(owner, "/v1/identities", *(named(next_) for _ in range(3)))

    assert [201, 201, 409] == codes(made)
    detail = "A tenant can have 2 identities entered by hand; remove their connection first."
    assert [detail, detail] == [made[2].json()["detail"], full.json()["detail"]]
    assert 204 == gone.status_code
    assert [201, 201, 409] == codes(again)


async def test_what_the_operator_allows_one_tenant_goes_before_the_number_of_all(
    settings: Settings, keyring: Keyring, committed_db: Database, postgres: Postgres
) -> None:
    """By `broker quota`, for each of these; 0 is no limit, and nobody else has more."""
    world = await make_world(committed_db)
    connection = await by_hand(committed_db, world.owner, f"{new_id().int % 10**12:012}")
    asked = PROPOSAL | {"identity_arn": world.identity_arn}
    route = {"grant_id": str(world.grant_id), "kind": "configuration_set", "settings": {}}
    said = [
        await run(postgres, "quota", str(world.delegate.tenant), "open_proposals", "2"),
        await run(postgres, "quota", str(world.delegate.tenant), "routes", "0"),
        await run(postgres, "quota", str(world.owner.tenant), "identities", "2"),
    ]
    async with (
        limited(settings, keyring, world, "open_proposals=1,routes=1,identities=1") as house,
        await house.client(world.delegate) as delegate,
        await house.client(world.second) as second,
        await house.client(world.owner) as owner,
    ):
        proposals = [(await delegate.post("/v1/grants", json=asked)).status_code for _ in range(3)]
        as_all = [(await second.post("/v1/grants", json=asked)).status_code for _ in range(2)]
        routes = [
            (await delegate.post("/v1/routes", json=route | {"kind": kind})).status_code
            for kind in ("configuration_set", "legacy")
        ]
        identities = [(await owner.post("/v1/identities", json=named(connection))).status_code for _ in range(3)]

    assert [(0, "open_proposals: 2"), (0, "routes: no limit"), (0, "identities: 2")] == said
    assert ([201, 201, 409], [201, 409]) == (proposals, as_all)
    assert [202, 202] == routes
    assert [201, 201, 409] == identities
