"""Simulations beside the sends themselves: what is said to be allowed arrives, what is said to be refused does not."""

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import BOUNCES, CEO, DOMAIN, NEWSLETTER, SHOWN_AS, Party
from tests.journeys.world import World
from tests.sandbox.aws import REGION

GOOD: Mapping[str, Any] = {
    "call": "v2_send_email_simple",
    "from": f"{SHOWN_AS} <{NEWSLETTER}>",
    "return_path": BOUNCES,
    "recipients": ["success@simulator.amazonses.com"],
    "region": REGION,
    "arns": ["FromEmailAddressIdentityArn", "FeedbackForwardingEmailAddressIdentityArn"],
}
LIMITED: Mapping[str, Any] = {"from_display_names": [SHOWN_AS], "feedback_addresses": [BOUNCES]}


async def simulate(party: Party, grant_id: str, **changes: Any) -> Any:
    """The simulation of the good send with these changes; without the DNS."""
    send = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return await party.post("/v1/simulations", {"grant_id": grant_id, "send": send, "dns": False})


def statuses(simulated: Any) -> dict[str, str]:
    """Status by code."""
    return {item["code"]: item["status"] for item in simulated["checklist"]}


async def really(world: World, **changes: Any) -> str:
    """Sends it with API v2: empty where SES takes it, else SES's text."""
    send = {**GOOD, **changes}
    given: dict[str, Any] = {"FromEmailAddressIdentityArn": world.arn}
    if send["return_path"]:
        given["FeedbackForwardingEmailAddress"] = send["return_path"]
        given["FeedbackForwardingEmailAddressIdentityArn"] = world.arn
    try:
        await world.first.call(
            "sesv2",
            "send_email",
            FromEmailAddress=send["from"],
            Destination={"ToAddresses": send["recipients"]},
            Content={"Simple": {"Subject": {"Data": "News"}, "Body": {"Text": {"Data": "Hello."}}}},
            **given,
        )
    except ClientError as error:
        return str(error.response["Error"]["Message"])
    return ""


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, True),
        ({"from": f"{SHOWN_AS} <{CEO}>"}, False),
        ({"from": NEWSLETTER}, False),
        ({"from": f"{SHOWN_AS} <Newsletter@{DOMAIN}>"}, False),
        ({"from": f"{SHOWN_AS} <someone@elsewhere.example>"}, False),
        ({"return_path": f"other@{DOMAIN}"}, False),
        ({"return_path": None}, False),
        ({"recipients": ["ann@example.org", "bounce@simulator.amazonses.com"]}, True),
    ],
)
async def test_a_simulation_says_what_the_send_then_shows(
    make_world: MakeWorld, changes: Mapping[str, Any], *, allowed: bool
) -> None:
    """Both parties are told the same; SES's text is one that the explainer knows."""
    world = await make_world()
    grant_id = await world.activate(**LIMITED)

    said = await really(world, **changes)

    for party in (world.owner, world.first):
        simulated = await simulate(party, grant_id, **changes)
        assert (allowed, allowed) == (simulated["allowed"], said == ""), (simulated, said)
    if said:
        explained = await world.first.post("/v1/explanations", {"text": said, "grant_id": grant_id})
        assert explained["kind"] in {"not_authorized", "not_aligned"}
        assert explained["causes"]


async def test_the_statement_and_the_reason_are_named(make_world: MakeWorld) -> None:
    """Which policy decided, and for a refusal what did not match."""
    world = await make_world()
    grant_id = await world.activate(**LIMITED)

    good = (await simulate(world.owner, grant_id))["decision"]
    bad = (await simulate(world.first, grant_id, **{"from": f"{SHOWN_AS} <{CEO}>"}))["decision"]

    assert ("ses", grant_id.replace("-", "")) == (good["basis"], good["statement"])
    assert good["policy"].startswith("delegation-broker-")
    assert bad["reason"] == f"From `{CEO}` does not match `{NEWSLETTER}`."


async def test_a_delegate_is_not_shown_policies_of_others(make_world: MakeWorld) -> None:
    """A foreign Deny decides; the owner reads which, the delegate only that there is one."""
    world = await make_world()
    grant_id = await world.activate(**LIMITED)
    deny = (
        f'{{"Version":"2012-10-17","Statement":[{{"Sid":"SecretFeud","Effect":"Deny","Principal":"*",'
        f'"Action":"ses:*","Resource":"{world.arn}"}}]}}'
    )
    await world.owner.call(
        "sesv2", "create_email_identity_policy", EmailIdentity=DOMAIN, PolicyName="feud", Policy=deny
    )
    await world.refresh()

    async def look() -> Any:
        simulated = await simulate(world.owner, grant_id)
        return simulated if simulated["decision"]["decision"] == "explicit_deny" else None

    seen = await world.broker.workers.until(look)
    told = await simulate(world.first, grant_id)

    assert ("feud", "SecretFeud") == (seen["decision"]["policy"], seen["decision"]["statement"])
    assert ("explicit_deny", None, None) == tuple(
        told["decision"][name] for name in ("decision", "policy", "statement")
    )
    assert "Feud" not in str(told)


async def test_the_checklist_names_what_no_policy_says(make_world: MakeWorld) -> None:
    """The wrong Region, a call that the terms do not permit, an ARN that is not passed, a state that is not active."""
    world = await make_world()
    grant_id = await world.activate(**LIMITED)

    elsewhere = await simulate(world.first, grant_id, region="us-east-1")
    templated = await simulate(world.first, grant_id, call="v2_send_email_template")
    raw = await simulate(world.first, grant_id, call="v1_send_raw_email", arns=["SourceArn", "ReturnPathArn"])
    await world.revoke(grant_id)
    ended = await simulate(world.first, grant_id)

    assert ("problem", False) == (statuses(elsewhere)["region"], elsewhere["allowed"])
    assert ("problem", "implicit_deny") == (statuses(templated)["action"], templated["decision"]["decision"])
    assert ("problem", "allow", False) == (statuses(raw)["arns"], raw["decision"]["decision"], raw["allowed"])
    assert ("problem", "terms", "allow") == (
        statuses(ended)["grant"],
        ended["decision"]["basis"],
        ended["decision"]["decision"],
    )


async def test_the_owners_sandbox_is_known_and_the_delegates_is_not(make_world: MakeWorld) -> None:
    """GetAccount is asked with the owner's role; the delegate has only proven its account."""
    world = await make_world()
    grant_id = await world.activate(**LIMITED)

    found = statuses(await simulate(world.first, grant_id))

    assert ("ok", "unknown", "unknown", "ok") == (
        found["owner_sandbox"],
        found["delegate_sandbox"],
        found["delegate_iam"],
        found["identity_verified"],
    )


async def test_an_identity_is_simulated_with_all_of_its_policies_by_its_owner(make_world: MakeWorld) -> None:
    """The foreign policy lets the owner's own account send as payroll; nobody else may ask."""
    world = await make_world()
    (identity,) = [each for each in await world.owner.items("/v1/identities") if each["arn"] == world.arn]
    send = {"call": "v2_send_email_simple", "from": f"payroll@{DOMAIN}", "caller": world.owner.aws.id, "region": REGION}
    asked = {"identity_id": identity["id"], "send": send, "dns": False}

    simulated = await world.owner.post("/v1/simulations", asked)
    stranger = await world.first.try_post("/v1/simulations", asked)

    assert (True, "PayrollProvider", "PayrollMayWrite") == (
        simulated["allowed"],
        simulated["decision"]["policy"],
        simulated["decision"]["statement"],
    )
    assert stranger.status == 404


async def test_pasted_policies_need_no_grant(make_world: MakeWorld) -> None:
    """And a bad document is answered with its place."""
    world = await make_world()
    statement = {"Effect": "Allow", "Principal": "*", "Action": "ses:SendEmail", "Resource": world.arn}
    asked = {
        "policies": [{"Version": "2012-10-17", "Statement": statement}],
        "identity_arn": world.arn,
        "send": {**GOOD, "caller": "222222222222"},
        "dns": False,
    }

    good = await world.first.post("/v1/simulations", asked)
    bad = await world.first.try_post("/v1/simulations", {**asked, "policies": [{"Statement": 1}]})

    assert (True, "pasted", "0") == (good["allowed"], good["decision"]["basis"], good["decision"]["policy"])
    assert (422, "/policies/0") == (bad.status, bad.body["errors"][0]["pointer"])
