"""The one table of what we do in tenants' accounts; role templates and session policies are made from it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec


class Role(StrEnum):
    """Whose role a right belongs to."""

    OWNER = "owner"
    DELEGATE = "delegate"


class Form(StrEnum):
    """What a right can be limited to (Service Authorization Reference, Amazon SES v2, Amazon SES, Amazon SNS).

    `SENDING`: a send is checked on the identity, which may be another account's, and on the configuration set.
    """

    IDENTITY = "identity"
    CONFIGURATION_SET = "configuration-set"
    TOPIC = "topic"
    ANY = "*"
    SENDING = "sending"


class Permission(msgspec.Struct, frozen=True):
    """One operation of AWS: the action that IAM checks, what it can be limited to, whose role needs it, what for."""

    operation: str
    action: str
    form: Form
    role: Role
    purpose: str
    condition: Mapping[str, Mapping[str, Any]] | None = None


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
    Permission(
        "SetIdentityHeadersInNotificationsEnabled",
        "ses:SetIdentityHeadersInNotificationsEnabled",
        Form.ANY,
        Role.OWNER,
        "adds the original headers to the notifications of a delegate's topic that you approved",
    ),
    Permission(
        "SetIdentityFeedbackForwardingEnabled",
        "ses:SetIdentityFeedbackForwardingEnabled",
        Form.ANY,
        Role.OWNER,
        "switches e-mail feedback forwarding off where you approved it, and on again",
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
    *(
        Permission(name, f"ses:{name}", Form.ANY, Role.DELEGATE, "finds, edits and removes cross-account notifications")
        for name in (
            "GetIdentityNotificationAttributes",
            "SetIdentityHeadersInNotificationsEnabled",
            "SetIdentityNotificationTopic",
        )
    ),
)

SIMULATOR = tuple(
    f"{name}@simulator.amazonses.com" for name in ("success", "bounce", "complaint", "ooto", "suppressionlist")
)
"""The mailbox simulator's addresses (Developer Guide, send-an-email-from-console)."""

OPTIONAL = (
    Permission(
        "SendEmail",
        "ses:SendEmail",
        Form.SENDING,
        Role.DELEGATE,
        "sends a test to the mailbox simulator, and to nobody else, before an old route is removed",
        # ForAllValues also holds where the key is missing or empty: the Null guard demands that it is there (IAM User
        # Guide, reference_policies_condition-single-vs-multi-valued-context-keys).
        condition={
            "ForAllValues:StringEquals": {"ses:Recipients": list(SIMULATOR)},
            "Null": {"ses:Recipients": "false"},
        },
    ),
)
"""Rights that a role has only where its tenant asked for them; nothing else depends on them."""

_SERVICES = {Form.IDENTITY: "ses", Form.CONFIGURATION_SET: "ses", Form.TOPIC: "sns"}
_FITTING = {Form.SENDING: frozenset({Form.IDENTITY, Form.CONFIGURATION_SET})}
_RESOURCES = {
    Form.IDENTITY: "identity/*",
    Form.CONFIGURATION_SET: f"configuration-set/{PREFIX}*",
    Form.TOPIC: f"{PREFIX}*",
}


def rights(role: Role) -> tuple[Permission, ...]:
    """The rows of one role."""
    return tuple(row for row in TABLE if row.role is role)


def unscoped(role: Role) -> tuple[Permission, ...]:
    """Rights that AWS cannot limit to a resource: owners are told of these before they agree."""
    return tuple(row for row in rights(role) if row.form is Form.ANY)


def role_policy(role: Role, account_id: str, partition: str, *, optional: Sequence[Permission] = ()) -> dict[str, Any]:
    """The policy of the tenant's role: each action once, limited to the account's resources where that is possible.

    `optional`: rows of `OPTIONAL` that the tenant asked for.
    """
    rows = (*rights(role), *optional)
    statements = [
        _statement(form, rows, _resources(form, account_id, partition))
        for form in Form
        if any(row.form is form for row in rows)
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
        forms = _FITTING.get(form, frozenset({form}))
        fitting = ["*"] if form is Form.ANY else [arn for arn in resources if _form_of(arn) in forms]
        if not fitting:
            raise ValueError(f"No resource is of the form {form} among {list(resources)}.")
        statements.append(_statement(form, rows, fitting))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _row(operation: str) -> Permission:
    for row in (*TABLE, *OPTIONAL):
        if row.operation == operation:
            return row
    raise ValueError(f"{operation} is not in the table of permissions.")


def _statement(form: Form, rows: Iterable[Permission], resources: Sequence[str]) -> dict[str, Any]:
    """All rows of one form; those of a form with a condition share it."""
    fitting = [row for row in rows if row.form is form]
    sid = "Account" if form is Form.ANY else "".join(word.title() for word in form.split("-"))
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted({row.action for row in fitting}),
        "Resource": resources[0] if len(resources) == 1 else list(resources),
    }
    return statement | ({"Condition": fitting[0].condition} if fitting[0].condition else {})


def _resources(form: Form, account_id: str, partition: str) -> list[str]:
    """The owner's identities are known only once there is a grant, so a send is limited by its recipients alone."""
    if form is Form.SENDING:
        own_sets = _resource(Form.CONFIGURATION_SET, account_id, partition)
        return [f"arn:{partition}:ses:*:*:identity/*", own_sets]
    return ["*"] if form is Form.ANY else [_resource(form, account_id, partition)]


def _resource(form: Form, account_id: str, partition: str) -> str:
    return f"arn:{partition}:{_SERVICES[form]}:*:{account_id}:{_RESOURCES[form]}"


def _form_of(arn: str) -> Form:
    service, resource = arn.split(":", 5)[2::3] if arn.count(":") >= 5 else ("", "")
    if service == "sns":
        return Form.TOPIC
    kind = resource.partition("/")[0]
    return {"identity": Form.IDENTITY, "configuration-set": Form.CONFIGURATION_SET}.get(kind, Form.ANY)
