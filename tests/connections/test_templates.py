"""Templates are run, not read: what they make is what the broker can use, and nothing more."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.aws_access import RoleAccess
from broker.connections.permissions import Role
from broker.connections.role_documents import role_policy, trust_policy
from broker.connections.templates import Format, RolePlan, quick_create_url, render
from broker.ids import new_id
from tests.connections.aws import EXTERNAL_ID, Gateways
from tests.sandbox.aws import REGION, Account
from tests.sandbox.aws import Aws as LocalAws

Documents = tuple[Any, Any]
yaml: Any = import_module("yaml")  # ships no types


def plan_of(account_id: str) -> RolePlan:
    return RolePlan(
        account_id=account_id,
        broker_account_id="999999999999",
        external_id=EXTERNAL_ID,
        role_name="SesDelegationBroker",
        partition="aws",
    )


def substituted(value: Any, values: dict[str, str]) -> Any:
    """What CloudFormation makes of Ref and Fn::Sub."""
    if isinstance(value, dict) and value.keys() == {"Ref"}:
        return values[value["Ref"]]
    if isinstance(value, dict) and value.keys() == {"Fn::Sub"}:
        return re.sub(r"\$\{([^}]+)\}", lambda found: values[found[1]], value["Fn::Sub"])
    if isinstance(value, dict):
        return {key: substituted(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [substituted(item, values) for item in value]
    return value


def from_cloudformation(plan: RolePlan) -> Documents:
    template = yaml.safe_load(render(plan, Format.YAML))
    values = {name: parameter["Default"] for name, parameter in template["Parameters"].items()}
    values |= {"AWS::AccountId": plan.account_id, "AWS::Partition": plan.partition}
    role = substituted(template["Resources"]["BrokerRole"]["Properties"], values)
    assert role["RoleName"] == plan.role_name
    return role["AssumeRolePolicyDocument"], role["Policies"][0]["PolicyDocument"]


def from_terraform(plan: RolePlan) -> Documents:
    text = render(plan, Format.TERRAFORM)
    trust = re.search(r"<<-TRUST\n(.*?)\n\s*TRUST\n", text, re.DOTALL)
    policy = re.search(r"<<-POLICY\n(.*?)\n\s*POLICY\n", text, re.DOTALL)
    assert trust is not None
    assert policy is not None
    return json.loads(trust[1]), json.loads(policy[1])


READERS: list[Callable[[RolePlan], Documents]] = [from_cloudformation, from_terraform]


@pytest.mark.parametrize("read", READERS)
def test_a_template_says_what_the_table_says(read: Callable[[RolePlan], Documents]) -> None:
    trust, policy = read(plan_of("111111111111"))

    assert trust_policy("999999999999", "aws", EXTERNAL_ID) == trust
    assert role_policy(Role.OWNER, "111111111111", "aws") == policy


@pytest.mark.parametrize("read", READERS)
async def test_a_role_made_from_a_template_can_be_used(
    read: Callable[[RolePlan], Documents], gateways: Gateways, cloud: LocalAws
) -> None:
    account = cloud.account()
    account.verify("example.com")
    trust, policy = read(plan_of(account.id))
    arn = account.make_role("SesDelegationBroker", trust, policy=policy)
    access = RoleAccess(new_id(), account.id, arn, EXTERNAL_ID, REGION)

    assert [each["IdentityName"] for each in await gateways.ses.list_identities(access)] == ["example.com"]


# Stands in for the AWS CLI, which is not among the tests' tools: it keeps its arguments, and knows whose account it is.
FAKE_CLI = """#!/bin/sh
if [ "$1" = sts ]; then echo "$FAKE_ACCOUNT"; exit 0; fi
if [ "$2" = get-role ]; then exit "$FAKE_ROLE_MISSING"; fi
for argument in "$@"; do printf '%s\\0' "$argument"; done >> "$FAKE_LOG"
printf '\\n\\0' >> "$FAKE_LOG"
"""


def run_script(plan: RolePlan, tmp_path: Path, *, account_id: str, role_exists: bool) -> tuple[int, list[list[str]]]:
    """Exit code, and the arguments of each changing call."""
    (tmp_path / "aws").write_text(FAKE_CLI)
    (tmp_path / "aws").chmod(0o700)
    (tmp_path / "log").touch()
    script = tmp_path / "role.sh"
    script.write_text(render(plan, Format.SHELL))
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FAKE_ACCOUNT": account_id,
        "FAKE_ROLE_MISSING": "0" if role_exists else "1",
        "FAKE_LOG": str(tmp_path / "log"),
    }
    done = subprocess.run(["/bin/sh", str(script)], env=environment, capture_output=True, check=False)  # noqa: S603 - our own script
    calls = (tmp_path / "log").read_text().split("\n\0")
    return done.returncode, [call.split("\0")[:-1] for call in calls if call]


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


def test_the_script_makes_the_role_of_the_table(tmp_path: Path) -> None:
    code, calls = run_script(plan_of("111111111111"), tmp_path, account_id="111111111111", role_exists=False)

    trust = json.loads(option(calls[0], "--assume-role-policy-document"))
    policy = json.loads(option(calls[1], "--policy-document"))
    assert (0, "create-role", "put-role-policy") == (code, calls[0][1], calls[1][1])
    assert trust_policy("999999999999", "aws", EXTERNAL_ID) == trust
    assert role_policy(Role.OWNER, "111111111111", "aws") == policy


def test_the_script_may_be_run_again(tmp_path: Path) -> None:
    code, calls = run_script(plan_of("111111111111"), tmp_path, account_id="111111111111", role_exists=True)

    assert (0, ["update-assume-role-policy", "put-role-policy"]) == (code, [call[1] for call in calls])


def test_the_script_changes_nothing_in_another_account(tmp_path: Path) -> None:
    code, calls = run_script(plan_of("111111111111"), tmp_path, account_id="222222222222", role_exists=False)

    assert (1, []) == (code, calls)


@pytest.mark.parametrize("form", list(Format))
def test_every_template_says_which_rights_cannot_be_limited(form: Format) -> None:
    text = render(plan_of("111111111111"), form)

    assert "# AWS cannot limit these rights to single resources:" in text
    assert "#   ses:SetIdentityNotificationTopic" in text


def test_a_quick_create_link_fills_in_the_parameters_of_the_template() -> None:
    plan = plan_of("111111111111")

    url = quick_create_url(plan, "https://templates.s3.amazonaws.com/role.yaml", "eu-west-1")

    query = parse_qs(urlsplit(url).fragment.partition("?")[2])
    parameters = yaml.safe_load(render(plan, Format.YAML))["Parameters"]
    assert url.startswith("https://eu-west-1.console.aws.amazon.com/cloudformation/home?region=eu-west-1#")
    assert {f"param_{name}" for name in parameters} | {"templateURL", "stackName"} == set(query)
    assert [plan.external_id] == query["param_ExternalId"]


def test_the_default_account_can_be_told_from_the_template(cloud: LocalAws) -> None:
    """IAM takes the documents as they are, with the condition on the ExternalId in place."""
    account: Account = cloud.account()
    trust, policy = from_cloudformation(plan_of(account.id))

    arn = account.make_role("SesDelegationBroker", trust, policy=policy)

    assert f"arn:aws:iam::{account.id}:role/SesDelegationBroker" == arn
