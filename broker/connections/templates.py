"""What an owner runs once in its account so that the role exists: CloudFormation, Terraform or the AWS CLI."""

import json
import shlex
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from broker.connections.permissions import Role, rights, unscoped
from broker.connections.role_documents import role_policy, trust_policy

STACK = "ses-delegation-broker"
_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
}


class Format(StrEnum):
    """Forms of the template: CloudFormation, Terraform, a shell script of AWS CLI calls."""

    YAML = "yaml"
    TERRAFORM = "tf"
    SHELL = "sh"


class RolePlan(msgspec.Struct, frozen=True):
    """Everything that a template says; `account_id` is the owner's, `broker_account_id` ours."""

    account_id: str
    broker_account_id: str
    external_id: str
    role_name: str
    partition: str
    roles: tuple[Role, ...] = (Role.OWNER,)

    @property
    def trust(self) -> dict[str, Any]:
        return trust_policy(self.broker_account_id, self.partition, self.external_id)

    @property
    def policy(self) -> dict[str, Any]:
        return self.policy_for(self.account_id, self.partition)

    def policy_for(self, account_id: str, partition: str) -> dict[str, Any]:
        """What the role may do, of each of its purposes; ids of statements are unique in a policy."""
        documents = {role: role_policy(role, account_id, partition) for role in self.roles}
        if len(documents) == 1:
            return documents[self.roles[0]]
        statements = [
            each | {"Sid": f"{each['Sid']}{role.title()}"}
            for role, document in documents.items()
            for each in document["Statement"]
        ]
        return {"Version": "2012-10-17", "Statement": statements}


def render(plan: RolePlan, form: Format) -> str:
    """The template as text, ready to run as it is."""
    return {Format.YAML: _cloudformation, Format.TERRAFORM: _terraform, Format.SHELL: _shell}[form](plan)


def quick_create_url(plan: RolePlan, template_url: str, region: str) -> str:
    """Opens CloudFormation's console with everything filled in (CloudFormation User Guide, quick-create links)."""
    query = urlencode(
        {
            "templateURL": template_url,
            "stackName": STACK,
            "param_BrokerAccountId": plan.broker_account_id,
            "param_ExternalId": plan.external_id,
            "param_RoleName": plan.role_name,
        },
        quote_via=quote,
    )
    return f"https://{region}.{_CONSOLES[plan.partition]}/cloudformation/home?region={region}#/stacks/create/review?{query}"


_PURPOSES = {
    Role.OWNER: "write and read sending policies of your SES identities.",
    Role.DELEGATE: "keep a configuration set and an SNS topic of its own, and your event destinations on that set.",
}


def _notes(plan: RolePlan) -> list[str]:
    """Comment lines: what cannot be limited, said before the owner agrees."""
    lines = [
        f"The role {plan.role_name} lets the delegation broker (AWS account {plan.broker_account_id})",
        *(_PURPOSES[role] for role in plan.roles),
        "It can be assumed only with the ExternalId below.",
        "Delete the role to end all access at once; policies that are already applied stay until they are deleted.",
        "AWS cannot limit these rights to single resources:",
    ]
    lines += [f"  {row.action}: {row.purpose}" for role in plan.roles for row in unscoped(role)]
    if may_go := [row for role in plan.roles for row in rights(role) if row.optional]:
        lines.append("These rights may be left out; the broker then says so where it would need them:")
        lines += [f"  {row.action}: {row.purpose}" for row in may_go]
    if Role.OWNER in plan.roles:
        lines.append(
            "Whoever may create policies may write any policy on your identities: IAM has no key that limits it."
        )
    return [f"# {line}" for line in lines]


def _cloudformation(plan: RolePlan) -> str:
    """Parameters have this connection's values as defaults; the same text serves as a general template."""
    account, partition = "${AWS::AccountId}", "${AWS::Partition}"
    trust = trust_policy("${BrokerAccountId}", partition, "${ExternalId}")
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Role {plan.role_name} for the SES delegation broker",
        "Parameters": {
            "BrokerAccountId": _parameter(plan.broker_account_id, "[0-9]{12}", "The broker's AWS account"),
            "ExternalId": _parameter(plan.external_id, "[A-Za-z0-9]{32,}", "Given by the broker for this account only"),
            "RoleName": _parameter(plan.role_name, r"[A-Za-z0-9_+=,.@-]{1,64}", "The broker expects this name"),
        },
        "Resources": {
            "BrokerRole": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": {"Ref": "RoleName"},
                    "MaxSessionDuration": 3600,
                    "AssumeRolePolicyDocument": _substituted(trust),
                    "Policies": [
                        {
                            "PolicyName": STACK,
                            "PolicyDocument": _substituted(plan.policy_for(account, partition)),
                        }
                    ],
                },
            }
        },
        "Outputs": {"RoleArn": {"Value": {"Fn::GetAtt": ["BrokerRole", "Arn"]}}},
    }
    return "\n".join([*_notes(plan), *_yaml(template)]) + "\n"


def _parameter(default: str, pattern: str, description: str) -> dict[str, str]:
    return {"Type": "String", "Default": default, "AllowedPattern": pattern, "Description": description}


def _substituted(value: Any) -> Any:
    """`Fn::Sub` around every text that has a variable in it."""
    if isinstance(value, dict):
        return {key: _substituted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item) for item in value]
    return {"Fn::Sub": value} if "${" in str(value) else value


def _yaml(value: Any) -> list[str]:
    """Lines of a block mapping or list; texts as JSON strings, which YAML 1.2 and 1.1 both read as they are."""
    lines: list[str] = []
    pairs = [(f"{key}:", item) for key, item in value.items()] if isinstance(value, dict) else [("-", i) for i in value]
    for head, item in pairs:
        if isinstance(item, dict | list):
            lines += [head, *(f"  {line}" for line in _yaml(item))]
        else:
            lines.append(f"{head} {json.dumps(item)}")
    return lines


def _terraform(plan: RolePlan) -> str:
    lines = [
        *_notes(plan),
        'resource "aws_iam_role" "ses_delegation_broker" {',
        f"  name                 = {json.dumps(plan.role_name)}",
        "  max_session_duration = 3600",
        "  assume_role_policy   = <<-TRUST",
        *_indented(plan.trust),
        "  TRUST",
        "}",
        "",
        'resource "aws_iam_role_policy" "ses_delegation_broker" {',
        f"  name   = {json.dumps(STACK)}",
        "  role   = aws_iam_role.ses_delegation_broker.id",
        "  policy = <<-POLICY",
        *_indented(plan.policy),
        "  POLICY",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _indented(document: dict[str, Any]) -> list[str]:
    return [f"    {line}" for line in json.dumps(document, indent=2).splitlines()]


def _shell(plan: RolePlan) -> str:
    """May be run again: it then sets trust and policy anew."""
    name, trust, policy = (
        shlex.quote(text)
        for text in (plan.role_name, json.dumps(plan.trust, indent=2), json.dumps(plan.policy, indent=2))
    )
    lines = [
        "#!/bin/sh",
        *_notes(plan),
        "set -eu",
        f"trust={trust}",
        f"policy={policy}",
        'account="$(aws sts get-caller-identity --query Account --output text)"',
        f'if [ "$account" != "{plan.account_id}" ]; then',
        f'  echo "These credentials are of account $account; run this in {plan.account_id}." >&2',
        "  exit 1",
        "fi",
        f"if aws iam get-role --role-name {name} >/dev/null 2>&1; then",
        f'  aws iam update-assume-role-policy --role-name {name} --policy-document "$trust"',
        "else",
        f'  aws iam create-role --role-name {name} --max-session-duration 3600 --assume-role-policy-document "$trust"',
        "fi",
        f'aws iam put-role-policy --role-name {name} --policy-name {STACK} --policy-document "$policy"',
    ]
    return "\n".join(lines) + "\n"
