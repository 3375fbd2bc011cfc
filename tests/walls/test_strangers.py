"""The first wall: no route tells a stranger anything of what is another's, not even that it is there (I2)."""

import httpx
import pytest_asyncio
from litestar import Litestar
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.crypto import Keyring
from broker.db import Database, Role, sessions
from tests.walls.house import House, furnish, walk_strangers
from tests.walls.strangers import routes_of


@pytest_asyncio.fixture(scope="module")
async def house(app: Litestar, engine: AsyncEngine, keyring: Keyring) -> House:
    """Committed once for the walks."""
    return await furnish(app, Database(sessions(engine), role=Role.API), keyring)


async def test_no_route_tells_a_stranger_what_is_there(house: House, committed_db: Database) -> None:
    """What is real and what is made up is answered alike: 404 where the path names it, else without a trace of it."""
    walked = await walk_strangers(house, committed_db)

    leaks = [f"{who}: {leak}" for who, each in walked.items() for leak in each.leaks]
    assert not leaks, "\n".join(leaks)
    assert min(each.routes for each in walked.values()) > 30
    assert sum(each.tried for each in walked.values()) > 400


async def test_the_owner_reads_all_of_it(house: House) -> None:
    """Else the walk could not fail: every route that reads finds what the strangers were looking for."""
    async with await house.client(house.world.owner) as client:
        answers = {}
        asked = {"listDeliveries": {"state": "dead"}}
        for route in routes_of(house.app):
            if route.method == "GET":
                path = route.path.format(**house.theirs)
                answers[route.name] = await client.get(path, params=asked.get(route.name, {}))

    reads = {name for name, answer in answers.items() if answer.status_code == 200}
    tell = {name for name in reads if any(secret in answers[name].text for secret in house.secrets)}
    # The first needs a configuration set, the second an end, the third terms of the other delegate's grant.
    assert {"listDestinations", "showReceipt", "revokeScript"} == set(answers) - reads
    assert len(tell) > 25


async def test_nobody_is_told_more_than_that_a_key_is_needed(house: House, anonymous: httpx.AsyncClient) -> None:
    """401 on every route, with the ids of what is there."""
    answers = set()
    for route in routes_of(house.app):
        if route.path.startswith("/.well-known/"):
            continue  # what checks signatures is for everybody
        answer = await anonymous.request(route.method, route.path.format(**house.theirs), json={})
        answers.add((answer.status_code, answer.headers["www-authenticate"]))

    assert {(401, 'Bearer realm="ses-delegation-broker"')} == answers
