"""A grant ends by its date: by the policy itself, and by our hand."""

from datetime import timedelta

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BILL, BILLING
from tests.journeys.world import OURS
from tests.webhooks.waiting import until_told

SOON = timedelta(seconds=7)
"""What is to be seen before takes a slow machine a few seconds."""
REFUSED = "AccessDeniedException"


async def test_an_expired_grant_is_refused_by_its_own_date_and_then_removed(make_world: MakeWorld) -> None:
    """The date is in the policy (I6): nobody of ours looks between the last accepted and the first refused send."""
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING, expires_in=SOON)
    assert "" == await world.first.refusal(world.arn, BILL)

    async def refused() -> bool:
        return await world.first.refusal(world.arn, BILL) != ""

    await until_told(refused, seconds=60)
    refusal = await world.first.refusal(world.arn, BILL)
    held = await world.ours()
    expired = await world.reach_state(grant_id, "expired")

    assert (REFUSED, 1) == (refusal, len(held))
    assert [] == await world.ours()
    receipt = await world.first.get(f"/v1/grants/{grant_id}/receipt")
    assert ("clock", expired["expires_at"]) == (receipt["asked_by"], receipt["asked_at"])
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.expired", grant_id=grant_id)
    await world.conserve()


async def test_a_grant_begins_with_its_window(make_world: MakeWorld) -> None:
    world = await make_world()
    begins = world.in_future(SOON)
    grant_id = await world.agree(world.first, BILLING, not_before=begins)
    await world.reach_state(grant_id, "scheduled")
    early = [name for name in await world.policies() if name.startswith(OURS)]

    await world.reach_state(grant_id, "active")

    assert ([], 1) == (early, len(await world.ours()))
    assert "" == await world.first.refusal(world.arn, BILL)
