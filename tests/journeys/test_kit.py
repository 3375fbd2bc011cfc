"""The sending kit and the export, pasted and run as their readers would: the mail arrives, or SES says why not."""

import email
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.journeys import tools
from tests.journeys.conftest import MakeWorld
from tests.journeys.party import AGREED, BOUNCES, NEWSLETTER, SHOWN_AS
from tests.journeys.world import World

SET = "agency-news"
ALL: Mapping[str, Any] = {
    "actions": ["send", "send_raw", "send_templated", "send_bulk"],
    "accept_unlimited_bulk": True,
    "from_display_names": [SHOWN_AS],
    "feedback_addresses": [BOUNCES],
}
PYTHON = [f"boto3_{version}{suffix}" for version in ("v2", "v1") for suffix in ("", "_raw", "_template", "_bulk")]
SHELL = [each.replace("boto3", "cli") for each in PYTHON]


async def delegation(make_world: MakeWorld, **more: Any) -> tuple[World, str]:
    """A live grant of all sends, and a delegate with a configuration set and a template of its own."""
    world = await make_world()
    grant_id = await world.activate(**{**ALL, **more})
    await world.first.call("sesv2", "create_configuration_set", ConfigurationSetName=SET)
    content = {"Subject": "News", "Text": "Hello."}
    await world.first.call("sesv2", "create_email_template", TemplateName="YOUR-TEMPLATE", TemplateContent=content)
    return world, grant_id


async def snippet(world: World, grant_id: str, form: str) -> str:
    """One snippet as plain text."""
    path = f"/v1/grants/{grant_id}/kit"
    answer = await world.first.http.get(path, params={"format": form, "configuration_set": SET})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


async def paste(world: World, form: str, text: str, directory: Path) -> tuple[int, str]:
    """Runs a snippet as the delegate, with the program that it is for."""
    url, account = world.broker.aws.url, world.first.aws
    if form.startswith("boto3"):
        return await tools.run([sys.executable, "-"], url, account, text=text)
    if form.startswith("cli"):
        place = tools.aws_cli()
        return await tools.run(
            [str(place / "python"), "-c", "import os; os.execvp('sh', ['sh', '-eu'])"], url, account, text=text
        )
    node, packages = tools.nodemailer()
    module = directory / "send.mjs"
    (directory / "node_modules").symlink_to(packages / "node_modules")
    module.write_text(text)
    return await tools.run([str(node), str(module)], url, account)


def arrived(world: World) -> list[Any]:
    """Mail of the delegate that the local AWS has taken."""
    with world.broker.aws.cloud.state.lock:
        return [mail for mail in world.broker.aws.cloud.state.mailbox if mail.account_id == world.first.aws.id]


@pytest.mark.parametrize("forms", [PYTHON, SHELL, ["nodemailer"]], ids=["boto3", "cli", "nodemailer"])
async def test_every_snippet_sends_what_the_terms_permit(
    make_world: MakeWorld, tmp_path: Path, forms: list[str]
) -> None:
    """Each with From, Return-Path and configuration set as agreed, under the policy that the broker has applied."""
    world, grant_id = await delegation(make_world)

    for number, form in enumerate(forms, 1):
        code, said = await paste(world, form, await snippet(world, grant_id, form), tmp_path)

        assert code == 0, (form, said)
        mails = arrived(world)
        assert len(mails) == number, (form, said)
        last = mails[-1]
        assert (f"{SHOWN_AS} <{NEWSLETTER}>", world.arn, SET) == (
            last.source,
            last.source_arn,
            last.configuration_set,
        )
        assert last.return_path == BOUNCES


async def test_the_headers_for_smtp_carry_a_message_alone(make_world: MakeWorld) -> None:
    """Without any parameter, as SMTP has none; SES's API for raw messages reads the same headers."""
    world, grant_id = await delegation(make_world)
    headers = await snippet(world, grant_id, "smtp")

    message = f"{headers}\nHello.\n".encode()
    given = {"Source": BOUNCES, "RawMessage": {"Data": message}}  # MAIL FROM
    await world.first.call("ses", "send_raw_email", **given)

    (mail,) = arrived(world)
    assert (world.arn, SET, BOUNCES) == (mail.source_arn, mail.configuration_set, mail.return_path)
    parsed = email.message_from_bytes(message)
    assert ("List-Unsubscribe=One-Click", "<https://") == (
        parsed["List-Unsubscribe-Post"],
        parsed["List-Unsubscribe"][:9],
    )


@pytest.mark.parametrize("form", ["boto3_v2", "cli_v1", "nodemailer"])
async def test_outside_of_the_terms_ses_refuses(make_world: MakeWorld, tmp_path: Path, form: str) -> None:
    """The same snippet as somebody else; the broker explains the text that SES gives."""
    world, grant_id = await delegation(make_world)
    text = (await snippet(world, grant_id, form)).replace(NEWSLETTER, "ceo@example.com")

    code, said = await paste(world, form, text, tmp_path)

    assert code != 0
    assert "is not authorized to perform" in said
    explained = await world.first.post("/v1/explanations", {"text": said[:4000], "grant_id": grant_id})
    assert ("not_authorized", world.arn) == (explained["kind"], explained["found"]["resource"])
    assert explained["found"]["action"] in {"ses:SendEmail", "ses:SendRawEmail"}
    assert [] == arrived(world)


async def test_the_iam_policy_of_the_kit_is_all_that_a_sender_needs(make_world: MakeWorld) -> None:
    """A user with nothing but it sends with the configuration set; without the set's ARN it cannot."""
    world, grant_id = await delegation(make_world)
    (policy,) = [
        each["text"]
        for each in (await world.first.get(f"/v1/grants/{grant_id}/kit", configuration_set=SET))["snippets"]
        if each["format"] == "iam"
    ]

    whole = json.loads(policy)
    narrow = json.loads(policy)
    narrow["Statement"][0]["Resource"] = [world.arn]
    outcomes = []
    for name, document in (("whole", whole), ("narrow", narrow)):
        _, keys = world.first.aws.make_user(name, policy=document)
        client = world.first.aws.client("sesv2", keys=keys)
        try:
            client.send_email(
                FromEmailAddress=f"{SHOWN_AS} <{NEWSLETTER}>",
                FromEmailAddressIdentityArn=world.arn,
                FeedbackForwardingEmailAddress=BOUNCES,
                FeedbackForwardingEmailAddressIdentityArn=world.arn,
                Destination={"ToAddresses": ["success@simulator.amazonses.com"]},
                Content={"Simple": {"Subject": {"Data": "News"}, "Body": {"Text": {"Data": "Hello."}}}},
                ConfigurationSetName=SET,
            )
            outcomes.append("sent")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Message"].rpartition("resource ")[2])

    assert outcomes[0] == "sent"
    assert f"configuration-set/{SET}" in outcomes[1]


async def without_deny(world: World) -> bool | None:
    return True if not await world.denies() else None


async def test_the_exported_script_gives_and_takes_the_same_access(make_world: MakeWorld) -> None:
    """Run by the owner with the AWS CLI on an identity that the broker does not manage any more."""
    world, grant_id = await delegation(make_world)
    exported = await world.owner.http.get(f"/v1/grants/{grant_id}/export", params={"format": "sh"})
    await world.revoke(grant_id)
    place = tools.aws_cli()
    shell = [str(place / "python"), "-c", "import os; os.execvp('sh', ['sh', '-eu'])"]

    code, said = await tools.run(shell, world.broker.aws.url, world.owner.aws, text=exported.text)

    assert code == 0, said
    name = f"ses-grant-{grant_id.replace('-', '')}"
    assert name in await world.policies()
    await world.refresh()  # the Deny goes where a policy that is not ours lets the same account send
    await world.broker.workers.until(lambda: without_deny(world))
    await world.first.send(world.arn, AGREED)
    foreign_code, foreign = await tools.run(shell, world.broker.aws.url, world.first.aws, text=exported.text)
    assert foreign_code != 0
    assert "These credentials are of account" in foreign
    (removal,) = [line for line in exported.text.splitlines() if "delete-email-identity-policy" in line]
    code, said = await tools.run(shell, world.broker.aws.url, world.owner.aws, text=removal.lstrip("# ") + "\n")
    assert code == 0, said
    assert name not in await world.policies()
