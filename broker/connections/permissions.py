"""The one table of what we do in tenants' accounts; role templates and session policies are made from it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec


class Role(StrEnum):
    """Whose role a right belongs to."""

    OWNER = "owner"
    DELEGATE = "delegate"


class Form(StrEnum):
    """What a right can be limited to (Service Authorization Reference, Amazon SES v2, Amazon SES, Amazon SNS, IAM)."""

    IDENTITY = "identity"
    CONFIGURATION_SET = "configuration-set"
    TOPIC = "topic"
    ROLE = "role"
    ANY = "*"


class Permission(msgspec.Struct, frozen=True):
    """One operation of AWS: the action that IAM checks, what it can be limited to, whose role needs it, what for.

    An operation has a row for each action that it needs. `condition`: as IAM writes it. `optional`: a role without it
    is verified all the same, and what needs it says so where it is wanted.
    """

    operation: str
    action: str
    form: Form
    role: Role
    purpose: str
    condition: Mapping[str, Mapping[str, Any]] | None = None
    optional: bool = False


PREFIX = "delegation-broker-"
"""How all that we make in a delegate's account, or pass to SES, is called, so that our role can be limited to it."""

SIMULATOR = tuple(
    f"{name}@simulator.amazonses.com" for name in ("success", "bounce", "complaint", "ooto", "suppressionlist")
)
"""The mailbox simulator's addresses (Developer Guide, send-an-email-from-console)."""

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
        Permission(
            name,
            f"sns:{name}",
            Form.TOPIC,
            Role.OWNER,
            "listens to the topic that an identity tells already, so that its setting stays as it is",
            optional=True,
        )
        for name in ("GetTopicAttributes", "Subscribe")
    ),
    # Subscriptions are no resources to IAM (Service Authorization Reference, Amazon SNS).
    Permission(
        "Unsubscribe",
        "sns:Unsubscribe",
        Form.ANY,
        Role.OWNER,
        "ends our subscription to such a topic when the route is removed",
        optional=True,
    ),
    *(
        Permission(name, f"ses:{name}", Form.CONFIGURATION_SET, Role.DELEGATE, "keeps our configuration set")
        for name in (
            "CreateConfigurationSet",
            "GetConfigurationSet",
            "DeleteConfigurationSet",
            "PutConfigurationSetDeliveryOptions",
            "CreateConfigurationSetEventDestination",
            "GetConfigurationSetEventDestinations",
            "UpdateConfigurationSetEventDestination",
            "DeleteConfigurationSetEventDestination",
        )
    ),
    *(
        Permission(name, f"sns:{name}", Form.TOPIC, Role.DELEGATE, "keeps our topic for the configuration set's events")
        for name in (
            "CreateTopic",
            "GetTopicAttributes",
            "SetTopicAttributes",
            "ListTagsForResource",
            "Subscribe",
            "DeleteTopic",
        )
    ),
    # What we make carries a tag from its first moment on, so that nothing of the delegate's is taken for ours.
    Permission(
        "CreateConfigurationSet",
        "ses:TagResource",
        Form.CONFIGURATION_SET,
        Role.DELEGATE,
        "marks our configuration set",
    ),
    Permission("CreateTopic", "sns:TagResource", Form.TOPIC, Role.DELEGATE, "marks our topic"),
    # Only for a Data Firehose destination (Service Authorization Reference, Amazon SES: the operation passes the role).
    *(
        Permission(
            name,
            "iam:PassRole",
            Form.ROLE,
            Role.DELEGATE,
            "hands SES the role that may write to your Data Firehose stream",
            {"StringEquals": {"iam:PassedToService": "ses.amazonaws.com"}},
        )
        for name in ("CreateConfigurationSetEventDestination", "UpdateConfigurationSetEventDestination")
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
    # A send is checked on the identity, which is an owner's, and on the configuration set. ForAllValues also holds
    # where the key is missing or empty: the Null guard demands that it is there (IAM User Guide,
    # reference_policies_condition-single-vs-multi-valued-context-keys).
    *(
        Permission(
            "SendEmail",
            "ses:SendEmail",
            form,
            Role.DELEGATE,
            "sends a test to the mailbox simulator, and to nobody else, before an old route is removed",
            {
                "ForAllValues:StringEquals": {"ses:Recipients": list(SIMULATOR)},
                "Null": {"ses:Recipients": "false"},
            },
            optional=True,
        )
        for form in (Form.IDENTITY, Form.CONFIGURATION_SET)
    ),
)

_SERVICES = {Form.IDENTITY: "ses:*", Form.CONFIGURATION_SET: "ses:*", Form.TOPIC: "sns:*", Form.ROLE: "iam:"}
_RESOURCES = {
    Form.IDENTITY: "identity/*",
    Form.CONFIGURATION_SET: f"configuration-set/{PREFIX}*",
    Form.TOPIC: f"{PREFIX}*",
    Form.ROLE: f"role/{PREFIX}*",
}


def rights(role: Role) -> tuple[Permission, ...]:
    """The rows of one role."""
    return tuple(row for row in TABLE if row.role is role)


def unscoped(role: Role) -> tuple[Permission, ...]:
    """Rights that AWS cannot limit to a resource: owners are told of these before they agree."""
    return tuple(row for row in rights(role) if row.form is Form.ANY)


def role_policy(role: Role, account_id: str, partition: str) -> dict[str, Any]:
    """The policy of the tenant's role: each action once, limited to the account's resources where that is possible."""
    statements = [
        _statement(group, [_resource(group[0].form, role, account_id, partition)]) for group in _groups(rights(role))
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

    Of an operation's rows those count that one of the ARNs fits: no role is passed where none is named. Raises
    ValueError for an operation that is not in the table, or that has none of the ARNs.
    """
    rows = [row for operation in operations for row in _rows(operation, resources)]
    statements = []
    for group in _groups(rows):
        form = group[0].form
        named = ["*"] if form is Form.ANY else [arn for arn in resources if _form_of(arn) is form]
        statements.append(_statement(group, named))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _rows(operation: str, resources: Sequence[str]) -> list[Permission]:
    rows = [row for row in TABLE if row.operation == operation]
    if not rows:
        raise ValueError(f"{operation} is not in the table of permissions.")
    forms = {Form.ANY, *(_form_of(arn) for arn in resources)}
    fitting = [row for row in rows if row.form in forms]
    if not fitting:
        raise ValueError(f"No resource is of the form {rows[0].form} among {list(resources)}.")
    return fitting


def _groups(rows: Iterable[Permission]) -> list[list[Permission]]:
    """The rows that make one statement: of one form and under one condition."""
    found: dict[tuple[int, str], list[Permission]] = {}
    for row in rows:
        condition = json.dumps(row.condition, sort_keys=True) if row.condition else ""
        found.setdefault((list(Form).index(row.form), condition), []).append(row)
    return [found[key] for key in sorted(found)]


def _statement(rows: Sequence[Permission], resources: Sequence[str]) -> dict[str, Any]:
    form, condition = rows[0].form, rows[0].condition
    sid = "Account" if form is Form.ANY else "".join(word.title() for word in form.split("-"))
    keys = sorted({key for each in (condition or {}).values() for key in each})
    statement = {
        "Sid": sid + re.sub("[^A-Za-z]", "", "".join(keys).title()),
        "Effect": "Allow",
        "Action": sorted({row.action for row in rows}),
        "Resource": resources[0] if len(resources) == 1 else list(resources),
    }
    return statement | ({"Condition": condition} if condition else {})


def _resource(form: Form, role: Role, account_id: str, partition: str) -> str:
    if form is Form.ANY:
        return "*"
    # An owner's topics are its own and have names of its own. The identities that a delegate deals with are owners',
    # and which ones is known only once there is a grant.
    named = "*" if (form, role) == (Form.TOPIC, Role.OWNER) else _RESOURCES[form]
    account = "*" if (form, role) == (Form.IDENTITY, Role.DELEGATE) else account_id
    return f"arn:{partition}:{_SERVICES[form]}:{account}:{named}"


def _form_of(arn: str) -> Form:
    service, resource = arn.split(":", 5)[2::3] if arn.count(":") >= 5 else ("", "")
    if service == "sns":
        return Form.TOPIC
    kind = resource.partition("/")[0]
    return next((form for form in (Form.IDENTITY, Form.CONFIGURATION_SET, Form.ROLE) if form == kind), Form.ANY)
