"""From the owner's word to the proof that SES holds the access no more."""

from datetime import datetime
from typing import Any

import pytest

from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import AGREED, AS_COUNTERED, BILL, BILLING, NEWSLETTER
from tests.journeys.world import FOREIGN, GAP, terms
from tests.sandbox.aws import allow

REFUSED = "AccessDeniedException"


@pytest.mark.parametrize(
    ("switches", "later"),
    [
        pytest.param({}, {}, id="usual"),
        pytest.param({"missing_policy_status": 200}, {}, id="missing_policy_200"),
        pytest.param({"bare_account_as_root": False}, {}, id="bare_account_kept"),
        pytest.param({"stale_reads_seconds": 0.7}, {}, id="stale_reads"),
        pytest.param({}, {"rate_limit_per_second": 1}, id="one_call_a_second"),
    ],
)
async def test_a_revoked_delegate_cannot_send_and_its_neighbour_goes_on(
    make_world: MakeWorld, speak: Speak, switches: dict[str, Any], later: dict[str, Any]
) -> None:
    speak(**switches)
    world = await make_world()
    grant_id = await world.agree(world.first, **AS_COUNTERED)
    await world.agree(world.second, BILLING)
    for each in await world.owner.items("/v1/grants"):
        await world.reach_state(each["id"], "active")
    assert ["", ""] == [await world.first.refusal(world.arn, AGREED), await world.second.refusal(world.arn, BILL)]

    speak(**later)
    revoked = await world.revoke(grant_id)

    assert [] == revoked["flags"]
    assert [REFUSED, ""] == [await world.first.refusal(world.arn, AGREED), await world.second.refusal(world.arn, BILL)]
    assert [False] == [world.first.aws.id in text for text in await world.ours()]
    assert world.foreign == (await world.policies())[FOREIGN]
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.revoked", grant_id=grant_id)
    assert [] == world.second.inbox.of("grant.revoked")
    receipt = await world.first.get(f"/v1/grants/{grant_id}/receipt")
    asked, removed, verified = (
        datetime.fromisoformat(receipt[f"{word}_at"]) for word in ("asked", "removed", "verified")
    )
    assert asked <= removed <= verified - GAP
    calls = world.calls()
    after_removal = calls[len(calls) - calls[::-1].index("DeleteEmailIdentityPolicy") :]
    assert 2 <= after_removal.count("GetEmailIdentityPolicies")
    await world.conserve()


async def test_a_grant_revoked_while_ses_does_not_show_its_policy_yet_is_gone_when_it_is_called_revoked(
    make_world: MakeWorld, speak: Speak
) -> None:
    """Two reads from before the policy was written prove nothing."""
    speak(stale_reads_seconds=1.5)
    world = await make_world()
    grant_id = await world.agree()
    await world.broker.workers.until(lambda: _written(world))

    await world.revoke(grant_id)

    assert [] == await world.ours()
    assert REFUSED == await world.first.refusal(world.arn, AGREED)


async def _written(world: Any) -> bool | None:
    return True if await world.ours() else None


@pytest.mark.parametrize("as_id", [pytest.param(True, id="shown_as_id"), pytest.param(False, id="shown_as_arn")])
async def test_a_grant_whose_role_was_deleted_can_be_revoked(
    make_world: MakeWorld, speak: Speak, *, as_id: bool
) -> None:
    speak(deleted_principal_as_id=as_id)
    world = await make_world()
    role = world.first.aws.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": world.first.aws.id}))
    grant_id = await world.activate(principals=[role])
    await world.first.call("iam", "delete_role", RoleName="mailer")
    await world.refresh()
    seen = await world.reach_state(grant_id, "activation_failed" if as_id else "active")
    assert ("Invalid principal in policy" in (seen["error"] or "")) is as_id

    await world.revoke(grant_id)

    assert [] == await world.ours()


async def test_what_the_delegate_hands_back_is_gone_as_well(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate()

    await world.first.post(f"/v1/grants/{grant_id}/relinquish")
    gone = await world.reach_state(grant_id, "relinquished")

    assert [] == await world.ours()
    receipt = await world.owner.get(f"/v1/grants/{grant_id}/receipt")
    assert ("delegate", gone["ended_at"]) == (receipt["asked_by"], receipt["asked_at"])
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.relinquished", grant_id=grant_id)


async def test_an_open_amendment_ends_with_the_grant(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate()
    etag = (await world.owner.grant(grant_id))["etag"]
    wanted = {"terms": terms(world.first.aws.id, BILLING)}
    offered = await world.owner.post(f"/v1/grants/{grant_id}/amend", wanted, etag=etag)

    await world.revoke(grant_id)

    late = await world.first.try_post(f"/v1/grants/{grant_id}/approve", etag=offered["etag"])
    assert (409, []) == (late.status, await world.ours())
    assert "voided" == (await world.first.items(f"/v1/grants/{grant_id}/offers"))[-1]["outcome"]
    assert NEWSLETTER == (await world.first.grant(grant_id))["terms"]["from_addresses"][0]
