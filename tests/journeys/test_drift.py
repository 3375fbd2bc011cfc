"""What somebody else does to our policies, and what we do about it."""

import json

import pytest

from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import BILL, BILLING, DOMAIN
from tests.journeys.world import FOREIGN, OURS

REFUSED = "AccessDeniedException"


@pytest.mark.parametrize(
    "status", [pytest.param(404, id="missing_policy_404"), pytest.param(200, id="missing_policy_200")]
)
async def test_a_policy_that_the_owner_deleted_stays_away_until_it_says_restore(
    make_world: MakeWorld, speak: Speak, status: int
) -> None:
    speak(missing_policy_status=status)
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    (name,) = (each for each in await world.policies() if each.startswith(OURS))

    await world.owner.call("sesv2", "delete_email_identity_policy", EmailIdentity=DOMAIN, PolicyName=name)
    await world.refresh()
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.drifted", grant_id=grant_id)
    drifted, held = await world.first.grant(grant_id), await world.ours()
    await world.owner.post(f"/v1/grants/{grant_id}/restore")
    restored = await world.reach_state(grant_id, "active")

    assert (["drifted"], []) == (drifted["flags"], held)
    assert ([], "") == (restored["flags"], await world.first.refusal(world.arn, BILL))


async def test_a_drifted_grant_can_be_revoked(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    (name,) = (each for each in await world.policies() if each.startswith(OURS))
    await world.owner.call("sesv2", "delete_email_identity_policy", EmailIdentity=DOMAIN, PolicyName=name)
    await world.refresh()
    await world.broker.hear(world.owner, "grant.drifted", grant_id=grant_id)

    revoked = await world.revoke(grant_id)

    assert [] == revoked["flags"]


@pytest.mark.parametrize("rewritten", [pytest.param(True, id="as_root"), pytest.param(False, id="bare_account_kept")])
async def test_a_policy_that_was_widened_is_put_back_and_a_foreign_one_is_not_touched(
    make_world: MakeWorld, speak: Speak, *, rewritten: bool
) -> None:
    speak(bare_account_as_root=rewritten)
    world = await make_world()
    grant_id = await world.activate(world.first, BILLING)
    ((name, held),) = ((name, text) for name, text in (await world.policies()).items() if name.startswith(OURS))

    wide = {"EmailIdentity": DOMAIN, "PolicyName": name, "Policy": held.replace(BILLING, f"*@{DOMAIN}")}
    await world.owner.call("sesv2", "update_email_identity_policy", **wide)
    widened = await world.ours()
    await world.refresh()

    async def put_back() -> bool | None:
        return True if [held] == await world.ours() else None

    await world.broker.workers.until(put_back)
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.drifted", grant_id=grant_id)
    restored = await world.reach_state(grant_id, "active")
    assert [] == restored["flags"]
    assert [json.loads(held)] != [json.loads(text) for text in widened]
    assert world.foreign == (await world.policies())[FOREIGN]
