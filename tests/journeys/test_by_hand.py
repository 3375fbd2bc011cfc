"""An owner that gives no rights: it proves its account, applies the export itself, and says so."""

import json
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from tests.journeys import tools
from tests.journeys.conftest import MakeWorld
from tests.journeys.party import AGREED, DOMAIN, NEWSLETTER, Party
from tests.journeys.world import World, terms
from tests.sandbox.aws import REGION


async def owner_by_hand(world: World) -> tuple[Party, str, Any]:
    """A second owner with a manual connection that is proven, the ARN of its identity, and that as entered."""
    owner = await Party.register(world.broker, "owner")
    arn = owner.aws.verify(DOMAIN)
    made = await owner.post("/v1/connections", {"kind": "manual", "account_id": owner.aws.id, "regions": [REGION]})
    asked = {"connection_id": made["id"], "region": REGION, "name": DOMAIN}
    early = await owner.try_post("/v1/identities", asked)
    assert early.status == 409
    await owner.post(f"/v1/connections/{made['id']}/prove", owner.signed(made["proof"]))
    return owner, arn, await owner.post("/v1/identities", asked)


async def agreed(world: World, owner: Party, arn: str, **more: Any) -> str:
    """A grant that the owner has approved."""
    wanted = {"identity_arn": arn, "terms": terms(world.first.aws.id, NEWSLETTER, **more)}
    grant_id = str((await world.first.post("/v1/grants", wanted))["id"])
    await owner.approve(grant_id)
    return grant_id


async def test_the_owner_applies_and_removes_by_hand_and_nothing_is_called_verified(make_world: MakeWorld) -> None:
    """activating → applied by the owner → active → revoking → removed by the owner → revoked."""
    world = await make_world()
    owner, arn, identity = await owner_by_hand(world)
    grant_id = await agreed(world, owner, arn)
    await world.broker.workers.burst()
    waiting = await owner.grant(grant_id)
    script = (await owner.http.get(f"/v1/grants/{grant_id}/export", params={"format": "sh"})).text
    shell = [str(tools.aws_cli() / "python"), "-c", "import os; os.execvp('sh', ['sh', '-eu'])"]
    code, said = await tools.run(shell, world.broker.aws.url, owner.aws, text=script)
    assert code == 0, said

    active = await owner.post(f"/v1/grants/{grant_id}/confirm", {"what": "applied"})
    await world.first.send(arn, AGREED)
    await owner.post(f"/v1/grants/{grant_id}/revoke")
    await world.broker.workers.burst()
    revoking, told = await world.first.grant(grant_id), await owner.grant(grant_id)
    code, said = await tools.run(shell, world.broker.aws.url, owner.aws, text=told["commands"][0] + "\n")
    assert code == 0, said
    assert await world.first.refusal(arn, AGREED)
    revoked = await owner.post(f"/v1/grants/{grant_id}/confirm", {"what": "removed"})

    assert (None, None) == (identity["read_at"], waiting["error"])
    assert [["awaiting_owner"], [], ["awaiting_owner"], []] == [
        each["flags"] for each in (waiting, active, revoking, revoked)
    ]
    assert [] == revoking["commands"]  # it is the owner's turn, not the delegate's
    assert ["activating", "active", "revoking", "revoked"] == [
        each["state"] for each in (waiting, active, revoking, revoked)
    ]
    assert [False] * 4 == [each["verified"] for each in (waiting, active, revoking, revoked)]
    receipt = await world.first.get(f"/v1/grants/{grant_id}/receipt")
    assert (None, "owner") == (receipt["verified_at"], receipt["protected_by"])
    assert "nobody has read SES" in receipt["statement"]
    heard = await world.broker.hear(world.first, "grant.revoked")
    assert '"verified":false' in heard.body.replace(" ", "")
    history = [each["action"] for each in await owner.items(f"/v1/grants/{grant_id}/history")]
    assert {"grant.confirmed_applied", "grant.confirmed_removed"} <= set(history)


async def test_only_the_owner_confirms_and_only_what_it_can_have_done(make_world: MakeWorld) -> None:
    world = await make_world()
    owner, arn, _ = await owner_by_hand(world)
    grant_id = await agreed(world, owner, arn)
    path = f"/v1/grants/{grant_id}/confirm"

    by_delegate = await world.first.try_post(path, {"what": "applied"})
    too_early = await owner.try_post(path, {"what": "removed"})
    by_stranger = await world.second.try_post(path, {"what": "applied"})
    await owner.post(path, {"what": "applied"})
    twice = await owner.try_post(path, {"what": "applied"})

    assert [409, 409, 404, 409] == [each.status for each in (by_delegate, too_early, by_stranger, twice)]


async def test_where_the_broker_reads_ses_there_is_nothing_to_confirm(make_world: MakeWorld) -> None:
    world = await make_world()
    grant_id = await world.activate()

    refused = await world.owner.try_post(f"/v1/grants/{grant_id}/confirm", {"what": "applied"})

    assert refused.status == 409
    assert (await world.owner.grant(grant_id))["verified"] is True


async def test_the_end_date_ends_a_grant_that_nobody_removes(make_world: MakeWorld) -> None:
    """The date is in the policy; the broker says `ending` until the owner has tidied up."""
    world = await make_world()
    owner, arn, _ = await owner_by_hand(world)
    grant_id = await agreed(world, owner, arn, expires_in=timedelta(seconds=8))
    exported = (await owner.get(f"/v1/grants/{grant_id}/export"))["policy"]
    await owner.call(
        "sesv2", "create_email_identity_policy", EmailIdentity=DOMAIN, PolicyName="mine", Policy=json.dumps(exported)
    )
    await owner.post(f"/v1/grants/{grant_id}/confirm", {"what": "applied"})
    await world.broker.reach(owner, f"/v1/grants/{grant_id}", "ending")

    try:
        await world.first.send(arn, AGREED)
        refused = False
    except ClientError:
        refused = True
    done = await owner.post(f"/v1/grants/{grant_id}/confirm", {"what": "removed"})

    assert (True, "expired", False) == (refused, done["state"], done["verified"])


async def test_a_simulation_there_says_what_nobody_has_read(make_world: MakeWorld) -> None:
    world = await make_world()
    owner, arn, _ = await owner_by_hand(world)
    grant_id = await agreed(world, owner, arn)
    await owner.post(f"/v1/grants/{grant_id}/confirm", {"what": "applied"})
    send = {"call": "v2_send_email_simple", "from": NEWSLETTER, "region": REGION}

    found = await world.first.post("/v1/simulations", {"grant_id": grant_id, "send": send, "dns": False})

    status = {item["code"]: item["status"] for item in found["checklist"]}
    assert ("terms", "allow") == (found["decision"]["basis"], found["decision"]["decision"])
    assert ("unknown", "unknown", "unknown") == (status["grant"], status["identity_verified"], status["owner_sandbox"])
