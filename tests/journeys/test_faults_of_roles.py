"""AWS throttles for long, ends sessions early, or has lost the owner's role: nothing is called done too early."""

import pytest

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BILL, BILLING
from tests.journeys.world import World, make_role, template

REFUSED = "AccessDeniedException"
ROLE = "SesDelegationBroker"


async def take_role(world: World) -> None:
    """The owner deletes the broker's role, as somebody who cleans up does."""
    await world.owner.call("iam", "delete_role_policy", RoleName=ROLE, PolicyName="broker")
    await world.owner.call("iam", "delete_role", RoleName=ROLE)


async def give_role_back(world: World) -> None:
    """By the same template as at the beginning."""
    trust, policy = await template(world.owner, world.connection["id"])
    await make_role(world.owner, world.connection, trust, policy)


@pytest.mark.parametrize("after", [False, True], ids=["before", "done_and_lost"])
async def test_a_session_that_ends_too_early_delays_nothing(make_world: MakeWorld, *, after: bool) -> None:
    """Another is opened within the same call: nobody is told of trouble, and nothing is done twice."""
    world = await make_world()
    world.fault("CreateEmailIdentityPolicy", "expired", after=after)
    grant_id = await world.activate(world.first, BILLING)
    world.fault("GetEmailIdentityPolicies", "expired")
    world.fault("DeleteEmailIdentityPolicy", "expired", after=after)
    revoked = await world.revoke(grant_id)

    assert ([], []) == (revoked["flags"], await world.ours())
    await world.conserve()
    assert 1 == len(world.first.inbox.of("grant.activated")) == len(world.first.inbox.of("grant.revoked"))


@pytest.mark.parametrize("error", ["throttle", "500", "expired"])
async def test_a_role_that_cannot_be_assumed_for_a_while_costs_time_only(make_world: MakeWorld, error: str) -> None:
    """The trouble is STS's: no call of SES is possible, and the connection is not held to be lost for it."""
    world = await make_world()
    grant_id = await world.agree(world.first, BILLING)
    world.broker.aws.control(
        "POST", "faults", {"service": "sts", "operation": "AssumeRole", "error": error, "times": 3}
    )
    active = await world.reach_state(grant_id, "active")
    connection = await world.owner.get(f"/v1/connections/{world.connection['id']}")

    assert (None, "verified") == (active["error"], connection["state"])


async def test_throttling_that_goes_on_is_slow_and_never_false(make_world: MakeWorld) -> None:
    """What is asked is refused again and again: every answer that a party is given is what SES holds at that moment."""
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    for operation in ("GetEmailIdentityPolicies", "DeleteEmailIdentityPolicy", "GetEmailIdentityPolicies"):
        world.fault(operation, "throttle")
    await world.owner.post(f"/v1/grants/{grant_id}/revoke")
    seen: list[tuple[str, bool]] = []
    while not seen or seen[-1][0] != "revoked":
        await world.broker.workers.burst()
        seen.append(((await world.owner.grant(grant_id))["state"], bool(await world.ours())))

    assert {"revoking", "revoked"} == {state for state, _ in seen}
    assert ("revoked", True) not in seen


async def test_a_role_that_is_deleted_in_mid_flight_leaves_a_revocation_stuck_and_it_ends_once_it_is_back(
    make_world: MakeWorld,
) -> None:
    """Sessions that were opened before the role went are over with it; both parties are told what is left to do."""
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    await take_role(world)
    await world.owner.post(f"/v1/grants/{grant_id}/revoke")
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.revocation_stuck", grant_id=grant_id)
    stuck, held = await world.owner.grant(grant_id), await world.ours()

    await give_role_back(world)
    await world.owner.post(f"/v1/connections/{world.connection['id']}/verify")
    revoked = await world.reach_state(grant_id, "revoked")

    assert ("revoking", 1) == (stuck["state"], len(held))
    assert ([], []) == (revoked["flags"], await world.ours())
    assert REFUSED == await world.first.refusal(world.arn, BILL)
