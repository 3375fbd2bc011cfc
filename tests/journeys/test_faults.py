"""SES throttles, fails, or does what was asked and never says so: the end is the same."""

from typing import Any

import pytest

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BILL, BILLING
from tests.journeys.world import FOREIGN, NOBODY_THERE, OURS

REFUSED = "AccessDeniedException"
READ, CREATE, DELETE = "GetEmailIdentityPolicies", "CreateEmailIdentityPolicy", "DeleteEmailIdentityPolicy"
ERRORS = [
    pytest.param({"error": "throttle", "times": 2}, id="throttled_twice"),
    pytest.param({"error": "500"}, id="failed"),
    pytest.param({"error": "500", "after": True}, id="done_and_failed"),
    pytest.param({"error": "timeout"}, id="never_answered"),
    pytest.param({"error": "timeout", "after": True}, id="done_and_never_answered"),
]


@pytest.mark.parametrize("fault", ERRORS)
async def test_a_grant_becomes_active_whatever_happens_to_the_first_create(
    make_world: MakeWorld, fault: dict[str, Any]
) -> None:
    world = await make_world()
    world.fault(CREATE, **fault)

    active = await world.reach_state(await world.agree(world.first, BILLING), "active")

    assert (None, 1) == (active["error"], len(await world.ours()))
    assert "" == await world.first.refusal(world.arn, BILL)
    await world.broker.hear(world.first, "grant.activated")
    await world.conserve()
    assert 1 == len(world.first.inbox.of("grant.activated"))


@pytest.mark.parametrize("fault", ERRORS)
async def test_a_revocation_completes_whatever_happens_to_the_first_delete(
    make_world: MakeWorld, fault: dict[str, Any]
) -> None:
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    world.fault(DELETE, **fault)

    revoked = await world.revoke(grant_id)

    assert ([], []) == (revoked["flags"], await world.ours())
    assert REFUSED == await world.first.refusal(world.arn, BILL)
    assert world.foreign == (await world.policies())[FOREIGN]


@pytest.mark.parametrize("error", ["throttle", "500"])
async def test_reads_that_fail_hold_nothing_up_for_long(make_world: MakeWorld, error: str) -> None:
    world = await make_world()
    world.fault(READ, error, times=2)
    grant_id = await world.activate(world.first, BILLING)

    world.fault(READ, error, times=2)
    await world.revoke(grant_id)

    assert [] == await world.ours()


async def test_a_revocation_that_aws_forbids_is_stuck_and_done_once_it_is_allowed(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    (name,) = (each for each in await world.policies() if each.startswith(OURS))
    world.fault(DELETE, "access_denied", times=1)

    await world.owner.post(f"/v1/grants/{grant_id}/revoke")
    owners = await world.broker.hear(world.owner, "grant.revocation_stuck", grant_id=grant_id)
    delegates = await world.broker.hear(world.first, "grant.revocation_stuck", grant_id=grant_id)
    assert name in owners.data["commands"][0]
    assert {"error": owners.data["error"]}.items() <= delegates.data.items()
    assert "commands" not in delegates.data
    revoked = await world.reach_state(grant_id, "revoked")

    assert ([], []) == (revoked["flags"], await world.ours())


async def test_nothing_is_called_revoked_while_ses_cannot_be_read(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    world.fault(READ, "500", times=1000)

    await world.owner.post(f"/v1/grants/{grant_id}/revoke")
    seen = []
    for _ in range(2):
        await world.broker.workers.burst()
        seen.append((await world.owner.grant(grant_id))["state"])
    world.broker.aws.control("DELETE", "faults")
    revoked = await world.reach_state(grant_id, "revoked")

    assert {"revoking"} == set(seen)
    assert [] == revoked["flags"]


async def test_the_journeys_do_without_a_doorbell(make_world: MakeWorld) -> None:
    """No Redis answers here: what is rung is lost, and the work is found all the same."""
    world = await make_world()

    grant_id = await world.activate(world.first, BILLING)
    await world.broker.hear(world.first, "grant.activated", grant_id=grant_id)

    assert NOBODY_THERE == world.broker.parts.settings.redis_url
