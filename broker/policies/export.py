"""A grant as something that its owner can apply without the broker: Terraform, AWS CLI calls, JSON."""

import json
import shlex
from enum import StrEnum
from uuid import UUID

import msgspec

from broker.policies.arns import parse_identity_arn
from broker.policies.compile import document, statements
from broker.policies.terms import Terms

# aws_sesv2_email_identity_policy came with version 5.35 of the provider (terraform-provider-aws, CHANGELOG).
PROVIDER = ">= 5.35"


class Format(StrEnum):
    """Forms of the export."""

    terraform = "tf"
    shell = "sh"
    json = "json"


class Export(msgspec.Struct, frozen=True):
    """One grant with its document as SES takes it. Not named as the broker names its own, which it would remove."""

    grant_id: UUID
    identity_arn: str
    policy_name: str
    terms: Terms
    policy: dict[str, object]


def export(terms: Terms, *, grant_id: UUID, identity_arn: str) -> Export:
    """The grant's policy under a name of its own."""
    text = document(statements(terms, grant_id=grant_id, identity_arn=identity_arn))
    return Export(grant_id, identity_arn, policy_name(grant_id), terms, msgspec.json.decode(text, type=dict))


def policy_name(grant_id: UUID) -> str:
    """What the owner's policy for this grant is called."""
    return f"ses-grant-{grant_id.hex}"


def render(exported: Export, form: Format) -> str:
    """The export as text that ends in a line end."""
    return {Format.terraform: _terraform, Format.shell: _shell, Format.json: _json}[form](exported)


def removal(exported: Export) -> str:
    """The one command that takes the access back."""
    return shlex.join([*_aws(exported, "delete-email-identity-policy"), *_named(exported)])


def _json(exported: Export) -> str:
    return msgspec.json.format(msgspec.json.encode(exported), indent=2).decode() + "\n"


def _terraform(exported: Export) -> str:
    identity = parse_identity_arn(exported.identity_arn)
    lines = [
        f"# Grant {exported.grant_id}: who may send as {identity.name}, from account {identity.account_id}.",
        "# Either Terraform or the delegation broker manages this grant, never both: revoke it at the broker first, or",
        "# use it with a connection of kind manual. Apply this with a provider for the Region below.",
        "terraform {",
        "  required_providers {",
        f'    aws = {{ source = "hashicorp/aws", version = "{PROVIDER}" }}',
        "  }",
        "}",
        "",
        f"# Region: {identity.region}",
        f'resource "aws_sesv2_email_identity_policy" "grant_{exported.grant_id.hex}" {{',
        f"  email_identity = {_hcl_text(identity.name)}",
        f"  policy_name    = {_hcl_text(exported.policy_name)}",
        f"  policy = jsonencode({_hcl(exported.policy)})",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _hcl(value: object, depth: int = 1) -> str:
    """An expression of Terraform's language; it knows JSON's objects and lists, but its texts are templates."""
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        rows = [f"{inner}{_hcl_text(str(key))} = {_hcl(each, depth + 1)}" for key, each in value.items()]
        return "\n".join(["{", *rows, f"{outer}}}"])
    if isinstance(value, list):
        return f"[{', '.join(_hcl(each, depth) for each in value)}]"
    return _hcl_text(str(value))


def _hcl_text(text: str) -> str:
    """A quoted text in which nothing is a template (Terraform language, Strings and Templates)."""
    return json.dumps(text, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def _shell(exported: Export) -> str:
    identity = parse_identity_arn(exported.identity_arn)
    text = json.dumps(exported.policy, separators=(",", ":"))
    create = shlex.join([*_aws(exported, "create-email-identity-policy"), *_named(exported), "--policy"])
    query = f"Policies.{json.dumps(exported.policy_name)}"
    read = shlex.join([*_aws(exported, "get-email-identity-policies"), *_named(exported)[:2], "--query", query])
    lines = [
        "#!/bin/sh",
        f"# Grant {exported.grant_id}: who may send as {identity.name}. Run it with credentials of the owner's account",
        f"# {identity.account_id}. Either this or the delegation broker's role manages the grant, never both.",
        "#",
        "# To take the access back:",
        f"#   {removal(exported)}",
        "set -eu",
        "",
        f"account=$(aws sts get-caller-identity --region {identity.region} --query Account --output text)",
        f'if [ "$account" != {identity.account_id} ]; then',
        f'    echo "These credentials are of account $account; the identity is in {identity.account_id}." >&2',
        "    exit 1",
        "fi",
        f"policy={shlex.quote(text)}",
        f'{create} "$policy"',
        "",
        "# SES answers before it has it: read it back.",
        f"held=$({read} --output text)",
        'if [ "$held" = None ]; then',
        '    echo "SES does not show the policy yet; read it again in a moment." >&2',
        "    exit 1",
        "fi",
        # echo of some shells would read the backslashes in it.
        "printf '%s\\n' \"$held\"",
    ]
    return "\n".join(lines) + "\n"


def _aws(exported: Export, operation: str) -> list[str]:
    return ["aws", "sesv2", operation, "--region", parse_identity_arn(exported.identity_arn).region]


def _named(exported: Export) -> list[str]:
    name = parse_identity_arn(exported.identity_arn).name
    return ["--email-identity", name, "--policy-name", exported.policy_name]
