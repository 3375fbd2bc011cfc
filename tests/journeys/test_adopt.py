"""A policy that the owner wrote by hand years ago is taken under a grant, and its sender never notices."""

import json
from datetime import timedelta
from typing import Any

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BILL, BILLING, DOMAIN, Party
from tests.journeys.world import FOREIGN, World

AGENCY = "AgencyMayWrite"
KEEP = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Deny", "Action": "ses:DeleteEmailIdentityPolicy", "Resource": "*"},
    }
)


def policy_for(world: World, party: Party, address: str = BILLING) -> str:
    """The first delegate's account may send as one address, for ever."""
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{party.aws.id}:root"},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": world.arn,
        "Condition": {"StringEquals": {"ses:FromAddress": address}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def write(world: World, text: str, *, update: bool = False) -> None:
    operation = "update_email_identity_policy" if update else "create_email_identity_policy"
    await world.owner.call("sesv2", operation, EmailIdentity=DOMAIN, PolicyName=AGENCY, Policy=text)


async def identity_of(world: World) -> str:
    """The identity, once the policy was read on it."""
    await world.refresh()

    async def look() -> str | None:
        (found,) = await world.owner.items("/v1/identities")
        return str(found["id"]) if AGENCY in [each["name"] for each in found["policies"]] else None

    return str(await world.broker.workers.until(look))


async def adopted(world: World) -> tuple[str, Any]:
    """The path of the policy, and the grant that was proposed in its place."""
    path = f"/v1/identities/{await identity_of(world)}/policies/{AGENCY}"
    wanted = {"delegate_id": world.first.id, "expires_at": world.in_future(timedelta(days=30))}
    return path, await world.owner.post(f"{path}/adopt", wanted)


async def test_a_policy_is_adopted_without_a_gap(make_world: MakeWorld) -> None:
    """The delegate can send at every moment, and the owner's other policy is untouched."""
    world = await make_world()
    text = policy_for(world, world.first)
    await write(world, text)
    path, grant = await adopted(world)
    shown = await world.owner.get(path.rpartition("/")[0])
    await world.first.approve(grant["id"])
    refusals: list[str] = []

    async def look() -> Any:
        refusals.append(await world.first.refusal(world.arn, BILL))
        seen = await world.first.grant(grant["id"])
        return seen if seen["replaces"]["state"] == "removed" else None

    done = await world.broker.workers.until(look)
    for party in (world.owner, world.first):
        heard = await world.broker.hear(party, "grant.policy_replaced", grant_id=grant["id"])
        assert AGENCY == heard.data["policy"]

    assert ("proposed", "delegate") == (grant["state"], grant["awaiting"])
    assert {AGENCY: True, FOREIGN: True} == {each["name"]: not each["managed"] for each in shown["items"]}
    assert {world.first.aws.id, world.owner.aws.id} == {each["principal"] for each in shown["foreign_senders"]}
    assert {""} == set(refusals)
    assert "active" == done["state"]
    assert (False, world.foreign) == (AGENCY in await world.policies(), (await world.policies())[FOREIGN])
    assert 1 == len(await world.ours())
    await world.conserve()


async def test_a_policy_that_was_changed_after_the_proposal_stays(make_world: MakeWorld) -> None:
    world = await make_world()
    await write(world, policy_for(world, world.first))
    _, grant = await adopted(world)
    changed = policy_for(world, world.first, f"*@{DOMAIN}")
    await write(world, changed, update=True)

    await world.first.approve(grant["id"])
    await world.broker.hear(world.owner, "grant.policy_kept", grant_id=grant["id"])
    seen = await world.reach_state(grant["id"], "active")

    assert "changed" == seen["replaces"]["state"]
    assert AGENCY in await world.policies()
    assert "" == await world.first.refusal(world.arn, BILL)


async def test_a_removal_that_aws_refuses_leaves_both_and_says_so(make_world: MakeWorld) -> None:
    world = await make_world()
    await write(world, policy_for(world, world.first))
    _, grant = await adopted(world)
    role = world.connection["role_arn"].rpartition("/")[2]
    await world.owner.call("iam", "put_role_policy", RoleName=role, PolicyName="keep", PolicyDocument=KEEP)

    await world.first.approve(grant["id"])
    heard = await world.broker.hear(world.owner, "grant.policy_removal_refused", grant_id=grant["id"])
    seen = await world.reach_state(grant["id"], "active")
    await world.owner.call("iam", "delete_role_policy", RoleName=role, PolicyName="keep")
    await world.refresh()
    replaced = await world.broker.hear(world.owner, "grant.policy_replaced", grant_id=grant["id"])

    assert heard.data["commands"][0].startswith("aws sesv2 delete-email-identity-policy --region eu-west-1")
    assert "refused" == seen["replaces"]["state"]
    assert AGENCY == replaced.data["policy"]
    assert AGENCY not in await world.policies()


async def test_only_the_owner_may_adopt_and_sees_the_policies(make_world: MakeWorld) -> None:
    world = await make_world()
    await write(world, policy_for(world, world.first))
    identity = await identity_of(world)
    path, wanted = f"/v1/identities/{identity}/policies", {"delegate_id": world.first.id}

    answers = [await party.try_post(f"{path}/{AGENCY}/adopt", wanted) for party in (world.first, world.second)]
    looks = [await party.http.get(path) for party in (world.first, world.second)]
    foreign = await world.owner.try_post(f"{path}/{FOREIGN}/adopt", {**wanted, "expires_at": "2099-01-01T00:00:00Z"})

    assert [404] * 4 == [*(each.status for each in answers), *(each.status_code for each in looks)]
    assert 409 == foreign.status
    assert "which is not this delegate's" in foreign.body["detail"]
