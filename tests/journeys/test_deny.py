"""Deny first: what SES executes late lets nobody in, from the owner's word to the seal."""

import json
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from broker.caller import Caller
from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import AGREED, BILL, BILLING, DOMAIN, Party
from tests.journeys.world import World
from tests.sandbox.aws import allow

REFUSED = "AccessDeniedException"
CREATE, DELETE = "CreateEmailIdentityPolicy", "DeleteEmailIdentityPolicy"
LATENCY = 0.7  # seconds; below what the broker waits for SES, and long enough for a slow machine to begin two calls


async def receipt(world: World, grant_id: str) -> Any:
    return await world.first.get(f"/v1/grants/{grant_id}/receipt")


async def twenty_minutes_later(world: World, grant_id: str) -> None:
    """As the database's clock would have it."""
    async with world.broker.parts.worker.begin(Caller.system(UUID(world.owner.id), job="test")) as session:
        await session.execute(
            text("UPDATE grants SET removed_at = removed_at - interval '20 minutes' WHERE id = :id"), {"id": grant_id}
        )
    await world.refresh()


async def without_allow(world: World) -> bool | None:
    return True if not await world.ours() else None


async def test_a_create_that_ses_executes_late_lets_nobody_in(make_world: MakeWorld) -> None:
    """The owner was told revoked, and it stays true; the stray goes with the next read, and then it is sealed."""
    world = await make_world()
    world.fault(CREATE, "late")
    grant_id = await world.activate()
    await world.revoke(grant_id)
    await world.broker.workers.until(lambda: behind_deny(world.first, grant_id))
    told = await receipt(world, grant_id)

    carried_out = world.broker.aws.control("POST", "late")
    back, answer = await world.ours(), await world.first.refusal(world.arn, AGREED)
    await world.refresh()
    await world.broker.workers.until(lambda: without_allow(world))
    await twenty_minutes_later(world, grant_id)
    sealed = await world.broker.hear(world.first, "grant.sealed", grant_id=grant_id)

    assert ("deny", None) == (told["protected_by"], told["sealed_at"])
    assert ({"carried_out": 1}, 1, REFUSED) == (carried_out, len(back), answer)
    assert ([], []) == (await world.ours(), await world.denies())
    last = await receipt(world, grant_id)
    assert last["sealed_at"] == sealed.data["sealed_at"]
    assert ("deny", "deny") == (last["protected_by"], sealed.data["protected_by"])
    assert REFUSED == await world.first.refusal(world.arn, AGREED)
    history = [each["action"] for each in await world.first.items(f"/v1/grants/{grant_id}/history")]
    assert "grant.sealed" == history[-1]
    await world.broker.hear(world.owner, "grant.sealed", grant_id=grant_id)
    await world.conserve()


async def test_without_the_deny_the_same_late_create_would_let_the_delegate_in(make_world: MakeWorld) -> None:
    """SES refuses the Deny: the receipt says that only reads protect, and they do remove what came back."""
    world = await make_world()
    world.fault(CREATE, "late")
    grant_id = await world.activate()
    world.fault(CREATE, "access_denied", times=1000)  # however often it is tried
    await world.revoke(grant_id)
    told = await receipt(world, grant_id)
    world.broker.aws.control("POST", "late")
    answer = await world.first.refusal(world.arn, AGREED)

    await world.refresh()
    await world.broker.workers.until(lambda: without_allow(world))

    assert ("reads", "") == (told["protected_by"], answer)
    assert told["protection"]
    assert REFUSED == await world.first.refusal(world.arn, AGREED)


async def test_a_throttled_deny_does_not_keep_the_allow(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate()
    world.fault(CREATE, "throttle", times=1)

    await world.revoke(grant_id)

    assert [] == await world.ours()
    await world.broker.workers.until(lambda: behind_deny(world.first, grant_id))
    assert 1 == len(await world.denies())


async def behind_deny(party: Party, grant_id: str) -> bool | None:
    return True if (await party.get(f"/v1/grants/{grant_id}/receipt"))["protected_by"] == "deny" else None


async def test_both_go_out_at_once_and_before_anything_is_read(make_world: MakeWorld, speak: Speak) -> None:
    """The Deny waits for no other call of SES, and neither does the removal."""
    world = await make_world()
    grant_id = await world.activate()
    before = len(world.calls())
    speak(latency_seconds=LATENCY)

    await world.revoke(grant_id)

    calls = world.calls()[before:]
    assert {CREATE, DELETE} == set(calls[:2])
    found = world.broker.aws.control("GET", f"calls?account_id={world.owner.aws.id}&service=sesv2")
    began = {each["operation"]: datetime.fromisoformat(each["at"]) for each in found if each["operation"] in calls[:2]}
    assert abs((began[CREATE] - began[DELETE]).total_seconds()) < LATENCY


async def test_a_delegate_that_gets_access_again_can_send_at_once(make_world: MakeWorld) -> None:
    """The Deny goes in the run that makes the new grant active."""
    world = await make_world()
    first = await world.activate()
    await world.revoke(first)
    assert REFUSED == await world.first.refusal(world.arn, AGREED)

    await world.activate()

    assert ("", []) == (await world.first.refusal(world.arn, AGREED), await world.denies())
    assert "reads" == (await receipt(world, first))["protected_by"]


async def test_a_user_with_a_grant_of_its_own_goes_on_sending(make_world: MakeWorld) -> None:
    """A Deny of its account would cover it."""
    world = await make_world()
    user = f"arn:aws:iam::{world.first.aws.id}:root"
    kept = await world.activate(principals=[user])
    ended = await world.activate()

    await world.revoke(ended)

    assert ("", []) == (await world.first.refusal(world.arn, AGREED), await world.denies())
    assert "active" == (await world.owner.grant(kept))["state"]


async def test_one_deny_for_all_that_are_revoked_at_once(make_world: MakeWorld) -> None:
    world = await make_world()
    grants = [await world.activate(world.first), await world.activate(world.second)]

    await world.owner.post("/v1/grants/revoke", {"identity_arn": world.arn})
    for grant_id in grants:
        await world.reach_state(grant_id, "revoked")

    (document,) = await world.denies()
    denied = json.loads(document)["Statement"][0]["Principal"]["AWS"]
    assert {world.first.aws.id, world.second.aws.id} <= {
        each.split(":")[-2] if ":" in each else each for each in denied
    }
    assert [] == await world.ours()


@pytest.mark.parametrize("named", [pytest.param(True, id="named"), pytest.param(False, id="not_named")])
async def test_a_deleted_role_keeps_nobody_else_from_the_deny(
    make_world: MakeWorld, speak: Speak, *, named: bool
) -> None:
    """SES takes no policy that names a role which is gone; its grant says so, the others are behind the Deny."""
    speak(refused_principal_named=named)
    world = await make_world()
    role = world.first.aws.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": world.first.aws.id}))
    bad = await world.activate(principals=[role])
    good = [await world.activate(world.second, address) for address in (BILLING, "news@" + DOMAIN)]
    await world.first.call("iam", "delete_role", RoleName="mailer")

    await world.owner.post("/v1/grants/revoke", {"identity_arn": world.arn})
    for grant_id in (bad, *good):
        await world.reach_state(grant_id, "revoked")
    for grant_id in good:
        await world.broker.workers.until(partial(behind_deny, world.second, grant_id))
    await world.broker.workers.until(lambda: is_blamed(world, bad, role))

    (document,) = await world.denies()
    denied = json.loads(document)["Statement"][0]["Principal"]["AWS"]
    assert world.second.aws.id in denied
    assert REFUSED == await world.second.refusal(world.arn, BILL)
    assert "reads" == (await receipt(world, bad))["protected_by"]


async def is_blamed(world: World, grant_id: str, principal: str) -> bool | None:
    why = (await receipt(world, grant_id))["protection"] or ""
    return True if why.startswith(f"SES refuses a Deny of {principal}: Invalid principal in policy") else None
