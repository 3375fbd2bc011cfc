"""From a proposal to mail that SES accepts, exactly as agreed."""

from typing import Any

import msgspec
import pytest

from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.world import (
    AGREED,
    AS_COUNTERED,
    CEO,
    FOREIGN,
    NEWSLETTER,
    World,
    terms,
)

REFUSED = "AccessDeniedException"


async def negotiated(world: World) -> str:
    """The delegate proposes, the owner counters, a stale approval is refused, the delegate approves what it saw."""
    proposal = {"identity_arn": world.arn, "terms": terms(world.first.aws.id, NEWSLETTER)}
    proposed = await world.first.post("/v1/grants", proposal)
    path = f"/v1/grants/{proposed['id']}"
    wanted = {"terms": terms(world.first.aws.id, NEWSLETTER, **AS_COUNTERED)}
    countered = await world.owner.post(f"{path}/counter", wanted, etag=proposed["etag"])
    stale = await world.first.try_post(f"{path}/approve", etag=proposed["etag"])
    assert (412, "delegate") == (stale.status, countered["awaiting"])
    await world.first.approve(proposed["id"])
    return str(proposed["id"])


async def verdicts(world: World) -> dict[str, str]:
    """What SES says to each way of sending: empty, or the code of its refusal."""
    ways = {
        "as agreed": (world.first, AGREED),
        "as somebody else": (world.first, msgspec.structs.replace(AGREED, address=CEO)),
        "under another name": (world.first, msgspec.structs.replace(AGREED, name="The CEO")),
        "without the return path": (world.first, msgspec.structs.replace(AGREED, return_path=None)),
        "from another account": (world.second, AGREED),
    }
    return {way: await party.refusal(world.arn, mail) for way, (party, mail) in ways.items()}


@pytest.mark.parametrize(
    "switches",
    [
        pytest.param({}, id="usual"),
        pytest.param({"missing_policy_status": 200}, id="missing_policy_200"),
        pytest.param({"bare_account_as_root": False}, id="bare_account_kept"),
        pytest.param({"stale_reads_seconds": 0.7}, id="stale_reads"),
        pytest.param({"from_case_sensitive": False}, id="from_without_case"),
        pytest.param({"return_path_key_absent": False}, id="return_path_key_always"),
        pytest.param({"rate_limit_per_second": 1}, id="one_call_a_second"),
        pytest.param({"source_arn_covers_from": True}, id="source_arn_covers_from"),
    ],
)
async def test_an_approved_grant_lets_the_delegate_send_as_agreed_and_in_no_other_way(
    make_world: MakeWorld, speak: Speak, switches: dict[str, Any]
) -> None:
    speak(**switches)
    world = await make_world()
    grant_id = await negotiated(world)

    active = await world.reach_state(grant_id, "active")

    assert (None, []) == (active["error"], active["flags"])
    refused = dict.fromkeys(
        ("as somebody else", "under another name", "without the return path", "from another account"), REFUSED
    )
    assert {"as agreed": "", **refused} == await verdicts(world)
    assert await world.first.send_raw(AGREED, FromArn=world.arn, SourceArn=world.arn, ReturnPathArn=world.arn)
    assert 1 == len(await world.ours())
    assert world.foreign == (await world.policies())[FOREIGN]
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.activated", grant_id=grant_id)
    assert [] == world.second.inbox.of_grants()
