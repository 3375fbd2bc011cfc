"""The ways in which an offer does not become a grant."""

import msgspec
import pytest

from broker.app import build
from broker.parts import Parts
from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BILLING, NEWSLETTER, Party
from tests.journeys.world import Broker, World, terms


async def proposed(world: World) -> str:
    """The id of a grant that the first delegate has proposed."""
    wanted = {"identity_arn": world.arn, "terms": terms(world.first.aws.id, NEWSLETTER)}
    return str((await world.first.post("/v1/grants", wanted))["id"])


@pytest.mark.parametrize(
    ("verb", "by", "state"), [("decline", "owner", "declined"), ("withdraw", "first", "withdrawn")]
)
async def test_an_offer_that_is_declined_or_withdrawn_ends_and_leaves_ses_alone(
    make_world: MakeWorld, verb: str, by: str, state: str
) -> None:
    world = await make_world()
    grant_id = await proposed(world)
    party: Party = getattr(world, by)

    ended = await party.post(f"/v1/grants/{grant_id}/{verb}", {"note": "Not now"})

    late = await world.owner.try_post(f"/v1/grants/{grant_id}/approve", etag=ended["etag"])
    assert (state, 409) == (ended["state"], late.status)
    for each in (world.owner, world.first):
        await world.broker.hear(each, f"grant.{state}", grant_id=grant_id, note="Not now")
    assert [] == await world.ours()


async def test_an_offer_that_nobody_decides_lapses(broker_here: Broker, make_world: MakeWorld) -> None:
    world = await make_world()
    parts = Parts(
        msgspec.structs.replace(broker_here.parts.settings, offer_lifetime=broker_here.parts.pace.readback_gap)
    )
    hasty = Broker(parts, build(parts), broker_here.aws, broker_here.inboxes)
    wanted = {"identity_arn": world.arn, "terms": terms(world.first.aws.id, NEWSLETTER)}
    async with hasty.client() as client:
        client.headers = world.first.http.headers
        grant = (await client.post("/v1/grants", json=wanted)).json()
    await parts.close()

    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.lapsed", grant_id=grant["id"])

    late = await world.owner.try_post(f"/v1/grants/{grant['id']}/approve", etag=grant["etag"])
    assert ("lapsed", 409) == ((await world.owner.grant(grant["id"]))["state"], late.status)


async def test_a_declined_amendment_leaves_the_grant_as_it_was(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate()
    held, before = await world.ours(), await world.owner.grant(grant_id)

    wanted = {"terms": terms(world.first.aws.id, BILLING)}
    await world.first.post(f"/v1/grants/{grant_id}/amend", wanted, etag=before["etag"])
    await world.owner.post(f"/v1/grants/{grant_id}/decline")
    await world.broker.hear(world.first, "grant.declined", grant_id=grant_id)

    after = await world.first.grant(grant_id)
    assert ("active", before["terms"], held) == (after["state"], after["terms"], await world.ours())


async def test_the_owner_asks_how_many_such_grants_fit(make_world: MakeWorld) -> None:
    """Small ones, as many as the identity says; nobody else is told."""
    world = await make_world()
    await world.activate()
    (identity,) = [each for each in await world.owner.items("/v1/identities") if each["arn"] == world.arn]
    wanted = {"terms": terms(world.second.aws.id, BILLING)}
    path = f"/v1/identities/{identity['id']}"

    told = await world.owner.post(f"{path}/room", wanted)
    shown = (await world.owner.get(path))["room"]

    assert shown["largest"] == told["largest"]
    assert 17 * 10 <= told["grants"] <= shown["small_grants"]
    assert 404 == (await world.second.http.post(f"{path}/room", json=wanted)).status_code
    assert 422 == (await world.owner.http.post(f"{path}/room", json={"terms": {}})).status_code
