"""The calls that send mail: what SES checks each against, and which ARNs each takes."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from broker.policies.terms import Action


class Call(StrEnum):
    """One way of handing SES a mail; version 2's SendEmail counts by its content."""

    v1_send_email = "v1_send_email"
    v1_send_raw_email = "v1_send_raw_email"
    v1_send_templated_email = "v1_send_templated_email"
    v1_send_bulk_templated_email = "v1_send_bulk_templated_email"
    v2_send_email_simple = "v2_send_email_simple"
    v2_send_email_raw = "v2_send_email_raw"
    v2_send_email_template = "v2_send_email_template"
    v2_send_bulk_email = "v2_send_bulk_email"
    smtp = "smtp"


class Facts(msgspec.Struct, frozen=True):
    """`title` names the call, `actions` are what SES checks (all of them), `arns` the parameters that name identities.

    `term` is the action of the terms that permits the call.
    """

    title: str
    term: Action
    actions: tuple[str, ...]
    arns: tuple[str, ...]


_V1, _V2 = ("SourceArn", "ReturnPathArn"), ("FromEmailAddressIdentityArn", "FeedbackForwardingEmailAddressIdentityArn")
_RAW = ("SourceArn", "FromArn", "ReturnPathArn")
_HEADERS = ("X-SES-SOURCE-ARN", "X-SES-FROM-ARN", "X-SES-RETURN-PATH-ARN")

# Version 1 checks the action of the call's own name, SMTP ses:SendRawEmail (SES Developer Guide, control-user-access).
# What version 2 checks is known from users: raw content ses:SendRawEmail (nodemailer#1734, django-anymail#384), a
# template ses:SendTemplatedEmail, SendBulkEmail both (django-anymail's SES page).
CALLS: Mapping[Call, Facts] = MappingProxyType(
    {
        Call.v1_send_email: Facts("SendEmail (API v1)", Action.send, ("ses:SendEmail",), _V1),
        Call.v1_send_raw_email: Facts("SendRawEmail (API v1)", Action.send_raw, ("ses:SendRawEmail",), _RAW),
        Call.v1_send_templated_email: Facts(
            "SendTemplatedEmail (API v1)", Action.send_templated, ("ses:SendTemplatedEmail",), _V1
        ),
        Call.v1_send_bulk_templated_email: Facts(
            "SendBulkTemplatedEmail (API v1)", Action.send_bulk, ("ses:SendBulkTemplatedEmail",), _V1
        ),
        Call.v2_send_email_simple: Facts("SendEmail (API v2), Simple", Action.send, ("ses:SendEmail",), _V2),
        Call.v2_send_email_raw: Facts("SendEmail (API v2), Raw", Action.send_raw, ("ses:SendRawEmail",), _V2),
        Call.v2_send_email_template: Facts(
            "SendEmail (API v2), Template", Action.send_templated, ("ses:SendTemplatedEmail",), _V2
        ),
        Call.v2_send_bulk_email: Facts(
            "SendBulkEmail (API v2)", Action.send_bulk, ("ses:SendBulkTemplatedEmail", "ses:SendBulkEmail"), _V2
        ),
        Call.smtp: Facts("SMTP", Action.send_raw, ("ses:SendRawEmail",), _HEADERS),
    }
)


def calls_of(action: str) -> list[str]:
    """The titles of the calls that are checked against an IAM action."""
    return [facts.title for facts in CALLS.values() if action.lower() in {name.lower() for name in facts.actions}]


def term_of(action: str) -> Action | None:
    """The action of the terms that permits an IAM action; None where none does (SendBounce, say)."""
    for facts in CALLS.values():
        if action.lower() in {name.lower() for name in facts.actions}:
            return facts.term
    return None
