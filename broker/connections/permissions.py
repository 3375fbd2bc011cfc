"""The one table of what we do in tenants' accounts; the roles' documents (`role_documents`) are made from it."""

from collections.abc import Mapping
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
    is verified all the same, and what needs it says so where it is wanted. `by_hand`: no template has it, a tenant adds
    it for a feature that it switches on.
    """

    operation: str
    action: str
    form: Form
    role: Role
    purpose: str
    condition: Mapping[str, Mapping[str, Any]] | None = None
    optional: bool = False
    by_hand: bool = False


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
    Permission(
        "PutSuppressedDestination",
        "ses:PutSuppressedDestination",
        Form.ANY,
        Role.DELEGATE,
        "puts complaints and hard bounces into the account's own suppression list, where that is switched on",
        by_hand=True,
    ),
)


def rights(role: Role) -> tuple[Permission, ...]:
    """The rows of one role that its template has."""
    return tuple(row for row in TABLE if row.role is role and not row.by_hand)


def unscoped(role: Role) -> tuple[Permission, ...]:
    """Rights that AWS cannot limit to a resource: owners are told of these before they agree."""
    return tuple(row for row in rights(role) if row.form is Form.ANY)
