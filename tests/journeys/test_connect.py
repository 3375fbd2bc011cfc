"""Accounts are proven, never claimed."""

import json

import pytest

from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import DOMAIN, Party
from tests.journeys.world import FOREIGN, Broker, connect, make_role, template, terms
from tests.sandbox.aws import REGION


@pytest.mark.parametrize(
    "status", [pytest.param(404, id="missing_policy_404"), pytest.param(200, id="missing_policy_200")]
)
async def test_a_role_without_an_external_id_is_refused_until_it_asks_for_one(
    broker_here: Broker, speak: Speak, status: int
) -> None:
    speak(missing_policy_status=status)
    owner = await Party.register(broker_here, "owner")
    owner.aws.verify(DOMAIN)
    asked = {"kind": "role", "account_id": owner.aws.id, "regions": [REGION]}
    connection = await owner.post("/v1/connections", asked)
    path = f"/v1/connections/{connection['id']}"
    trust, policy = await template(owner, connection["id"])
    careless = json.loads(trust)
    del careless["Statement"][0]["Condition"]
    await make_role(owner, connection, json.dumps(careless), policy)
    await owner.post(f"{path}/verify")
    refused = await broker_here.reach(owner, path, "lost", "verified")

    name = connection["role_arn"].rpartition("/")[2]
    await owner.call("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=trust)
    await owner.post(f"{path}/verify")
    await broker_here.reach(owner, path, "verified")

    assert ("lost", True) == (refused["state"], "without an ExternalId" in refused["reason"])
    assert [DOMAIN] == [each["name"] for each in await owner.items("/v1/identities")]


async def test_what_is_on_the_identity_already_is_shown(make_world: MakeWorld) -> None:
    world = await make_world()

    (found,) = await world.owner.items("/v1/identities")

    assert (True, [{"name": FOREIGN, "ours": False}]) == (found["verified"], found["policies"])
    assert [] == await world.first.items("/v1/identities")


async def test_an_account_that_is_proven_cannot_be_proven_by_somebody_else(make_world: MakeWorld) -> None:
    world = await make_world()
    stranger = await Party.register(world.broker, "delegate")
    claimed = await stranger.post("/v1/connections", {"kind": "proof", "account_id": world.first.aws.id})
    path = f"/v1/connections/{claimed['id']}"

    own = await stranger.try_post(f"{path}/prove", stranger.signed(claimed["proof"]))
    borrowed = await stranger.try_post(f"{path}/prove", world.first.signed(claimed["proof"]))

    assert (409, 409) == (own.status, borrowed.status)
    assert "bound" in borrowed.body["detail"]
    assert world.first.id not in str(borrowed.body)
    assert "verified" != (await stranger.get(path))["state"]


async def test_an_owner_s_account_cannot_be_connected_twice(make_world: MakeWorld) -> None:
    world = await make_world()
    rival = await Party.register(world.broker, "owner")
    asked = {"kind": "role", "account_id": world.owner.aws.id, "regions": [REGION]}
    connection = await rival.post("/v1/connections", asked)
    trust, _ = await template(rival, connection["id"])
    name = connection["role_arn"].rpartition("/")[2]
    await world.owner.call("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=trust)
    path = f"/v1/connections/{connection['id']}"
    await rival.post(f"{path}/verify")

    lost = await world.broker.reach(rival, path, "lost", "verified")

    assert ("lost", True) == (lost["state"], "bound" in lost["reason"])
    assert [] == await rival.items("/v1/identities")


async def test_a_grant_needs_the_account_of_its_principal_to_be_proven(make_world: MakeWorld) -> None:
    world = await make_world()
    stranger = await Party.register(world.broker, "delegate")
    wanted = {"identity_arn": world.arn, "terms": terms(stranger.aws.id, f"news@{DOMAIN}")}
    proposed = await stranger.post("/v1/grants", wanted)

    early = await world.owner.try_post(f"/v1/grants/{proposed['id']}/approve", etag=proposed["etag"])
    await stranger.prove()
    await world.owner.approve(proposed["id"])

    assert (409, True) == (early.status, stranger.aws.id in early.body["detail"])
    await world.reach_state(proposed["id"], "active")


async def test_a_connection_with_a_live_grant_cannot_be_removed(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate()
    path = f"/v1/connections/{world.connection['id']}"

    kept = await world.owner.http.delete(path)
    await world.revoke(grant_id)
    removed = await world.owner.http.delete(path)

    assert (409, 204) == (kept.status_code, removed.status_code)
    assert [] == await world.owner.items("/v1/identities")


async def test_an_account_that_was_removed_can_be_connected_again(broker_here: Broker) -> None:
    owner = await Party.register(broker_here, "owner")
    owner.aws.verify(DOMAIN)
    first = await connect(broker_here, owner)
    await owner.http.delete(f"/v1/connections/{first['id']}")
    role = first["role_arn"].rpartition("/")[2]
    await owner.call("iam", "delete_role_policy", RoleName=role, PolicyName="broker")
    await owner.call("iam", "delete_role", RoleName=role)

    again = await connect(broker_here, owner)

    assert (True, [DOMAIN]) == (
        first["external_id"] != again["external_id"],
        [each["name"] for each in await owner.items("/v1/identities")],
    )
