"""The script for the day on which an agency was hacked, run by the owner with the AWS CLI and without the broker."""

import pytest

from broker.ids import new_id
from broker.policies.arns import parse_identity_arn
from broker.policies.compile import document, statements
from broker.policies.deny import shut_out
from broker.policies.plan import DENY, policy_name
from broker.policies.revoke_script import Target, revoke_script
from broker.policies.withdraw import withdrawal
from tests.journeys import tools
from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import AGREED, BILL, BILLING, DOMAIN, NEWSLETTER
from tests.journeys.world import FOREIGN, World
from tests.policies.examples import END, terms
from tests.sandbox.aws import Account, allow

REFUSED = "AccessDeniedException"


async def run(world: World, text: str, account: Account) -> tuple[int, str]:
    """Run as somebody pastes it who has only the AWS CLI."""
    shell = [str(tools.aws_cli() / "python"), "-c", "import os; os.execvp('sh', ['sh'])"]
    return await tools.run(shell, world.broker.aws.url, account, text=text)


@pytest.mark.parametrize("revoked_first", [False, True])
async def test_the_delegate_is_out_and_its_neighbour_goes_on(make_world: MakeWorld, *, revoked_first: bool) -> None:
    """The Deny stays until the owner takes it away; run again it finds nothing to do and says so."""
    world = await make_world()
    grant_id = await world.activate(world.first)
    await world.activate(world.second, BILLING)
    refusals = [await world.first.refusal(world.arn, AGREED), await world.second.refusal(world.arn, BILL)]
    if revoked_first:  # and no worker is there
        await world.owner.post("/v1/grants/revoke", {"delegate_id": world.first.id})
    answer = await world.owner.http.get("/v1/grants/revoke-script", params={"delegate_id": world.first.id})

    code, said = await run(world, answer.text, world.owner.aws)
    again, said_again = await run(world, answer.text, world.owner.aws)
    foreign, said_to_stranger = await run(world, answer.text, world.first.aws)

    assert answer.headers["content-type"].startswith("text/plain")
    assert ["", ""] == refusals
    assert (0, 0, 1) == (code, again, foreign), (said, said_again, said_to_stranger)
    assert f"none of these grants in account {world.owner.aws.id} any more" in said_again
    assert "nothing to take back here" in said_to_stranger
    assert await world.first.refusal(world.arn, AGREED)
    assert "" == await world.second.refusal(world.arn, BILL)
    held = await world.policies()
    assert world.foreign == held[FOREIGN]
    (deny,) = [name for name in held if name.startswith("ses-revoke-")]
    assert not [text for text in held.values() if grant_id.replace("-", "") in text]
    lift = next(line for line in answer.text.splitlines() if line.startswith("#   aws") and deny in line)
    assert (0, "") == await run(world, lift.removeprefix("#   "), world.owner.aws)
    assert {*held} - {deny} == set(await world.policies())


@pytest.mark.parametrize("named", [pytest.param(True, id="named"), pytest.param(False, id="not_named")])
async def test_a_deleted_role_keeps_nobody_else_from_being_denied(
    make_world: MakeWorld, speak: Speak, *, named: bool
) -> None:
    """SES refuses the one Deny of all three: they are shut out by those of the halves, until these are lifted."""
    speak(refused_principal_named=named)
    world = await make_world()
    role = world.first.aws.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": world.first.aws.id}))
    user, _ = world.first.aws.make_user("ann")
    await world.activate(principals=[role])
    await world.activate(address="ann@" + DOMAIN, principals=[user])
    await world.activate(world.second, BILLING)
    before = await world.policies()
    await world.first.call("iam", "delete_role", RoleName="mailer")
    answer = await world.owner.http.get("/v1/grants/revoke-script", params={"identity_arn": world.arn})

    for _ in range(2):
        code, said = await run(world, answer.text, world.owner.aws)
        assert 0 == code, said
    held = await world.policies()

    denies = {name: text for name, text in held.items() if name.startswith("ses-revoke-")}
    assert {FOREIGN, *denies} == {*held}
    shut = shut_out({policy_name(DENY, number): text for number, text in enumerate(denies.values())}, world.arn)
    assert {user, world.second.aws.id} == shut
    for name, text in before.items():  # as if SES executed an older request late
        if world.second.aws.id in text:
            given = {"EmailIdentity": DOMAIN, "PolicyName": name, "Policy": text}
            await world.owner.call("sesv2", "create_email_identity_policy", **given)
    assert REFUSED == await world.second.refusal(world.arn, BILL)
    lifts = [line.removeprefix("#   ") for line in answer.text.splitlines() if line.startswith(("#   aws", "#   for"))]
    await run(world, "\n".join(lifts), world.owner.aws)
    assert not [name for name in await world.policies() if name.startswith("ses-revoke-")]
    assert "" == await world.second.refusal(world.arn, BILL)


async def test_what_others_hold_in_a_shared_document_stays(make_world: MakeWorld) -> None:
    """One document for two grants: the script puts it without the one."""
    world = await make_world()
    going, staying = new_id(), new_id()
    parts = [(going, world.first.aws.id, NEWSLETTER), (staying, world.second.aws.id, BILLING)]
    shared = document(
        [
            statement
            for grant, account, address in parts
            for statement in statements(
                terms(
                    principals=(account,),
                    from_addresses=(address,),
                    expires_at=END.replace(year=2099),
                ),
                grant_id=grant,
                identity_arn=world.arn,
            )
        ]
    )
    name = policy_name(1, 1)
    given = {"EmailIdentity": DOMAIN, "PolicyName": name, "Policy": shared}
    await world.owner.call("sesv2", "create_email_identity_policy", **given)
    assert ["", ""] == [await world.first.refusal(world.arn, AGREED), await world.second.refusal(world.arn, BILL)]
    target = Target(parse_identity_arn(world.arn), (going,), withdrawal(await world.policies(), {going}))

    code, said = await run(world, revoke_script([target]), world.owner.aws)

    assert 0 == code, said
    assert [staying.hex in (await world.policies())[name], going.hex in (await world.policies())[name]] == [True, False]
    assert await world.first.refusal(world.arn, AGREED)
    assert "" == await world.second.refusal(world.arn, BILL)


async def test_it_says_when_something_is_still_there(make_world: MakeWorld) -> None:
    """SES refuses to delete: the look at the end decides, not what was asked for."""
    world = await make_world()
    await world.activate(world.first)
    text = (await world.owner.http.get("/v1/grants/revoke-script", params={"delegate_id": world.first.id})).text
    for _ in range(3):
        world.fault("DeleteEmailIdentityPolicy", "access_denied")

    code, said = await run(world, text, world.owner.aws)

    assert 1 == code
    assert "is still on" in said
    # The Deny was not hindered by it.
    assert await world.first.refusal(world.arn, AGREED)
