"""The one table of what we do in tenants' accounts; role templates and session policies are made from it."""

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec


class Role(StrEnum):
    """Whose role a right belongs to."""

    OWNER = "owner"
    DELEGATE = "delegate"


class Form(StrEnum):
    """What a right can be limited to (Service Authorization Reference, Amazon SES v2, Amazon SES, Amazon SNS)."""

    IDENTITY = "identity"
    CONFIGURATION_SET = "configuration-set"
    TOPIC = "topic"
    ANY = "*"


class Permission(msgspec.Struct, frozen=True):
    """One operation of AWS: the action that IAM checks, what it can be limited to, whose role needs it, what for."""

    operation: str
    action: str
    form: Form
    role: Role
    purpose: str
    optional: bool = False
    """Left out of the template: a tenant adds it by hand for a feature that it switches on."""


PREFIX = "delegation-broker-"
"""How everything that we make in a delegate's account is called, so that its role can be limited to it."""

TABLE = (
    Permission(
        "ListEmailIdentities", "ses:ListEmailIdentities", Form.ANY, Role.OWNER, "finds the identities of the account"
    ),
    Permission("GetAccount", "ses:GetAccount", Form.ANY, Role.OWNER, "tells whether the account is in the SES sandbox"),
    Permission(
        "GetEmailIdentity", "ses:GetEmailIdentity", Form.IDENTITY, Role.OWNER, "reads verification, DKIM and MAIL FROM"
    ),
    Permission(
        "GetEmailIdentityPolicies",
        "ses:GetEmailIdentityPolicies",
        Form.IDENTITY,
        Role.OWNER,
        "reads policies, to prove what is and what is no longer there",
    ),
    Permission(
        "CreateEmailIdentityPolicy",
        "ses:CreateEmailIdentityPolicy",
        Form.IDENTITY,
        Role.OWNER,
        "applies a grant; no IAM condition can limit what the policy says",
    ),
    Permission(
        "DeleteEmailIdentityPolicy", "ses:DeleteEmailIdentityPolicy", Form.IDENTITY, Role.OWNER, "takes a grant away"
    ),
    Permission(
        "GetIdentityNotificationAttributes",
        "ses:GetIdentityNotificationAttributes",
        Form.ANY,
        Role.OWNER,
        "reads which topics hear of bounces and complaints",
    ),
    Permission(
        "SetIdentityNotificationTopic",
        "ses:SetIdentityNotificationTopic",
        Form.ANY,
        Role.OWNER,
        "lets our topic hear of bounces and complaints where none is set",
    ),
    *(
        Permission(name, f"ses:{name}", Form.CONFIGURATION_SET, Role.DELEGATE, "keeps our configuration set")
        for name in (
            "CreateConfigurationSet",
            "GetConfigurationSet",
            "DeleteConfigurationSet",
            "CreateConfigurationSetEventDestination",
            "GetConfigurationSetEventDestinations",
            "UpdateConfigurationSetEventDestination",
            "DeleteConfigurationSetEventDestination",
        )
    ),
    *(
        Permission(name, f"sns:{name}", Form.TOPIC, Role.DELEGATE, "keeps our topic for the configuration set's events")
        for name in ("CreateTopic", "GetTopicAttributes", "SetTopicAttributes", "Subscribe", "DeleteTopic")
    ),
    Permission(
        "GetAccount", "ses:GetAccount", Form.ANY, Role.DELEGATE, "tells whether the account is in the SES sandbox"
    ),
    Permission(
        "PutSuppressedDestination",
        "ses:PutSuppressedDestination",
        Form.ANY,
        Role.DELEGATE,
        "puts complaints and hard bounces into the account's own suppression list, where that is switched on",
        optional=True,
    ),
)

_SERVICES = {Form.IDENTITY: "ses", Form.CONFIGURATION_SET: "ses", Form.TOPIC: "sns"}
_RESOURCES = {
    Form.IDENTITY: "identity/*",
    Form.CONFIGURATION_SET: f"configuration-set/{PREFIX}*",
    Form.TOPIC: f"{PREFIX}*",
}


def rights(role: Role) -> tuple[Permission, ...]:
    """The rows of one role that its template has."""
    return tuple(row for row in TABLE if row.role is role and not row.optional)


def unscoped(role: Role) -> tuple[Permission, ...]:
    """Rights that AWS cannot limit to a resource: owners are told of these before they agree."""
    return tuple(row for row in rights(role) if row.form is Form.ANY)


def role_policy(role: Role, account_id: str, partition: str) -> dict[str, Any]:
    """The policy of the tenant's role: each action once, limited to the account's resources where that is possible."""
    statements = [
        _statement(form, rights(role), [_resource(form, account_id, partition)])
        for form in Form
        if any(row.form is form for row in rights(role))
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def trust_policy(broker_account_id: str, partition: str, external_id: str) -> dict[str, Any]:
    """Who may assume the role: our account, and only with this ExternalId (IAM User Guide, confused-deputy)."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition}:iam::{broker_account_id}:root"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
            }
        ],
    }


def session_policy(operations: Sequence[str], resources: Sequence[str]) -> str:
    """JSON that narrows one AssumeRole to these operations, on these ARNs where an operation knows resources.

    Raises ValueError for an operation that is not in the table, or that has none of the ARNs.
    """
    rows = [_row(operation) for operation in operations]
    statements = []
    for form in Form:
        if not any(row.form is form for row in rows):
            continue
        fitting = ["*"] if form is Form.ANY else [arn for arn in resources if _form_of(arn) is form]
        if not fitting:
            raise ValueError(f"No resource is of the form {form} among {list(resources)}.")
        statements.append(_statement(form, rows, fitting))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _row(operation: str) -> Permission:
    for row in TABLE:
        if row.operation == operation:
            return row
    raise ValueError(f"{operation} is not in the table of permissions.")


def _statement(form: Form, rows: Iterable[Permission], resources: Sequence[str]) -> dict[str, Any]:
    actions = sorted({row.action for row in rows if row.form is form})
    sid = "Account" if form is Form.ANY else "".join(word.title() for word in form.split("-"))
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": actions,
        "Resource": resources[0] if len(resources) == 1 else list(resources),
    }


def _resource(form: Form, account_id: str, partition: str) -> str:
    if form is Form.ANY:
        return "*"
    return f"arn:{partition}:{_SERVICES[form]}:*:{account_id}:{_RESOURCES[form]}"


def _form_of(arn: str) -> Form:
    service, resource = arn.split(":", 5)[2::3] if arn.count(":") >= 5 else ("", "")
    if service == "sns":
        return Form.TOPIC
    kind = resource.partition("/")[0]
    return {"identity": Form.IDENTITY, "configuration-set": Form.CONFIGURATION_SET}.get(kind, Form.ANY)
